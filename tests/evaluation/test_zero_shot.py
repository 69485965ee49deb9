"""Characters that nothing was trained on: real glyphs as drawings are read, exchanged and smudged ones are not."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from tests import component_pairs

from kanji_diffusion.evaluation import reading
from kanji_diffusion.evaluation.components import component_report, composition_report
from kanji_diffusion.evaluation.settings import ZeroShotSettings
from kanji_diffusion.evaluation.zero_shot import (
    image_grid,
    pictures_beside,
    score_zero_shot,
    summary,
    zero_shot_report,
    zero_shot_requests,
)
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.imaging.pictures import decode_images

STYLES = ["gothic", "mincho"]


@pytest.fixture(scope="module")
def built(raw_data):
    return Compositions(*component_pairs.tables(raw_data))


@pytest.fixture(scope="module")
def glyphs(raw_data, built):
    return component_pairs.draw(raw_data, built)


@pytest.fixture(scope="module")
def component_recogniser(glyphs, built):
    return component_pairs.train(glyphs, decode_images(glyphs), built)


@pytest.fixture(scope="module")
def kept(entries):
    table = entries[entries["character"].isin(list(component_pairs.UNSEEN + "水"))]
    return table.assign(role=np.where(table["character"] == "水", "structure", "zero_shot"))


@pytest.fixture(scope="module")
def requests(kept, built):
    return zero_shot_requests(kept, STYLES, built, CaptionSettings(), ZeroShotSettings(), seed=5)


def faces(glyphs, held_out):
    shown = glyphs[(glyphs["held_out"] == held_out) & (glyphs["split"] == "test")]
    return shown.drop_duplicates(["character", "style"]).reset_index(drop=True)


@pytest.fixture(scope="module")
def real(glyphs):
    return faces(glyphs, held_out=False)


@pytest.fixture(scope="module")
def images(glyphs, requests):
    """Glyphs of faces held out as drawings from the parts, and those of other characters as drawings from meanings."""
    held = faces(glyphs, held_out=True).set_index(["character", "style"])
    others = dict(zip("柱訌何", "訌何柱", strict=True))
    drawn = [
        (character if kind == "parts" else others[character], style)
        for kind, character, style in zip(requests["kind"], requests["character"], requests["style"], strict=True)
    ]
    return decode_images(held.loc[drawn])


@pytest.fixture(scope="module")
def score(requests, real, component_recogniser, built):
    def scored(images):
        scores = score_zero_shot(requests, images, real, decode_images(real), component_recogniser, built)
        return scores, zero_shot_report(scores)

    return scored


def test_each_character_is_asked_for_by_its_parts_and_once_by_its_meaning(requests):
    parts = requests[requests["kind"] == "parts"]
    assert sorted(zip(parts["character"], parts["style"], strict=True)) == sorted(
        (character, style) for character in component_pairs.UNSEEN for style in STYLES
    )
    assert "left tree, right lord (mincho kanji)" in parts["prompt"].tolist()
    meant = requests[requests["kind"] == "meaning"].set_index("character")
    assert meant.loc["柱", "subject"] == "pillar" and len(meant) == 3
    assert set(meant["style"]) == set(STYLES)
    assert not parts["seed"].duplicated().any() and parts["seed"].min() == 5
    seeds = parts.set_index(["character", "style"])["seed"]
    assert [seeds[key] for key in zip(meant.index, meant["style"], strict=True)] == meant["seed"].tolist()


def test_styles_take_turns_and_what_does_not_fit_is_not_asked_for(kept, built):
    def asked(fits=None, **settings):
        return zero_shot_requests(kept, STYLES, built, CaptionSettings(), ZeroShotSettings(**settings), fits=fits)

    turns = asked(in_turn=True)
    assert (turns.groupby(["kind", "character"]).size() == 1).all() and set(turns["style"]) == set(STYLES)
    assert asked(characters=2)["character"].nunique() == 2
    assert asked(characters=0).empty and asked(characters=None).empty
    no_trees = asked(lambda texts: ["tree" not in text for text in texts])
    assert set(no_trees["character"]) == set("訌何")


def test_real_glyphs_score_as_real_glyphs_and_above_the_floor(score, images):
    _, report = score(images)
    assert report["characters"] == 3 and not report["missing"]
    assert report["parts"]["pictures"] == report["real"]["pictures"] == 6 and report["meaning"]["pictures"] == 3
    assert report["parts"]["ocr"] >= report["real"]["ocr"] - 0.2 and report["real"]["ocr"] >= 0.6
    assert report["parts"]["found"] >= 0.6
    assert report["meaning"]["ocr"] == 0 and report["meaning"]["found"] <= 0.34
    assert report["parts"]["ocr_low"] <= report["parts"]["ocr"] <= report["parts"]["ocr_high"]
    assert set(report["by_style"]) == set(STYLES) and set(report["by_style"]["gothic"]) == {"parts", "meaning", "real"}
    assert f"{100 * report['parts']['ocr']:.1f} % of 6 drawings" in summary(report)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda images: np.roll(images, 2, axis=0),
        lambda images: ndimage.gaussian_filter(images, (0, 7, 7)),
        lambda images: np.full_like(images, 255),
    ],
)
def test_exchanged_smudged_and_empty_pictures_are_seen(score, images, spoil):
    _, report = score(spoil(images))
    assert report["parts"]["ocr"] <= 0.2
    assert report["parts"]["found"] <= 0.34
    assert report["real"]["ocr"] >= 0.6


def test_the_grid_has_each_drawing_beside_the_real_glyph(score, images, real):
    scores, _ = score(images)
    pairs, right = pictures_beside(scores, images, real, decode_images(real))
    drawn = scores[scores["kind"] == "parts"].reset_index(drop=True)
    for number, row in drawn.iterrows():
        own = real[(real["character"] == row["character"]) & (real["style"] == row["style"])]
        assert (pairs[number, 1] == decode_images(own)[0]).all()
    assert right[:, 0].tolist() == (drawn["ocr"] == 1).tolist()
    without, _ = pictures_beside(scores, images, real.iloc[:0], decode_images(real)[:0])
    assert (without[:, 1] == 255).all()
    assert image_grid(scores, images, real, decode_images(real)).size == (16 * 36, 36)


def test_without_an_ocr_engine_or_characters_the_report_says_so(
    score, images, requests, real, component_recogniser, built, monkeypatch
):
    monkeypatch.setattr(reading, "has_ocr_engine", lambda: False)
    _, report = score(images)
    assert "kanji-diffusion[reader]" in report["missing"]["ocr"] and "ocr" not in report["parts"]
    assert report["parts"]["found"] >= 0.6
    assert "are not read" in summary(report)
    nothing = score_zero_shot(requests.iloc[:0], images[:0], real.iloc[:0], images[:0], component_recogniser, built)
    report = zero_shot_report(nothing)
    assert report["characters"] == 0 and "structure.zero_shot" in report["missing"]["parts"]
    assert "nothing is drawn" in summary(report)
    assert image_grid(nothing, images[:0], real.iloc[:0], images[:0]).size == (36, 36)


def test_components_of_drawings_stand_beside_those_of_real_glyphs(score, images, glyphs, component_recogniser, built):
    scores, _ = score(images)
    checked = component_report(component_recogniser, glyphs, decode_images(glyphs), built)
    drawn = scores[scores["kind"] == "parts"].assign(about=lambda table: table["character"])
    report = composition_report({"zero_shot": drawn, "invented": drawn.assign(found=np.nan)}, checked)
    assert report["zero_shot"]["found"] == drawn["found"].mean()
    assert report["zero_shot"]["by_style"]["mincho"]["pictures"] == 3
    assert report["real"] == checked["held_out"]
    assert "invented" not in report and "invented" in report["missing"]
    assert "real" in composition_report({}, {})["missing"]
    assert pd.Series(report["zero_shot"]["unknown"]).eq(0).all()
