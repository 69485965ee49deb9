from __future__ import annotations

import pandas as pd
import pytest

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.dictionary import CharacterSelection, select_characters
from kanji_diffusion.glyphs.split import SplitSettings, split_glyphs, variant_families


def table(characters: pd.DataFrame, held_out: tuple[bool, ...] = (False, True)) -> pd.DataFrame:
    parts = [pd.DataFrame({"character": characters["character"], "held_out": flag}) for flag in held_out]
    return pd.concat(parts, ignore_index=True)


def test_without_a_test_share_only_faces_are_held_out(grade_one: pd.DataFrame) -> None:
    split = split_glyphs(table(grade_one), grade_one, SplitSettings())
    assert split.loc[split["held_out"], "split"].unique().tolist() == ["validation"]
    assert split.loc[~split["held_out"], "split"].unique().tolist() == ["train"]


def test_test_characters_are_unseen_in_every_face(dictionary: pd.DataFrame) -> None:
    characters = select_characters(dictionary, CharacterSelection(jouyou=True))
    split = split_glyphs(table(characters), characters, SplitSettings(test_share=0.1))
    test = split[split["split"] == "test"]
    assert test["character"].nunique() == 214
    assert set(test["character"]).isdisjoint(split.loc[split["split"] != "test", "character"])
    other = split_glyphs(table(characters), characters, SplitSettings(test_share=0.1, seed=1))
    assert set(test["character"]) != set(other.loc[other["split"] == "test", "character"])


def test_variants_stay_on_one_side(dictionary: pd.DataFrame) -> None:
    families = variant_families(dictionary)
    assert families["万"] == families["萬"]
    assert families["剣"] == families["劍"]
    assert families["水"] != families["火"]
    characters = select_characters(dictionary, CharacterSelection(all=True))
    split = split_glyphs(table(characters), characters, SplitSettings(test_share=0.2))
    sides = split.assign(test=split["split"] == "test", family=split["character"].map(families))
    assert sides.groupby("family")["test"].nunique().max() == 1


def test_a_split_without_training_glyphs_is_refused(grade_one: pd.DataFrame) -> None:
    with pytest.raises(KanjiDiffusionError, match="no glyph to train on"):
        split_glyphs(table(grade_one, held_out=(True,)), grade_one, SplitSettings())
