"""Names of components: one plain English name for each character, by which captions tell it as a part."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, count
from typing import Literal

import pandas as pd

from kanji_diffusion.glyphs.compositions import SLOT
from kanji_diffusion.glyphs.kanjivg import Composition

_JOINED_BY = {"⿰": "beside", "⿱": "over"}
_ORDINALS = ("second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")

Source = Literal["meaning", "radical", "ordinal", "parts", "itself"]


def name_components(drawn: Mapping[str, Composition], dictionary: pd.DataFrame) -> pd.DataFrame:
    """Give every character one plain English name that no other has, so that each can be a component.

    Those that stand in many characters are named first. A name is the first that is free: the meanings in the order of
    KANJIDIC2; the name of the radical that it is there ("old bird"); with all of these taken, the first meaning with
    an ordinal ("second bird"). What has no meaning is called by its parts ("fire over crown"), and what is not composed
    either by itself.

    Args:
        drawn: What `kanjivg.read_kanjivg` returned.
        dictionary: What `dictionary.read_kanjidic2` returned.

    Returns:
        One row per character, those in many characters first: component, name, source (how it was named), characters
        (how many it stands in, 0 if it stands alone only), forms (its variants, such as 氵 of 水), meanings.
    """
    uses = Counter(part.base for each in drawn.values() for part in each.components() if part.base)
    forms: dict[str, dict[str, None]] = {}
    for each in drawn.values():
        for part in each.components():
            if part.base and part.form and part.form != part.base:
                forms.setdefault(part.base, {})[part.form] = None
    known = dictionary.set_index("character")
    words = {
        column: {key: list(each) for key, each in known[column].items()} for column in ("meanings", "radical_names")
    }
    rank = known["frequency"].astype("Float64").fillna(float("inf")).to_dict()
    variants = {form for others in forms.values() for form in others}
    names: dict[str, str] = {}
    rows = []
    # A form of another character is named last, so that it takes no name from a character of its own.
    order = sorted(
        {*drawn, *uses}, key=lambda each: (each in variants, -uses[each], rank.get(each, float("inf")), each)
    )
    called: dict[str, str] = {}
    for character in order:
        meanings, radicals = (words[column].get(character, []) for column in ("meanings", "radical_names"))
        name, source = _free_name(character, meanings, radicals, names, drawn.get(character), called)
        names[name.lower()] = called[character] = name
        rows.append(
            {
                "component": character,
                "name": name,
                "source": source,
                "characters": uses[character],
                "forms": list(forms.get(character, ())),
                "meanings": meanings or radicals,
            }
        )
    return pd.DataFrame(rows)


def _free_name(
    character: str,
    meanings: Sequence[str],
    radicals: Sequence[str],
    taken: Mapping[str, str],
    composition: Composition | None,
    called: Mapping[str, str],
) -> tuple[str, Source]:
    for source, offered in (("meaning", meanings), ("radical", radicals)):
        for name in map(_plain, offered):
            if name and name.lower() not in taken:
                return name, source  # type: ignore[return-value]
    if plain := next(filter(None, map(_plain, [*meanings, *radicals])), None):
        numbered = (f"{word} {plain}" for word in chain(_ORDINALS, (f"{number}th" for number in count(11))))
        return next(name for name in numbered if name.lower() not in taken), "ordinal"
    parts = composition.parts if composition else ()
    if composition and parts and all(part.base in called for part in parts):
        joined = f" {_JOINED_BY.get(composition.layout or '', 'around')} ".join(
            called[part.base or ""] for part in parts
        )
        if joined.lower() not in taken:
            return joined, "parts"
    return character, "itself"


def _plain(meaning: str) -> str:
    """A meaning that can stand in a caption: no commas, colons and parentheses, and no slot at its beginning."""
    text = " ".join(re.sub(r"[^\w\s'./&-]", " ", meaning).split())
    return "" if SLOT.match(text.lower()) else text
