"""The report page holds its figures and pictures, and nothing outside itself."""

import re

import numpy as np
import pandas as pd
import pytest

from kanji_diffusion.evaluation import page
from kanji_diffusion.evaluation.metrics import group_figures
from kanji_diffusion.imaging.pictures import decode_images


@pytest.fixture(scope="module")
def contents(sample_metrics, real_samples):
    rows, images = real_samples
    rows = rows.assign(stroke_count=3, grade=1, frequency=5)
    scores, figures = sample_metrics.score(rows, images)
    row = {
        "subject": "<robot> & co",
        "style": "gothic",
        "nearest": ["口", "日"],
        "ids": "⿰人口",
        "seen": "left person",
    }
    row |= {"reason": "robot = person beside mouth", "new": 1.0, "clean": 0.0, "as_planned": np.nan}
    judged = pd.DataFrame([row | {"similarity": 0.5, "ocr_text": "回", "ocr_confidence": 0.4}])
    shares = {f"{name}{end}": 0.5 for name in ("new", "clean") for end in ("", "_low", "_high")}
    report = {"invented": shares | {"samples": 1.0}, "calibration": {"gothic": {"clean_real": 0.957}}}
    report["missing"] = {"as_planned": "the model has no planner"}
    grid = pd.DataFrame([{"sampler": "ddim", "steps": 4, "guidance_scale": 2.0, "top1": 0.5, "top5": 1.0}])
    grid = grid.assign(top1_low=0.4, top1_high=0.6, ocr=0.123, ocr_low=0.05, ocr_high=0.2)
    grid = grid.assign(ocr_gain=0.034, ocr_gain_low=-0.01, ocr_gain_high=0.1)
    samples = page.Samples(scores, images, images, scores[["width", "ink", "holes"]])
    inventions = page.Inventions(judged, images[:1], images[:1], report)
    return (figures, group_figures(scores), samples, inventions, grid), parts(images)


@pytest.fixture(scope="module")
def html(contents):
    return page.render_page(*contents[0], contents[1]), contents[0][0]


def test_the_same_figures_make_the_same_page(contents, html):
    assert page.render_page(*contents[0], contents[1]) == html[0]


def test_without_compositions_it_says_why_there_is_nothing_about_them(contents):
    text = page.render_page(*contents[0])
    assert "the captions do not tell how characters are built" in text
    assert "left tree, right lord" not in text


def parts(images):
    rows = pd.DataFrame(
        {"kind": ["parts", "meaning", "real"], "character": "柱", "style": "gothic", "seen": "left tree"}
    )
    rows = rows.assign(
        subject=["left tree, right lord", "pillar", None], ocr=[1.0, 0.0, 1.0], ocr_text=["柱", "", "柱"]
    )
    shares = {"ocr": 0.413, "ocr_low": 0.35, "ocr_high": 0.47, "pictures": 300.0, "found": 0.5, "unknown": 0.0}
    zero_shot = {"parts": shares, "meaning": shares | {"ocr": 0.0071}, "by_style": {"gothic": {"parts": shares}}}
    compositions = {"known": {"found": 0.876, "pictures": 320.0, "unknown": 0.05}, "missing": {}}
    rates = {"rate": 0.283, "rate_low": 0.25, "rate_high": 0.32, "shuffled": 0.031}
    planner = {"kanji": 400, "at_1": rates, "at_5": rates}
    real = rows[["character", "style"]].iloc[2:]
    return page.Parts(rows, images[:2], real, images[2:3], zero_shot | {"missing": {}}, compositions, planner)


def test_it_says_the_figures(html):
    text, figures = html
    assert page.percent(figures["reading"]["top1"]) in text
    assert page.percent(figures["reading"]["ocr"]) in text and page.percent(figures["reading"]["ocr_real"]) in text
    assert "12.3 %" in text and "3.4 %<small>-1.0 % to 10.0 %" in text
    assert page.number(figures["distance"]["mmd"]) in text
    assert "near 口 日 (0.50), read 回 (0.40); new, not clean" in text
    assert "robot = person beside mouth" in text and "as_planned (the model has no planner)" in text
    assert "95.7 %" in text
    assert "41.3 %<small>35.0 % to 47.0 %" in text and "left tree, right lord; read 柱" in text
    assert "87.6 %" in text and "28.3 %" in text and "0.7 %" in text
    assert "By style" in text and "brush" in text


def test_it_refers_to_nothing_outside_itself(html):
    text, _ = html
    assert set(re.findall(r'(?:src|href)="([^"#]{5})', text)) == {"data:"}
    assert "http" not in re.sub(r'src="[^"]*"', "", text)


def test_words_of_users_are_not_markup(html):
    text, _ = html
    assert "&lt;robot&gt; &amp; co" in text
    assert "<robot>" not in text


def test_figures_are_written_for_people():
    assert page.percent(0.9251) == "92.5 %"
    assert page.percent(float("nan")) == page.percent(None) == page.number(np.inf) == "–"
    assert page.number(0.12345) == "0.123"
    assert page.number(-0.00042) == "-4.2e-04"


def test_pictures_are_embedded_as_they_are(glyphs):
    import base64
    import io

    from PIL import Image

    picture = decode_images(glyphs.iloc[:1])[0]
    data = page.embed(picture).removeprefix("data:image/png;base64,")
    assert (np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) == picture).all()
