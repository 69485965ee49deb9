"""Characters that are drawn for their structure, and those that nothing is trained on."""

from __future__ import annotations

import pandas as pd
import pytest

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.compositions import Compositions, placed_components, seen_slots
from kanji_diffusion.glyphs.structure import StructureSettings, select_structure, structure_faces

SETTINGS = StructureSettings(faces=("NotoSansCJK-Regular.ttc",), zero_shot=100)


@pytest.fixture(scope="module")
def chosen(dictionary: pd.DataFrame, grade_one: pd.DataFrame, compositions: Compositions) -> pd.DataFrame:
    return select_structure(dictionary, grade_one, compositions, SETTINGS)


def test_zero_shot_characters_are_kept_out_of_training(
    chosen: pd.DataFrame, grade_one: pd.DataFrame, dictionary: pd.DataFrame, compositions: Compositions
) -> None:
    kept = chosen[chosen["role"] == "zero_shot"]
    trained = {*grade_one["character"], *chosen.loc[chosen["role"] == "structure", "character"]}
    assert len(kept) == 100 and not trained & set(kept["character"])
    assert chosen["character"].is_unique and not set(chosen["character"]) & set(grade_one["character"])
    assert not kept["grade"].isin([1, 2, 3, 4, 5, 6, 8]).any()
    assert not {each for variants in kept["variants"] for each in variants} & trained
    seen = seen_slots(map(compositions.of, trained))
    for character in kept["character"]:
        placed = list(placed_components(compositions.of(character)))
        assert len(placed) > 1
        assert all(seen[slot, part.base] >= 3 for slot, part in placed)


def test_the_same_characters_are_kept_whatever_is_selected(
    chosen: pd.DataFrame, dictionary: pd.DataFrame, compositions: Compositions
) -> None:
    jouyou = dictionary[dictionary["grade"].isin([1, 2, 3, 4, 5, 6, 8])]
    others = select_structure(dictionary, jouyou, compositions, SETTINGS)
    kept = [set(table.loc[table["role"] == "zero_shot", "character"]) for table in (chosen, others)]
    assert len(kept[0] & kept[1]) >= 95


def test_few_or_no_characters_may_be_wanted(
    dictionary: pd.DataFrame, grade_one: pd.DataFrame, compositions: Compositions
) -> None:
    few = select_structure(
        dictionary, grade_one, compositions, SETTINGS.model_copy(update={"limit": 60, "zero_shot": 0})
    )
    assert len(few) == 60 and (few["role"] == "structure").all()
    assert select_structure(dictionary, grade_one, compositions, StructureSettings(zero_shot=0)).empty


def test_a_pattern_without_a_training_face_is_refused(faces: pd.DataFrame) -> None:
    assert structure_faces(faces, SETTINGS)["style"].tolist() == ["gothic"]
    for pattern in ("nothing.ttf", "aoyagi-soseki.ttf"):  # the second is held out
        with pytest.raises(KanjiDiffusionError, match=f"names '{pattern}', which is no training face"):
            structure_faces(faces, StructureSettings(faces=(pattern,)))
