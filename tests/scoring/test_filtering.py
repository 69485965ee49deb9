"""What is removed, by which rule, and how it is reported."""

import numpy as np
import pandas as pd
import pytest

from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.scoring.filtering import FilterSettings, filter_report, judge_glyphs
from kanji_diffusion.scoring.ink import ink_measures


@pytest.fixture
def scores():
    generator = np.random.default_rng(0)
    count = 400
    style = np.where(np.arange(count) < 200, "brush", "gothic")
    return pd.DataFrame(
        {
            "style": style,
            "face_id": np.where(style == "brush", "kouzan", "noto"),
            "stroke_count": generator.integers(1, 12, count),
            # A brush face scores lower throughout, and must not be punished for it.
            "clip_score": generator.normal(np.where(style == "brush", 0.2, 0.8), 0.05),
            "aesthetic_score": generator.normal(np.where(style == "brush", -2.0, 1.0), 0.3),
            "coverage": 0.2,
            "contrast": 1.0,
        }
    )


def test_quantiles_hold_within_each_style(scores):
    removed = judge_glyphs(scores, FilterSettings(clip_quantile=0.05, aesthetic_quantile=0)) != ""
    assert removed[scores["style"] == "brush"].sum() == 10
    assert removed[scores["style"] == "gothic"].sum() == 10


def test_thresholds_hold_for_all(scores):
    settings = FilterSettings(clip_quantile=0, aesthetic_quantile=0, min_clip_score=0.5)
    assert set(scores.loc[judge_glyphs(scores, settings) == "low CLIP score", "style"]) == {"brush"}


def test_blank_and_blotted_glyphs_are_removed(scores):
    scores.loc[3, "coverage"], scores.loc[4, "coverage"], scores.loc[5, "contrast"] = 0.0, 0.9, 0.1
    reasons = judge_glyphs(scores, FilterSettings(clip_quantile=0, aesthetic_quantile=0))
    assert reasons[[3, 4, 5]].tolist() == ["too little ink", "too much ink", "low contrast"]
    assert (reasons.drop([3, 4, 5]) == "").all()


def test_a_filter_that_leaves_nothing_is_refused(scores):
    with pytest.raises(KanjiDiffusionError, match="removed every glyph"):
        judge_glyphs(scores, FilterSettings(min_clip_score=1.0))


def test_the_report_counts_what_was_removed(scores):
    judged = scores.assign(removed=judge_glyphs(scores, FilterSettings(clip_quantile=0.05, aesthetic_quantile=0)))
    report = filter_report(judged)
    brush = report[(report["by"] == "style") & (report["value"] == "brush")].iloc[0]
    assert (brush["glyphs"], brush["removed"], brush["reasons"]) == (200, 10, "low CLIP score: 10")
    for by in ("style", "face_id", "stroke_count"):
        assert report.loc[report["by"] == by, "removed"].sum() == 20


def test_ink_measures_tell_a_blank_from_a_blot():
    blank = np.full((1, 16, 16), 255, np.uint8)
    square = blank.copy()
    square[:, 4:12, 4:12] = 0
    measures = ink_measures(np.concatenate([blank, square]))
    assert measures["coverage"].tolist() == pytest.approx([0.0, 0.25])
    assert measures["contrast"].tolist() == pytest.approx([0.0, 1.0])
    assert measures["margin"].tolist() == pytest.approx([0.5, 0.25])
    assert measures.loc[1, "sharpness"] == 1.0
