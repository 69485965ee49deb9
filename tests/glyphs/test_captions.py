from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.diffusion.text import TextEncoderSettings, load_text_encoder
from kanji_diffusion.glyphs.captioning import leave_out_long, write_captions
from kanji_diffusion.glyphs.captions import CaptionSettings, Fits, caption_rows, check_styles, expand_prompt
from kanji_diffusion.glyphs.dictionary import CharacterSelection, select_characters

STYLES = ["mincho", "brush"]


@pytest.fixture(scope="module")
def fits() -> Fits:
    """Whether the default text encoder reads a text whole."""
    tokenizer = load_text_encoder(TextEncoderSettings(source="bundled", max_length=20)).tokenizer
    limit = tokenizer.model_max_length
    return lambda texts: [len(tokens) <= limit for tokens in tokenizer(list(texts), verbose=False).input_ids]


@pytest.fixture(scope="module")
def captions(grade_one: pd.DataFrame) -> pd.DataFrame:
    return write_captions(grade_one, STYLES, CaptionSettings(short_forms=4))


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
    again = write_captions(pd.read_parquet(tmp_path / "characters.parquet"), STYLES, CaptionSettings(short_forms=4))
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
    for refuse in (
        lambda: write_captions(grade_one, ["neon"], CaptionSettings()),
        lambda: check_styles(["neon"], CaptionSettings()),
    ):
        with pytest.raises(KanjiDiffusionError, match=r"Unknown style 'neon'.*give its words in `captions.styles`"):
            refuse()


def test_a_guessed_style_is_called_by_its_usual_words(
    grade_one: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    captions = write_captions(grade_one, ["rounded", "sosho"], CaptionSettings())
    assert {"water (rounded gothic kanji)", "water (cursive script kanji)"} <= set(captions["text"])
    check_styles(["rounded"], CaptionSettings())
    assert expand_prompt("water", "rounded", CaptionSettings()) in set(captions["text"])
    assert "'rounded' is not in `captions.styles`" in caplog.text
    assert (
        expand_prompt("water", "rounded", CaptionSettings(styles={"rounded": "soft", "gothic": "g"}))
        == "water (soft kanji)"
    )


def test_every_jouyou_caption_fits_whole(dictionary: pd.DataFrame, fits: Fits) -> None:
    characters = select_characters(dictionary, CharacterSelection(jouyou=True))
    captions = write_captions(characters, ["gothic", "handwritten"], CaptionSettings())
    assert all(fits(captions["text"].tolist()))
    assert len(leave_out_long(characters, CaptionSettings(), fits)) == 2_136


def test_no_caption_of_the_whole_dictionary_has_residue_or_is_too_long(
    dictionary: pd.DataFrame, fits: Fits, caplog: pytest.LogCaptureFixture
) -> None:
    characters = select_characters(dictionary, CharacterSelection(all=True))
    captioned = leave_out_long(characters, CaptionSettings(), fits)
    assert 0 < len(characters) - len(captioned) < 30
    assert f"{len(characters) - len(captioned)} characters are left out" in caplog.text
    captions = write_captions(captioned, ["handwritten"], CaptionSettings(), fits)
    assert set(captions["character"]) == set(captioned["character"])
    assert all(fits(captions["text"].tolist()))
    well_formed = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ,.'?!/;-]* \(handwritten kanji\)")
    residue = re.compile(
        r"radical.*\d|no\.\d|counter for|kokuji|variant of|same as|\d[/.]\d|\betc\b| and and |(\b\w+\b) and \1 \("
    )
    texts = captions["text"].sample(100, random_state=0).tolist()
    assert [text for text in texts if not well_formed.fullmatch(text) or residue.search(text)] == []


def test_long_forms_lose_meanings_and_short_ones_go_until_all_fit() -> None:
    meanings = [["tall tower", "high hall", "wall"], ["a very long meaning indeed", "ant"]]
    characters = pd.DataFrame(
        {"character": ["高", "蟻"], "code_point": [0x9AD8, 0x87FB], "frequency": [1, 2], "meanings": meanings}
    )
    short = lambda texts: [len(text.split()) <= 6 for text in texts]  # noqa: E731
    captions = write_captions(characters, ["brush"], CaptionSettings(meanings=3), short)
    assert captions["text"].tolist() == [
        "tall tower (brush kanji)",
        "high hall (brush kanji)",
        "wall (brush kanji)",
        "ant (brush kanji)",
    ]
    assert captions["form"].tolist() == ["long", "short", "short", "long"]
    with pytest.raises(KanjiDiffusionError, match=r"No caption of 高 fits.*text_encoder.max_length"):
        write_captions(characters, ["brush"], CaptionSettings(), lambda texts: [False] * len(texts))


def test_characters_without_a_fitting_meaning_are_left_out(grade_one: pd.DataFrame) -> None:
    left = leave_out_long(grade_one, CaptionSettings(), lambda texts: ["water" in text for text in texts])
    assert left["character"].tolist() == ["水"]
    with pytest.raises(KanjiDiffusionError, match="No caption fits"):
        leave_out_long(grade_one, CaptionSettings(), lambda texts: [False] * len(texts))


@pytest.mark.parametrize("prompt", ["", "  \t"])
def test_an_empty_prompt_is_refused(prompt: str) -> None:
    with pytest.raises(KanjiDiffusionError, match="prompt is empty"):
        expand_prompt(prompt, None, CaptionSettings())
