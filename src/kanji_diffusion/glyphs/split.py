"""The split that makes every figure honest: by character across all faces, with held-out faces besides."""

from __future__ import annotations

import hashlib
import unicodedata

import pandas as pd
from pydantic import Field

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import Settings


class SplitSettings(Settings):
    """Sizes of the split."""

    test_share: float = Field(default=0.0, ge=0, lt=1, description="Share of the characters that training never sees.")
    seed: int = Field(default=0, ge=0, description="Draws the characters of the test part.")


def split_glyphs(glyphs: pd.DataFrame, characters: pd.DataFrame, settings: SplitSettings) -> pd.DataFrame:
    """Assign every glyph to a part of the split.

    A character and its variants (刀 and 刂, 万 and 萬) are on one side, in all faces and views.

    Args:
        glyphs: Rows with character and held_out.
        characters: Rows with character and variants, of every character in `glyphs`.
        settings: Sizes.

    Returns:
        `glyphs` with the column `split`: "test" for unseen characters, "validation" for seen characters in
        held-out faces, "train" for the rest.

    Raises:
        KanjiDiffusionError: Nothing is left to train on.
    """
    unseen = glyphs["character"].isin(_test_characters(characters, settings))
    split = pd.Series("train", index=glyphs.index).mask(glyphs["held_out"], "validation").mask(unseen, "test")
    if not (split == "train").any():
        raise KanjiDiffusionError(
            "The split leaves no glyph to train on: hold out fewer faces, or lower `test_share` of the split."
        )
    return glyphs.assign(split=split)


def _test_characters(characters: pd.DataFrame, settings: SplitSettings) -> set[str]:
    """Whole families of variants, in an order drawn by hash, until the share is reached."""
    wanted = round(settings.test_share * len(characters))
    families = pd.Series(variant_families(characters))
    chosen: set[str] = set()
    for _, family in sorted(
        families.groupby(families),
        key=lambda item: hashlib.sha256(f"{settings.seed}:{item[0]}".encode()).digest(),
    ):
        if len(chosen) + len(family) <= wanted:
            chosen.update(family.index)
    return chosen


def variant_families(characters: pd.DataFrame) -> dict[str, str]:
    """Group characters that are forms of one another.

    Args:
        characters: Rows with character and variants.

    Returns:
        Character -> the first character (by code point) of its family, which is itself when it has no
        variant.
    """
    parent = {character: character for character in characters["character"]}

    def root(character: str) -> str:
        while parent[character] != character:
            character = parent[character]
        return character

    for character, variants in zip(characters["character"], characters["variants"], strict=True):
        for other in (*variants, unicodedata.normalize("NFKC", character)):
            if other in parent:
                first, second = sorted((root(character), root(other)))
                parent[second] = first
    return {character: root(character) for character in parent}
