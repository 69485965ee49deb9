"""The report tells a model that draws the face from one that draws another style."""

import numpy as np
import pandas as pd
import pytest
from tests.adaptation.conftest import toy

from kanji_diffusion.adaptation.face import read_face
from kanji_diffusion.adaptation.report import (
    DISTANCE,
    adaptation_report,
    adaptation_sheet,
    read_styles,
    score_kept_back,
    told,
)
from kanji_diffusion.adaptation.similarity import reconstructed
from kanji_diffusion.glyphs.fonts import FontSettings
from kanji_diffusion.imaging.pictures import decode_images, encode_images

SETTINGS = toy(glyphs=30, checked=24, views=1)


@pytest.fixture(scope="module")
def tables(released, known, font_folder):
    """A face, and in place of what the model draws in two styles, other faces as its autoencoder draws them."""
    few = known[known["trained"]].iloc[::40].head(54)

    def read(name, style):
        path = next(font_folder.rglob(name))
        return read_face(path, style, few, 64, SETTINGS, FontSettings())[0].sort_values("character", ignore_index=True)

    def redrawn(glyphs, style):
        pictures = reconstructed(released.pipeline.vae, decode_images(glyphs))
        return glyphs[["character"]].assign(style=style, image=encode_images(pictures))

    face = read("YOzRS_.ttf", "mine")
    others = [redrawn(read(f"BIZUD{name.title()}-Regular.ttf", name), name) for name in ("gothic", "mincho")]
    return face, pd.concat(others, ignore_index=True), redrawn(face, "mine")


def reported(released, face, references, drawn):
    scores = score_kept_back(released, "mine", face, references, drawn, SETTINGS)
    read = read_styles(references)
    return scores, adaptation_report(scores, "mine", read, read)


def test_glyphs_of_the_face_are_its_style_and_nearest_to_the_true_ones(released, tables):
    face, references, drawn = tables
    scores, report = reported(released, face, references, drawn)
    assert report["kept_back"] == 24 and len(scores) == 4 * 24
    assert report["style_agreement"]["drawn"] > 0.9 and report["style_agreement"]["true"] > 0.9
    assert report["reading"]["relative"] == pytest.approx(1, abs=0.1)
    assert report["likeness"]["ssim"] > report["nearest_style"]["ssim"]
    assert report["likeness"][DISTANCE] < report["nearest_style"][DISTANCE]
    assert sum(group["count"] for group in report["by_strokes"].values()) == 24
    assert report["kept_styles"]["fall"] == 0
    assert any("24 glyphs that were kept back" in line for line in told(report))
    page = adaptation_sheet(face, drawn, references, scores, report)
    assert page.height == 7 * 68  # given, and twice true, drawn and nearest


def test_another_style_or_other_characters_are_no_success(released, tables):
    face, references, drawn = tables
    gothic = references[references["style"] == "gothic"].assign(style="mine")
    _, report = reported(released, face, references, gothic)
    assert report["style_agreement"]["drawn"] < 0.2
    assert report["likeness"] == pytest.approx(report["other_styles"]["gothic"])
    _, report = reported(released, face, references, drawn.assign(character=np.roll(drawn["character"], 1)))
    assert report["reading"]["relative"] < 0.1
    assert report["likeness"]["ssim"] < report["nearest_style"]["ssim"]


def test_without_glyphs_that_are_kept_back_the_other_styles_are_reported(released, tables):
    face, references, drawn = tables
    learnt = face[~face["held_out"]]
    scores, report = reported(released, learnt, references, drawn)
    assert report["kept_back"] == 0 and scores.empty and len(told(report)) == 1
    assert adaptation_sheet(learnt, drawn, references, scores, report).height == 68
