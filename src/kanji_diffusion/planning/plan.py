"""A plan: the composition that is drawn for a prompt, and where it comes from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.kanjivg import Composition

Source = Literal["character", "ids", "parts", "word", "similarity"]

_JOINED_BY = {"⿰": "beside", "⿱": "over"}


@dataclass(frozen=True)
class Plan:
    """What is drawn for a prompt.

    Attributes:
        asked: The prompt.
        subject: What goes into the caption: "sea: left water, right every" for a meaning that has a kanji, the
            composition alone for a meaning without a kanji and for parts.
        composition: How the kanji is built.
        ids: The composition as an ideographic description sequence; the character itself if it has no parts.
        character: The existing character of this composition; None for an invention.
        source: What the composition was taken from: a character of that meaning, the description or the parts in the
            prompt, a Japanese word, or similar meanings.
        reason: One line for people, such as "koala = bag over bear, from 袋熊 (bag, bear)".
        score: How well the plan suits the prompt, to sort several plans; 1 if there was no choice.
        label: The reason without its second half, in ASCII letters.
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
        """All attributes except the tree of the composition, which `ids` describes."""
        return json.dumps({name: value for name, value in asdict(self).items() if name != "composition"})

    @classmethod
    def from_json(cls, text: str, compositions: Compositions) -> Plan:
        """Read what `to_json` wrote.

        Raises:
            KanjiDiffusionError: If a part is unknown to `compositions`.
        """
        values = json.loads(text)
        character = values["character"]
        composition = compositions.of(character) if character else compositions.read_ids(values["ids"])
        return cls(composition=composition, **values)


def describe_briefly(compositions: Compositions, composition: Composition) -> str:
    """Such as "bag over bear"; a part without a name is described by its own parts, in parentheses."""
    names = compositions.names
    if not composition.layout:
        return names.get(composition.base or "", composition.base or "?")
    joint = f" {_JOINED_BY.get(composition.layout, 'around')} "
    return joint.join(
        names.get(part.base, part.base) if part.base else f"({describe_briefly(compositions, part)})"
        for part in composition.parts
    )
