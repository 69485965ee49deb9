"""From a prompt to the composition of a kanji: looked up for a meaning that has one, planned for one that has none."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import combinations, islice, product
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.compositions import Compositions, is_ids, is_parts
from kanji_diffusion.glyphs.kanjivg import LAYOUTS, Composition
from kanji_diffusion.planning.components import MEANINGS, ComponentMeanings, SemanticComponents, component_meanings
from kanji_diffusion.planning.layouts import MOST_STROKES, SeenLayouts
from kanji_diffusion.planning.meanings import Meanings
from kanji_diffusion.planning.words import Word, WordIndex, concise, kanji_of

Source = Literal["character", "ids", "parts", "word", "similarity"]

_TABLES = ("compositions", "component_names", "dictionary", "words")
_SETTINGS, _FORMAT = "planner.json", 1
_JOINED_BY = {"⿰": "beside", "⿱": "over"}

# Proposals: how much counts what. Tuned on evaluation/invented_meanings.txt, by looking at the plans.
_WORD, _COMMON, _RARE, _LATER_GLOSS, _LATER_SENSE, _NARROW = 0.6, 0.2, -0.1, -0.1, -0.1, -0.25
_SHARED_MEANING, _FIT, _STROKE = 0.8, 0.06, -0.03
_LIGHT = 18
# A word of which no kanji is nearer than this to its gloss means something else by it (rocket: 黄花清白, a flower).
_LEAST_SHARED = 0.28
_IN_PLACE, _UNLIKE, _NESTED, _SELDOM, _HEAD = -0.1, -0.6, -0.2, -0.05, 0.06
_ALIKE = 0.6
_SEMANTIC, _FIRST, _SECOND = 0.06, 0.3, 0.5
_EARLY = 1
_FEWEST_CHARACTERS = 3
_FEWEST_STROKES = 2
_SEMANTIC_TRIED, _SECOND_TRIED, _ARRANGED = 8, 12, 2
_MOST_ALIKE = 2
_EMPTY_WORDS = {"a", "an", "the", "of", "and", "in", "on", "to", "for", "with", "from"}


@dataclass(frozen=True)
class Plan:
    """What is to be drawn for a prompt.

    Attributes:
        asked: The prompt.
        subject: What goes into the caption: "sea: left water, right every" for a meaning that has a kanji, the
            composition alone for one that has none and for parts.
        composition: How the kanji is built.
        ids: The same as an ideographic description sequence; the character itself if it is not composed.
        character: The existing character that this is; None for an invention.
        source: What the composition was taken from: a character of that meaning, the description or the parts that
            were asked for, a Japanese word, or similar meanings.
        reason: One line for people, such as "koala = bag over bear, from 袋熊 (bag, bear)".
        score: How well the plan suits the prompt, to put several in order; 1 where there was nothing to choose.
        label: The reason without its second half, in plain letters.
    """

    asked: str
    subject: str
    composition: Composition
    ids: str
    character: str | None
    source: Source
    reason: str
    score: float
    label: str

    def to_json(self) -> str:
        """All of it but the tree of the composition, which `ids` tells."""
        return json.dumps({name: value for name, value in asdict(self).items() if name != "composition"})

    @classmethod
    def from_json(cls, text: str, compositions: Compositions) -> Plan:
        """What `to_json` wrote.

        Raises:
            KanjiDiffusionError: If `compositions` do not know its parts.
        """
        values = json.loads(text)
        character = values["character"]
        composition = compositions.of(character) if character else compositions.read_ids(values["ids"])
        return cls(composition=composition, **values)


class _Part(NamedTuple):
    """A component that stands for a kanji of a word."""

    component: str
    meaning: str
    penalty: float


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
        self._told = dict(zip(dictionary["character"], map(list, dictionary["meanings"]), strict=True))
        plain = component_names[component_names["source"].isin(["meaning", "radical"])]
        self._plain = set(plain["component"])

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
            trained: Characters whose captions a model has learnt by meaning; of several that have a meaning, these
                come first.
        """
        known = dictionary[dictionary["character"].isin(set(compositions["character"]))]
        known = known[known["meanings"].map(len) > 0].reset_index(drop=True)
        columns = ["character", "code_point", "frequency", "grade", "meanings", "variants"]
        known = known[columns].assign(trained=known["character"].isin(set(trained)))
        # The order of writing and the phonetic play no part in a plan.
        lean = compositions[["character", "radical", "tree"]]
        kept = concise(words, set(known["character"]))
        return cls(lean, component_names, known, kept, Meanings.of(_told(lean, component_names, known)))

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
        """What `save_pretrained` wrote.

        Raises:
            KanjiDiffusionError: If it is not whole, or of another format.
        """
        source = Path(folder)
        try:
            if json.loads((source / _SETTINGS).read_text(encoding="utf-8")).get("format") != _FORMAT:
                raise ValueError("another version of this project wrote it")
            tables = [pd.read_parquet(source / f"{name}.parquet") for name in _TABLES]
            compositions, names, dictionary, words = tables
            meanings = Meanings.load(source, _told(compositions, names, dictionary))
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
            count: At most so many; a prompt that says what is to be drawn has one plan.

        Raises:
            KanjiDiffusionError: If the prompt names an unknown part or an impossible layout.
        """
        asked = " ".join(prompt.split())
        meaning, told = (part.strip() for part in asked.partition(":")[::2])
        if meaning and (is_ids(told) or is_parts(told)):
            (plan,) = self.plan(told)
            given = self._given(meaning, plan.composition, plan.source)
            return [replace(given, asked=asked, subject=f"{meaning}: {plan.subject}")]
        if is_ids(asked):
            return [self._given(asked, self.compositions.read_ids(asked), "ids")]
        if is_parts(asked) or self._is_slot_alone(asked):
            return [self._given(asked, self.compositions.read_parts(asked), "parts")]
        character = asked if asked in self.compositions and len(asked) == 1 else self._owners.get(asked.lower())
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
            hidden: Characters that count as unknown, in words too; for measurements.
        """
        vector = self.meanings.vectors([meaning])[0]
        found = [*self._by_words(meaning, vector, hidden), *self._by_similarity(meaning, vector, hidden)]
        found.sort(key=lambda plan: -plan.score)
        return list(islice(_distinct(found), count))

    @cached_property
    def layouts(self) -> SeenLayouts:
        """In which slots components stand."""
        return SeenLayouts(self.compositions)

    @cached_property
    def semantic(self) -> SemanticComponents:
        """Which components suit a meaning, as the kanji of similar meanings have them."""
        dictionary, table = self.tables["dictionary"], self.tables["compositions"]
        return SemanticComponents(self.compositions, table, dictionary, self.meanings)

    @cached_property
    def _words(self) -> WordIndex:
        return WordIndex(self.tables["words"])

    @cached_property
    def _second(self) -> ComponentMeanings:
        """Components that can be the other part: with a name that tells what they mean."""
        often = [each for each, uses in self.compositions.uses.items() if uses >= _FEWEST_CHARACTERS]
        return ComponentMeanings(self.compositions, [each for each in often if self._is_usable(each)], self.meanings)

    @cached_property
    def _owners(self) -> dict[str, str]:
        """Meaning -> the character that it means, by the rule of the captions, trained characters first."""
        claims: dict[str, tuple[Any, ...]] = {}
        dictionary = self.tables["dictionary"]
        frequency = dictionary["frequency"].astype("Float64").fillna(float("inf"))
        columns = (dictionary["trained"], frequency, dictionary["code_point"], dictionary["character"])
        for trained, rank, code_point, character in zip(*columns, strict=True):
            for position, meaning in enumerate(self._told[character]):
                claim = (not trained, position, rank, code_point, character)
                claims[meaning.lower()] = min(claims.get(meaning.lower(), claim), claim)
        return {meaning: claim[-1] for meaning, claim in claims.items()}

    def _is_slot_alone(self, asked: str) -> bool:
        """Whether the prompt is parts of which one is lacking, as "left fish" is; "left hand" is a meaning."""
        slots = sorted({slot for slots in LAYOUTS.values() for slot in slots}, key=len, reverse=True)
        slot = next((slot for slot in slots if asked.lower().startswith(f"{slot} ")), None)
        if not slot or asked.lower() in self._owners or self._words.of(asked):
            return False
        return asked[len(slot) :].strip().lower() in self._names

    @cached_property
    def _names(self) -> set[str]:
        return {name.lower() for name in self.compositions.names.values()}

    def _known(self, part: str) -> str:
        found = self.compositions.find(part.strip())
        # The reader of parts has a sentence for what is unknown.
        return found if found else self.compositions.read_parts(f"whole {part.strip()}").base or part

    def _looked_up(self, asked: str, character: str) -> Plan:
        composition = self.compositions.of(character)
        meaning = asked if asked != character else next(iter(self._told.get(character, ())), None)
        words = self.compositions.describe(composition)
        subject = f"{meaning}: {words}" if meaning else words
        label = f"{meaning or asked} = {words}"
        reason = f"{label} ({character})"
        return Plan(asked, subject, composition, composition.ids, character, "character", reason, 1.0, label)

    def _given(self, asked: str, composition: Composition, source: Source) -> Plan:
        character = composition.base if composition.base else self._existing.get(composition.key())
        words = self._in_words(composition)
        told = f"{asked} = {words}"
        reason = f"{told}, which is {character}" if character else told
        # The font of image grids has no kanji.
        label = told if asked.isascii() else words
        return self._plan(asked, composition, source, reason, label, 1.0, character)

    @cached_property
    def _existing(self) -> dict[object, str]:
        known: dict[object, str] = {}
        for character in reversed(self.compositions.characters()):
            composition = self.compositions.of(character)
            if composition.layout:
                known[composition.key()] = character
        return known

    def _plan(
        self,
        asked: str,
        composition: Composition,
        source: Source,
        reason: str,
        label: str,
        score: float,
        character: str | None = None,
    ) -> Plan:
        subject = self.compositions.describe(composition)
        return Plan(asked, subject, composition, composition.ids, character, source, reason, round(score, 3), label)

    def _in_words(self, composition: Composition) -> str:
        """Such as "bag over bear"; a part without a name is told by its parts, in parentheses."""
        if not composition.layout:
            return self.compositions.names.get(composition.base or "", composition.base or "?")
        joint = f" {_JOINED_BY.get(composition.layout, 'around')} "
        return joint.join(
            self.compositions.names.get(part.base, part.base) if part.base else f"({self._in_words(part)})"
            for part in composition.parts
        )

    def _by_words(self, meaning: str, vector: np.ndarray, hidden: Collection[str]) -> Iterator[Plan]:
        """From the kanji of Japanese words of this meaning, and from the words of the prompt themselves."""
        for word in self._words.of(meaning):
            kanji = kanji_of(word.word)
            if not set(kanji) & set(hidden):
                yield from self._of_kanji(meaning, vector, kanji, self._worth(word), word.word)
        content = [word for word in meaning.lower().split() if word not in _EMPTY_WORDS]
        if len(content) > 1:
            owners = [owner for word in content if (owner := self._plain_owner(word)) and owner not in hidden]
            if len(owners) > 1:
                yield from self._of_kanji(meaning, vector, owners, _WORD + _COMMON, None)

    @staticmethod
    def _worth(word: Word) -> float:
        marked = _COMMON * word.common + _RARE * word.rare + _NARROW * (word.narrow and not word.common)
        return _WORD + marked + _LATER_GLOSS * word.rank + _LATER_SENSE * (not word.first)

    def _of_kanji(
        self, meaning: str, vector: np.ndarray, kanji: Sequence[str], worth: float, word: str | None
    ) -> Iterator[Plan]:
        """Plans of two kanji of a word, if these are near its meaning; the last one tells what kind of thing it is."""
        shared = [self._shared(vector, symbol) for symbol in kanji]
        if word and max(shared) < _LEAST_SHARED:
            return
        for first, second in combinations(range(len(kanji)), 2):
            if kanji[first] == kanji[second]:
                continue
            told = (shared[first] + shared[second]) / 2 + _HEAD * (second == len(kanji) - 1)
            for one, other in product(self._parts(kanji[first]), self._parts(kanji[second])):
                if one.component == other.component:
                    continue
                merit = worth + _SHARED_MEANING * told + one.penalty + other.penalty
                said = ", ".join(dict.fromkeys((one.meaning, other.meaning)))
                source = f"from {word} ({said})" if word else f"from {kanji[first]}, {kanji[second]} ({said})"
                yield from self._arranged(meaning, (one.component, other.component), "word", source, merit)

    def _shared(self, vector: np.ndarray, character: str) -> float:
        told = self._told.get(character, [])[:MEANINGS]
        return float((self.meanings.vectors(told) @ vector).max()) if told else 0.0

    def _plain_owner(self, word: str) -> str | None:
        """The character that means this in the first place."""
        owner = self._owners.get(word)
        first = [meaning.lower() for meaning in self._told[owner][: _EARLY + 1]] if owner else []
        return owner if word in first else None

    def _parts(self, character: str) -> list[_Part]:
        """The components that can stand for a kanji: itself, or a part of it that means something like it."""
        meaning = self._told[character][0]
        composition = self.compositions.of(character)
        uses, strokes = self.compositions.uses.get(character, 0), len(composition.strokes)
        found = []
        if uses and strokes <= MOST_STROKES:
            found.append(_Part(character, meaning, _SELDOM * (uses < _FEWEST_CHARACTERS)))
        elif composition.layout and strokes <= MOST_STROKES - 1:
            found.append(_Part(character, meaning, _NESTED))
        for part in composition.components():
            if part.base and part.base != character and self._is_usable(part.base):
                unlike = max(0.0, _ALIKE - self._similarity(character, part.base))
                found.append(_Part(part.base, meaning, _IN_PLACE + _UNLIKE * unlike))
        return found

    def _similarity(self, character: str, component: str) -> float:
        told = self.meanings.vectors([text.lower() for text in self._told[character][:MEANINGS]])
        parts = self.meanings.vectors(component_meanings(self.compositions, component))
        return float((told @ parts.T).max())

    def _by_similarity(self, meaning: str, vector: np.ndarray, hidden: Collection[str]) -> Iterator[Plan]:
        """From the components that kanji of similar meanings have, and those that mean something similar themselves."""
        logits, own = self.semantic.score(vector, hidden), self.semantic.similarity(vector)
        first = [row for row in np.argsort(-logits) if self._is_usable(self.semantic.components[row])]
        similar = self._second.similarity(vector)
        second = [row for row in np.argsort(-similar) if self._second.components[row] not in hidden]
        for one, other in product(first[:_SEMANTIC_TRIED], second[:_SECOND_TRIED]):
            pair = (self.semantic.components[one], self._second.components[other])
            if pair[0] != pair[1]:
                merit = _SEMANTIC * (logits[one] - logits[first[0]])
                merit += _FIRST * own[one] + _SECOND * float(similar[other])
                yield from self._arranged(meaning, pair, "similarity", "by similar meanings", merit)

    def _arranged(self, meaning: str, parts: tuple[str, str], source: Source, why: str, merit: float) -> Iterator[Plan]:
        strokes = sum(len(self.compositions.of(part).strokes) for part in parts)
        merit += _STROKE * max(0, strokes - _LIGHT)
        for fit, composition in islice(self.layouts.arrangements(parts), _ARRANGED):
            label = f"{meaning} = {self._in_words(composition)}"
            yield self._plan(meaning, composition, source, f"{label}, {why}", label, merit + _FIT * fit)

    def _is_usable(self, component: str) -> bool:
        strokes = len(self.compositions.of(component).strokes)
        return component in self._plain and _FEWEST_STROKES <= strokes <= MOST_STROKES


