from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.captions import (
    CaptionSettings,
    caption_rows,
    expand_prompt,
    write_captions,
)

STYLES = ["mincho", "brush"]


@pytest.fixture(scope="module")
def captions(grade_one: pd.DataFrame) -> pd.DataFrame:
    return write_captions(grade_one, STYLES, CaptionSettings())


def test_every_character_has_one_long_form_per_style(captions: pd.DataFrame, grade_one: pd.DataFrame) -> None:
    long = captions[captions["form"] == "long"]
    assert len(long) == len(grade_one) * len(STYLES)
    assert (long["position"] == 0).all()
    assert captions["caption_id"].is_unique
    ring = long[(long["character"] == "円") & (long["style"] == "brush")]
    assert ring["text"].tolist() == ["circle and yen (brush kanji)"]


def test_a_text_never_means_two_characters(captions: pd.DataFrame) -> None:
    assert captions["text"].is_unique


@pytest.mark.parametrize(("word", "character"), [("forest", "森"), ("village", "村"), ("town", "町"), ("sky", "空")])
def test_a_bare_word_goes_to_the_character_that_lists_it_earliest(
    captions: pd.DataFrame, word: str, character: str
) -> None:
    short = captions[(captions["form"] == "short") & (captions["subject"] == word)]
    assert short["character"].unique().tolist() == [character]


def test_more_meanings_join_with_commas(grade_one: pd.DataFrame) -> None:
    captions = write_captions(grade_one, ["brush"], CaptionSettings(meanings=3, short_forms=0))
    assert "circle, yen and round (brush kanji)" in set(captions["text"])
    assert set(captions["form"]) == {"long"}


def test_captions_survive_parquet(grade_one: pd.DataFrame, captions: pd.DataFrame, tmp_path: Path) -> None:
    grade_one.to_parquet(tmp_path / "characters.parquet")
    again = write_captions(pd.read_parquet(tmp_path / "characters.parquet"), STYLES, CaptionSettings())
    pd.testing.assert_frame_equal(again, captions)


def test_every_glyph_finds_its_captions(captions: pd.DataFrame) -> None:
    glyphs = pd.DataFrame({"character": ["円", "水"], "style": ["brush", "mincho"]})
    rows = caption_rows(glyphs, captions)
    subjects = [[captions["subject"][row] for row in found if row >= 0] for found in rows]
    assert subjects == [["circle and yen", "circle", "yen", "round"], ["water"]]
    assert captions["style"][rows[1, 0]] == "mincho"


def test_a_prompt_is_written_like_a_caption(captions: pd.DataFrame) -> None:
    assert expand_prompt("  forest ", "mincho", CaptionSettings()) in set(captions["text"])
    assert expand_prompt("thunder  dragon", None, CaptionSettings()) == "thunder dragon (gothic kanji)"


@pytest.mark.parametrize(
    ("template", "medium", "quality", "text"),
    [
        ("{subject}, {style}, {medium}, {quality}", "kanji", "crisp", "water, brush, kanji, crisp"),
        ("{subject}, {style}, {medium}, {quality}", "", "", "water, brush"),
        ("{subject}, {style}, {medium}, {quality}", "", "crisp", "water, brush, crisp"),
        ("{subject} ({style}, {medium}, {quality})", "kanji", "", "water (brush, kanji)"),
        ("{subject} ({medium}, {quality})", "", "crisp", "water (crisp)"),
        ("{subject} ({medium} {quality})", "", "", "water"),
    ],
)
def test_empty_words_leave_no_trace(template: str, medium: str, quality: str, text: str) -> None:
    settings = CaptionSettings(template=template, medium=medium, quality=quality)
    assert expand_prompt("water", "brush", settings) == text


def test_braces_in_a_prompt_are_plain_text() -> None:
    assert expand_prompt("{style}", "brush", CaptionSettings()) == "{style} (brush kanji)"


@pytest.mark.parametrize("template", ["a kanji", "{subject} {colour}", "{subject} {}"])
def test_a_wrong_template_is_refused(template: str) -> None:
    with pytest.raises(ValidationError, match="caption template"):
        CaptionSettings(template=template)


def test_the_default_style_must_have_words() -> None:
    with pytest.raises(ValidationError, match="default_style"):
        CaptionSettings(default_style="neon")


def test_an_unknown_style_lists_the_styles(grade_one: pd.DataFrame) -> None:
    with pytest.raises(KanjiDiffusionError, match=r"'brash' \(did you mean 'brush'\?\).*gothic, handwritten, mincho"):
        expand_prompt("water", "brash", CaptionSettings())
    with pytest.raises(KanjiDiffusionError, match="Unknown style 'neon'"):
        write_captions(grade_one, ["neon"], CaptionSettings())


@pytest.mark.parametrize("prompt", ["", "  \t"])
def test_an_empty_prompt_is_refused(prompt: str) -> None:
    with pytest.raises(KanjiDiffusionError, match="prompt is empty"):
        expand_prompt(prompt, None, CaptionSettings())
