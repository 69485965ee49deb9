"""What is drawn for a font, and what the font says of itself."""

from __future__ import annotations

import pandas as pd
import pytest

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.glyphs.dictionary import CharacterSelection
from kanji_diffusion.sampling.export import TextToKanji, planner_of
from kanji_diffusion.sampling.requests import Styles
from kanji_diffusion.sampling.typeface import (
    TypefaceSettings,
    choose_meanings,
    font_names,
    glyph_requests,
    only_style,
)

CAPTIONS = CaptionSettings()


@pytest.fixture(scope="module")
def planned(model, planner):
    return TextToKanji(model, planner)


def requests(planned, meanings=(), **settings):
    return glyph_requests(planned, meanings, "brush", 3, CAPTIONS, TypefaceSettings(**settings))


def test_all_characters_are_drawn_that_the_model_was_trained_on(planned, planner):
    dictionary = planner.tables["dictionary"]
    table = requests(planned)
    assert len(table) == dictionary["trained"].sum() == 2136
    assert table["code_point"].is_monotonic_increasing
    assert (table["code_point"] == table["character"].map(ord)).all()
    sea = table.set_index("character").loc["海"]
    assert (sea["prompt"], sea["grade"], sea["seed"]) == ("sea: left water, right every (brush kanji)", 2, 3)
    # A composition that the text encoder does not read whole is told in less.
    assert table["prompt"].notna().all()
    assert not table.set_index("character").loc["寝", "prompt"].startswith("lie down: top shaped crown")


def test_characters_are_chosen_as_everywhere_and_inventions_follow_in_the_private_use_area(planned):
    chosen = CharacterSelection(grades=(1,), characters="海龍")
    with pytest.raises(KanjiDiffusionError, match=r"龍, so no caption"):
        requests(planned, characters=chosen)  # it was not trained on 龍
    chosen = CharacterSelection(grades=(1,), characters="海")
    table = requests(planned, ["vampire", "⿰魚雷", "vampire"], characters=chosen)
    assert len(table) == 83
    invented = table[table["character"].isna()]
    assert invented["code_point"].tolist() == [0xE000, 0xE001]
    assert invented["word"].tolist() == ["vampire", "⿰魚雷"]
    assert invented["ids"].tolist() == ["⿰血鬼", "⿰魚雷"]
    assert invented["label"].tolist()[0] == "vampire = blood beside ghost"
    assert table["model"].nunique() == table["style"].nunique() == 1


def test_what_has_a_kanji_is_not_invented(planned):
    for meaning in ("water", "海", "left water, right every"):
        with pytest.raises(KanjiDiffusionError, match=f"'{meaning}' .*there is one .*leave it out"):
            requests(planned, [meaning], characters=CharacterSelection(characters="水"))


def test_a_model_without_a_planner_does_not_tell_its_characters(model):
    with pytest.raises(KanjiDiffusionError, match="does not tell which characters it knows: name one"):
        planner_of(TextToKanji(model))


def test_a_font_has_one_style():
    assert only_style(None, CAPTIONS) == "gothic"
    assert only_style(Styles("brush"), CAPTIONS) == "brush"
    for several in ("all", ["brush", "gothic"]):
        with pytest.raises(KanjiDiffusionError, match="a font has one style; give one"):
            only_style(Styles(several), CAPTIONS)


def test_meanings_are_those_given_or_some_of_the_list(tmp_path):
    listed = [f"meaning {number}" for number in range(10)]
    assert choose_meanings(listed, TypefaceSettings(inventions=2)) == ["meaning 0", "meaning 5"]
    assert choose_meanings(listed, TypefaceSettings(inventions=0)) == []
    assert choose_meanings(listed, TypefaceSettings(meanings=("b", "a", "b"), inventions=1)) == ["b", "a"]
    path = tmp_path / "meanings.txt"
    path.write_text("robot\n\nvampire\n")
    assert choose_meanings(listed, TypefaceSettings(meanings_file=path)) == ["robot", "vampire"]
    path.write_text("\n".join(f"meaning {number}" for number in range(6401)))
    with pytest.raises(KanjiDiffusionError, match="has 6,401 meanings, and the private use area room for 6,400"):
        choose_meanings(listed, TypefaceSettings(meanings_file=path))


def test_the_name_is_of_family_and_style_and_the_version_of_the_model():
    drawings = pd.DataFrame({"style": ["brush"], "model": ["kanji-small 0123"]})
    names = font_names(drawings, TypefaceSettings(license="Free", license_url="https://example.org"))
    assert (names.family, names.postscript) == ("Kanji Diffusion Brush", "KanjiDiffusionBrush-Regular")
    assert names.records()["version"] == "Version 1.000;model kanji-small 0123"
    odd = font_names(drawings.assign(style="楷書 (semi-cursive) / 2"), TypefaceSettings(family="A" * 20))
    assert odd.family.isascii() and len(odd.family) <= 31