def _told(compositions: pd.DataFrame, component_names: pd.DataFrame, dictionary: pd.DataFrame) -> set[str]:
    """The meanings of which a planner keeps the vectors."""
    known = Compositions(compositions, component_names)
    texts = {text.lower() for meanings in dictionary["meanings"] for text in list(meanings)[:MEANINGS]}
    often = (each for each, uses in known.uses.items() if uses >= _FEWEST_CHARACTERS)
    return texts.union(*(component_meanings(known, each) for each in often))


def _distinct(plans: Iterable[Plan]) -> Iterator[Plan]:
    """Plans of different parts, no component in more than some of them."""
    seen: set[frozenset[str]] = set()
    times: dict[str, int] = {}
    for plan in plans:
        parts = frozenset(part.base or "" for part in plan.composition.components())
        if parts in seen or any(times.get(part, 0) >= _MOST_ALIKE for part in parts):
            continue
        seen.add(parts)
        times |= {part: times.get(part, 0) + 1 for part in parts}
        yield plan


def split_parts(text: str) -> list[str]:
    """The parts that a text names: each character of kanji, or what is between commas or plus signs."""
    stripped = text.strip()
    return list(stripped) if _is_kanji(stripped) else [part.strip() for part in re.split(r"[,+]", stripped)]


def _is_kanji(text: str) -> bool:
    return len(text) > 1 and all("\u3400" <= symbol <= "\u9fff" or symbol >= "\U00020000" for symbol in text)
