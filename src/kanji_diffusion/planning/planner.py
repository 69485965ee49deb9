"""From a prompt to the composition of a kanji: an existing one for a meaning that has a kanji, else a new one."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path

import pandas as pd

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.compositions import Compositions, is_ids, is_parts
from kanji_diffusion.glyphs.kanjivg import LAYOUTS, Composition
from kanji_diffusion.planning.characters import CharacterMeanings
from kanji_diffusion.planning.components import MEANINGS, SemanticComponents, common_components, component_meanings
from kanji_diffusion.planning.layouts import SeenLayouts
from kanji_diffusion.planning.meanings import Meanings
from kanji_diffusion.planning.plan import Plan, Source, describe_briefly
from kanji_diffusion.planning.proposals import Proposer
from kanji_diffusion.planning.words import concise

_TABLES = ("compositions", "component_names", "dictionary", "words")
_SETTINGS, _FORMAT = "planner.json", 1


class Planner:
    """Plans compositions for prompts.

    Args:
        compositions: What `composition_table` returned.
        component_names: What `name_components` returned.
        dictionary: Rows with character, code_point, frequency, grade, meanings, variants, and trained.
        words: What `words.concise` returned.
        meanings: Vectors of the meanings of these tables.
    """

    def __init__(
        self,
        compositions: pd.DataFrame,
        component_names: pd.DataFrame,
        dictionary: pd.DataFrame,
        words: pd.DataFrame,
        meanings: Meanings,
    ) -> None:
        self.tables = dict(zip(_TABLES, (compositions, component_names, dictionary, words), strict=True))
        self.meanings = meanings
        self.compositions = Compositions(compositions, component_names)
        self._characters = CharacterMeanings(dictionary)
        self._proposer = Proposer(
            self.compositions, compositions, component_names, dictionary, words, self._characters, meanings
        )

    @classmethod
    def build(
        cls,
        compositions: pd.DataFrame,
        component_names: pd.DataFrame,
        dictionary: pd.DataFrame,
        words: pd.DataFrame,
        trained: Collection[str] = (),
    ) -> Planner:
        """A planner from the whole tables.

        Args:
            compositions: What `composition_table` returned.
            component_names: What `name_components` returned.
            dictionary: What `read_kanjidic2` returned.
            words: What `read_edict` returned.
            trained: Characters whose captions a model was trained on; a meaning of several characters belongs to one of
                these first.
        """
        known = dictionary[dictionary["character"].isin(set(compositions["character"]))]
        known = known[known["meanings"].map(len) > 0].reset_index(drop=True)
        columns = ["character", "code_point", "frequency", "grade", "meanings", "variants"]
        known = known[columns].assign(trained=known["character"].isin(set(trained)))
        # Plans do not depend on stroke order and phonetic components.
        lean = compositions[["character", "radical", "tree"]]
        kept = concise(words, set(known["character"]))
        return cls(lean, component_names, known, kept, Meanings.of(_vector_texts(lean, component_names, known)))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the tables as Parquet, the vectors as safetensors, and the format's number."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        for name, table in self.tables.items():
            table.to_parquet(target / f"{name}.parquet", compression="zstd", compression_level=19, index=False)
        self.meanings.save(target)
        (target / _SETTINGS).write_text(json.dumps({"format": _FORMAT}), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Planner:
        """Read what `save_pretrained` wrote.

        Raises:
            KanjiDiffusionError: If a file is missing or damaged, or of another format.
        """
        source = Path(folder)
        try:
            if json.loads((source / _SETTINGS).read_text(encoding="utf-8")).get("format") != _FORMAT:
                raise ValueError("another version of this project wrote it")
            tables = [pd.read_parquet(source / f"{name}.parquet") for name in _TABLES]
            compositions, names, dictionary, words = tables
            meanings = Meanings.load(source, _vector_texts(compositions, names, dictionary))
            return cls(compositions, names, dictionary, words, meanings)
        except (OSError, ValueError, KeyError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise KanjiDiffusionError(
                f"The planner in {source} cannot be read ({reason}): make it anew with "
                "`kedro run --pipeline=render_glyphs`, or bring the model's folder back."
            ) from error

    def plan(self, prompt: str, count: int = 1) -> list[Plan]:
        """Plans for a prompt, the best first, no two of the same parts.

        Args:
            prompt: A meaning, a kanji, several kanji to be put together, an ideographic description sequence, parts in
                words, or a meaning and parts as in captions ("sea: left water, right every").
            count: At most so many; a prompt that describes the composition has one plan.

        Raises:
            KanjiDiffusionError: If the prompt names an unknown part or an impossible layout.
        """
        asked = " ".join(prompt.split())
        meaning, described = (part.strip() for part in asked.partition(":")[::2])
        if meaning and (is_ids(described) or is_parts(described)):
            (plan,) = self.plan(described)
            given = self._given(meaning, plan.composition, plan.source)
            return [replace(given, asked=asked, subject=f"{meaning}: {plan.subject}")]
        if is_ids(asked):
            return [self._given(asked, self.compositions.read_ids(asked), "ids")]
        if is_parts(asked) or self._is_slot_alone(asked.partition(",")[0]):
            return [self._given(asked, self.compositions.read_parts(asked), "parts")]
        character = (
            asked if asked in self.compositions and len(asked) == 1 else self._characters.owners.get(asked.lower())
        )
        if character:
            return [self._looked_up(asked, character)]
        if _is_kanji(asked):
            return self.combine(list(asked), count)
        return self.propose(asked, count)

    def combine(self, parts: Sequence[str], count: int = 1) -> list[Plan]:
        """Put parts together in the layouts that suit them, the best first.

        Args:
            parts: Two or three, each a character, a name or a meaning of a component.
            count: At most so many.

        Raises:
            KanjiDiffusionError: If a part is unknown, or there are fewer or more.
        """
        asked = "".join(parts) if all(len(part) == 1 for part in parts) else ", ".join(parts)
        if len(parts) not in (2, 3):
            raise KanjiDiffusionError(
                f"The parts '{asked}' are {len(parts)}: give two or three, such as 魚雷 or a list of their names."
            )
        bases = [self._known(part) for part in parts]
        made = islice(self.layouts.arrangements(bases, new=False), count)
        return [replace(self._given(asked, composition, "parts"), score=round(fit, 3)) for fit, composition in made]

    def propose(self, meaning: str, count: int = 1, hidden: Collection[str] = ()) -> list[Plan]:
        """Compositions for a meaning that has no kanji.

        Args:
            meaning: In English.
            count: At most so many.
            hidden: Characters that count as unknown, also in words; for evaluation.
        """
        return self._proposer.propose(meaning, count, hidden)

    @property
    def layouts(self) -> SeenLayouts:
        """The slots in which components stand in real characters."""
        return self._proposer.layouts

    @property
    def semantic(self) -> SemanticComponents:
        """Components that suit a meaning because kanji of similar meanings have them."""
        return self._proposer.semantic

    def _is_slot_alone(self, asked: str) -> bool:
        """Whether the prompt is parts of which one is missing, as "left fish" is; "left hand" is a meaning."""
        slots = sorted({slot for slots in LAYOUTS.values() for slot in slots}, key=len, reverse=True)
        slot = next((slot for slot in slots if asked.lower().startswith(f"{slot} ")), None)
        if not slot or asked.lower() in self._characters.owners or self._proposer.words.of(asked):
            return False
        return asked[len(slot) :].strip().lower() in self._names

    @cached_property
    def _names(self) -> set[str]:
        return {name.lower() for name in self.compositions.names.values()}

    def _known(self, part: str) -> str:
        found = self.compositions.find(part.strip())
        # `read_parts` raises the error for an unknown part.
        return found if found else self.compositions.read_parts(f"whole {part.strip()}").base or part

    def _looked_up(self, asked: str, character: str) -> Plan:
        """The plan of a character that exists."""
        composition = self.compositions.of(character)
        meaning = asked if asked != character else next(iter(self._characters.of(character)), None)
        words = self.compositions.describe(composition)
        subject = f"{meaning}: {words}" if meaning else words
        label = f"{meaning or asked} = {words}"
        reason = f"{label} ({character})"
        return Plan(asked, subject, composition, composition.ids, character, "character", reason, 1.0, label)

    def _given(self, asked: str, composition: Composition, source: Source) -> Plan:
        """The plan of a composition that the prompt describes."""
        character = composition.base if composition.base else self._existing.get(composition.key())
        words = describe_briefly(self.compositions, composition)
        equation = f"{asked} = {words}"
        reason = f"{equation}, which is {character}" if character else equation
        # The font of image grids has no kanji.
        label = equation if asked.isascii() else words
        subject = self.compositions.describe(composition)
        return Plan(asked, subject, composition, composition.ids, character, source, reason, 1.0, label)

    @cached_property
    def _existing(self) -> dict[object, str]:
        """Key of a composition -> the character that has it."""
        known: dict[object, str] = {}
        for character in reversed(self.compositions.characters()):
            composition = self.compositions.of(character)
            if composition.layout:
                known[composition.key()] = character
        return known


def _vector_texts(compositions: pd.DataFrame, component_names: pd.DataFrame, dictionary: pd.DataFrame) -> set[str]:
    """The meanings whose vectors a planner keeps."""
    known = Compositions(compositions, component_names)
    texts = {text.lower() for meanings in dictionary["meanings"] for text in list(meanings)[:MEANINGS]}
    return texts.union(*(component_meanings(known, each) for each in common_components(known)))


def split_parts(text: str) -> list[str]:
    """The parts that a text names: each character of kanji, or what is between commas or plus signs."""
    stripped = text.strip()
    return list(stripped) if _is_kanji(stripped) else [part.strip() for part in re.split(r"[,+]", stripped)]


def _is_kanji(text: str) -> bool:
    return len(text) > 1 and all("\u3400" <= symbol <= "\u9fff" or symbol >= "\U00020000" for symbol in text)
