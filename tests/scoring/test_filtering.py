"""What is removed, by which rule, and how it is reported."""

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.imaging.ink import ink_measures
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.scoring.filtering import REASONS, FilterSettings, StyleFilter, filter_report, removal_reasons


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
            "grade": pd.array(np.where(np.arange(count) % 4 == 0, 8, 1), dtype="Int64"),
            # A brush face scores lower throughout, and must not be punished for it.
            "clip_score": generator.normal(np.where(style == "brush", 0.2, 0.8), 0.05),
            "aesthetic_score": generator.normal(np.where(style == "brush", -2.0, 1.0), 0.3),
            "coverage": 0.2,
            "contrast": 1.0,
            "margin": 0.05,
            "edge_sharpness": 0.8,
            "components": 3,
            "reading_margin": 4.0,
            "consensus": 0.1,
        }
    )


def test_every_limit_has_its_words():
    assert list(REASONS) == list(StyleFilter.model_fields)


def test_nothing_is_removed_where_nothing_is_wrong(scores):
    assert (removal_reasons(scores, FilterSettings()) == "").all()


def test_quantiles_hold_within_each_style(scores):
    removed = removal_reasons(scores, FilterSettings(clip_score={"lowest": 0.05})) != ""
    assert removed[scores["style"] == "brush"].sum() == 10
    assert removed[scores["style"] == "gothic"].sum() == 10
    removed = removal_reasons(scores, FilterSettings(aesthetic_score={"highest": 0.1})) != ""
    assert removed.groupby(scores["style"]).sum().tolist() == [20, 20]


def test_robust_deviations_hold_within_each_style_and_spare_what_is_usual(scores):
    scores.loc[7, "aesthetic_score"], scores.loc[300, "aesthetic_score"] = -6.0, -2.0
    settings = FilterSettings(aesthetic_score={"below": 6})
    reasons = removal_reasons(scores, settings)
    assert reasons[reasons != ""].to_dict() == {7: "low aesthetic score", 300: "low aesthetic score"}


def test_thresholds_hold_for_all(scores):
    settings = FilterSettings(clip_score={"min": 0.5})
    assert set(scores.loc[removal_reasons(scores, settings) == "low CLIP score", "style"]) == {"brush"}


def test_a_style_may_have_limits_of_its_own(scores):
    general = {"clip_score": {"lowest": 0.05, "min": 0.0}}
    settings = FilterSettings(**general, styles={"brush": {"clip_score": {"lowest": 0.0}}})
    removed = removal_reasons(scores, settings) != ""
    assert removed.groupby(scores["style"]).sum().tolist() == [0, 10]
    # What the style does not name stays as it is in general.
    scores.loc[3, "clip_score"] = -0.5
    assert removal_reasons(scores, settings)[3] == "low CLIP score"


def test_each_kind_of_bad_glyph_has_its_reason(scores):
    scores.loc[3, "coverage"], scores.loc[4, "coverage"], scores.loc[5, "contrast"] = 0.0, 0.9, 0.1
    scores.loc[6, "components"], scores.loc[7, "reading_margin"], scores.loc[8, "consensus"] = 300, -2.0, -0.3
    reasons = removal_reasons(scores, FilterSettings())
    assert reasons[range(3, 9)].tolist() == [
        "too little ink",
        "too much ink",
        "low contrast",
        "too many pieces of ink",
        "read as another character",
        "unlike its character in other faces",
    ]
    assert (reasons.drop(range(3, 9)) == "").all()


def test_a_score_that_is_not_known_removes_nothing(scores):
    scores["consensus"] = np.nan
    scores.loc[:10, "reading_margin"] = np.nan
    settings = FilterSettings(consensus={"min": 0.0, "lowest": 0.1, "below": 1})
    assert (removal_reasons(scores, settings) == "").all()


def test_a_filter_that_leaves_nothing_is_refused(scores):
    with pytest.raises(KanjiDiffusionError, match="removed every glyph"):
        removal_reasons(scores, FilterSettings(clip_score={"min": 1.0}))


def test_the_report_counts_what_was_removed(scores):
    scores.loc[2, "grade"] = pd.NA
    filtered = scores.assign(removed=removal_reasons(scores, FilterSettings(clip_score={"lowest": 0.05})))
    report = filter_report(filtered)
    brush = report[(report["by"] == "style") & (report["value"] == "brush")].iloc[0]
    assert (brush["glyphs"], brush["kept"], brush["removed"], brush["reasons"]) == (200, 190, 10, "low CLIP score: 10")
    for by in ("style", "face_id", "stroke_count", "grade"):
        assert report.loc[report["by"] == by, ["glyphs", "removed"]].sum().tolist() == [400, 20], by
    assert set(report.loc[report["by"] == "grade", "value"]) == {"1", "8", "none"}


def test_ink_measures_tell_a_blank_from_a_blot():
    blank = np.full((1, 16, 16), 255, np.uint8)
    square = blank.copy()
    square[:, 4:12, 4:12] = 0
    three = blank.copy()
    three[:, 2:4, 2:4] = three[:, 4:6, 4:6] = three[:, 10, 2:5] = three[:, 13:15, 13:15] = 0
    measures = ink_measures(np.concatenate([blank, square, three]))
    assert measures["coverage"][:2].tolist() == pytest.approx([0.0, 0.25])
    assert measures["contrast"].tolist() == pytest.approx([0.0, 1.0, 1.0])
    assert measures["margin"][:2].tolist() == pytest.approx([0.5, 0.25])
    # Pieces that touch at a corner are one.
    assert measures["components"].tolist() == [0, 1, 3]
    assert measures["edge_sharpness"].tolist() == pytest.approx([0.0, 1.0, 1.0])


def test_edges_are_less_sharp_the_more_they_are_blurred(glyphs):
    images = decode_images(glyphs[glyphs["view"] == 0])
    blurred = [
        np.stack([ndimage.gaussian_filter(image.astype(float), sigma) for image in images]).round().astype(np.uint8)
        for sigma in (0.7, 1.5)
    ]
    sharp, soft, softest = (ink_measures(pictures)["edge_sharpness"] for pictures in (images, *blurred))
    assert (sharp > soft).all()
    assert (soft > softest).all()
    # A stroke is not less sharp for being thin: the faces of all styles are drawn by one renderer.
    assert sharp.groupby(glyphs.loc[glyphs["view"] == 0, "style"].to_numpy()).mean().min() > 0.5
