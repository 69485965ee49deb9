"""Figures and sheets of samples."""

import numpy as np
import pandas as pd
import pytest

from kanji_diffusion.evaluation.metrics import summarise
from kanji_diffusion.evaluation.report import reading_plot, sheet


@pytest.fixture
def scores():
    return pd.DataFrame(
        {
            "character": ["一", "二", "三", "四"] * 2,
            "style": ["brush"] * 4 + ["gothic"] * 4,
            "stroke_count": [1, 2, 3, 5] * 2,
            "top1": [True, False, True, False, True, True, True, True],
            "top5": [True, True, True, False, True, True, True, True],
            "clip_score": np.linspace(0, 1, 8),
        }
    )


def test_figures_are_shares_with_an_interval(scores):
    figures = summarise(scores)
    assert figures["reading_top1"] == 0.75
    assert figures["reading_top5"] == 0.875
    assert figures["reading_top1_brush"] == 0.5
    assert figures["reading_top1_gothic"] == 1.0
    assert 0.4 < figures["reading_top1_low"] < 0.75 < figures["reading_top1_high"] <= 1.0
    assert summarise(scores) == figures


def test_a_perfect_score_has_no_interval(scores):
    figures = summarise(scores.assign(top1=True))
    assert figures["reading_top1_low"] == figures["reading_top1_high"] == 1.0


def test_a_sheet_frames_what_was_read(scores):
    pictures = np.full((5, 8, 8), 255, np.uint8)
    page = sheet(pictures, columns=3, right=[True, False, True, True, True])
    assert page.size == (36, 24)
    assert page.getpixel((0, 0)) == (46, 160, 67)
    assert page.getpixel((12, 0)) == (215, 58, 73)
    assert page.getpixel((5, 5)) == (255, 255, 255)
    assert sheet(pictures, columns=5, zoom=2).size == (100, 20)


def test_the_plot_has_a_bar_for_each_style_and_stroke_count(scores):
    styles, strokes = reading_plot(scores).axes
    assert [bar.get_height() for bar in styles.patches] == [0.5, 1.0]
    assert len(strokes.patches) == 4
