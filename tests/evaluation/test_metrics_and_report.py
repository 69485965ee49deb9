"""Intervals, figures by group, image grids and plots."""

import numpy as np
import pandas as pd
import pytest

from kanji_diffusion.evaluation import reading
from kanji_diffusion.evaluation.intervals import interval
from kanji_diffusion.evaluation.metrics import MEASURES, SampleMetrics, group_figures, quick_figures, summary
from kanji_diffusion.evaluation.report import reading_plot, sampling_plot
from kanji_diffusion.evaluation.settings import MetricSettings
from kanji_diffusion.imaging.grid import sheet
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.scoring.ocr import read_texts


@pytest.fixture
def scores():
    table = pd.DataFrame(
        {
            "character": ["一", "二", "三", "龍"] * 2,
            "style": ["brush"] * 4 + ["gothic"] * 4,
            "part": "trained",
            "stroke_count": [1, 2, 3, 16] * 2,
            "grade": pd.array([1, 1, 1, None] * 2, dtype="Int64"),
            "frequency": pd.array([2, 9, 14, None] * 2, dtype="Int64"),
            "top1": [True, False, True, False, True, True, True, True],
        }
    )
    return table.assign(**dict.fromkeys(set(MEASURES.values()) - {"top1"}, table["top1"]))


def test_intervals_are_over_whole_characters():
    """Ten samples of one character are one draw, not ten."""
    values = np.repeat([0.0, 1.0, 1.0, 1.0], 10)
    by_character = interval(values, np.repeat(list("一二三四"), 10))
    by_sample = interval(values, range(40))
    assert by_character.value == by_sample.value == 0.75
    assert by_character.high - by_character.low > 2 * (by_sample.high - by_sample.low)
    assert interval(values, range(40)) == by_sample


def test_what_is_the_same_everywhere_has_no_interval_and_nothing_has_no_figure():
    sure = interval(np.ones(8), range(8))
    assert sure.low == sure.value == sure.high == 1
    assert np.isnan(interval(np.array([np.nan]), ["一"]).value)
    assert interval(np.array([np.nan, 1.0]), ["一", "二"]).value == 1


def test_groups_are_in_order_and_only_those_that_differ(scores):
    groups = group_figures(scores)
    assert list(dict.fromkeys(groups["group"])) == ["style", "strokes", "grade", "frequency"]
    strokes = groups[(groups["group"] == "strokes") & (groups["measure"] == "reading.top1")]
    assert strokes["value"].tolist() == ["1-4", "13-16"]
    assert strokes["samples"].tolist() == [6, 2]
    assert strokes["mean"].tolist() == pytest.approx([5 / 6, 0.5])
    assert set(groups.loc[groups["group"] == "frequency", "value"]) == {"1-100", "rarer"}
    means = groups.set_index(["group", "value", "measure"])["mean"]
    assert means["style", "brush", "reading.top1"] == means["grade", "none", "reading.top1"] == 0.5


def test_quick_figures_are_those_of_all_metrics(sample_metrics, reader, scorer, real_samples):
    rows, images = real_samples
    right, quick = quick_figures(rows, images, reader, scorer)
    _, whole = sample_metrics.score(rows, images)
    assert quick["reading"]["top1"] == right.mean() == whole["reading"]["top1"]
    assert quick["clip"]["score"] == pytest.approx(whole["clip"]["score"], abs=1e-5)
    assert set(quick["by_style"]) == {"brush", "gothic", "handwritten"}


def test_an_image_grid_frames_what_was_read():
    pictures = np.full((5, 8, 8), 255, np.uint8)
    page = sheet(pictures, columns=3, right=[True, False, True, True, True])
    assert page.size == (36, 24)
    assert page.getpixel((0, 0)) == (46, 160, 67)
    assert page.getpixel((12, 0)) == (215, 58, 73)
    assert page.getpixel((5, 5)) == (255, 255, 255)
    assert sheet(pictures, columns=5, zoom=2).size == (100, 20)


def test_plots_show_the_figures(scores):
    panels = reading_plot(group_figures(scores)).axes
    assert [bar.get_height() for bar in panels[0].patches] == [0.5, 1.0]
    assert [axes.get_xlabel() for axes in panels] == ["style", "strokes", "grade", "frequency"]
    grid = pd.DataFrame(
        {"sampler": ["ddim", "plms", "ddim"], "steps": 8, "guidance_scale": [4.0, 4.0, 1.0], "top1": [0.9, 0.8, 0.2],
         "ocr": [0.7, 0.6, 0.1]}
    )  # fmt: skip
    grid = grid.assign(top1_low=0.1, top1_high=0.95, ocr_low=0.0, ocr_high=0.9)
    panels = sampling_plot(grid).axes
    assert [_lines(axes, panels[-1]) for axes in panels] == [
        {"ddim, 8 steps": [0.2, 0.9], "plms, 8 steps": [0.8]},
        {"ddim, 8 steps": [0.1, 0.7], "plms, 8 steps": [0.6]},
    ]
    assert [axes.get_title() for axes in sampling_plot(grid.assign(ocr=np.nan)).axes] == ["recogniser"]


def _lines(axes, labelled):
    names = [text.get_text() for text in labelled.get_legend().get_texts()]
    return {name: line[0].get_ydata().tolist() for name, line in zip(names, axes.containers, strict=True)}


def test_real_glyphs_compared_with_themselves_are_told_by_name(sample_metrics, glyphs):
    training = glyphs[(glyphs["split"] == "train") & (glyphs["view"] == 0)].reset_index(drop=True)
    rows = training[["character", "style"]].assign(prompt="a kanji")
    scores, _ = sample_metrics.score(rows, decode_images(training))
    assert (scores[["holes_off", "pieces_off"]] == 0).all(axis=None)
    assert scores["copied"].mean() > 0.95


def test_what_cannot_be_measured_is_left_out_and_explained(glyphs, caption_table, reader, scorer):
    """One style, and no face held out: an agreement of 100 % and a copy rate of 0 % would be false."""
    alone = glyphs[(glyphs["style"] == "gothic") & (glyphs["split"] == "train") & (glyphs["view"] == 0)]
    alone_metrics = SampleMetrics(alone.reset_index(drop=True), caption_table, reader, scorer, MetricSettings())
    rows = alone[["character", "style"]].reset_index(drop=True).assign(prompt="a kanji")
    scores, figures = alone_metrics.score(rows, decode_images(alone))
    assert "style" not in figures
    assert "copies" not in figures
    assert set(figures["missing"]) >= {"style.agreement", "copies.rate", "copies.found_of_true_copies"}
    assert all(np.isfinite(list(figures[group].values())).all() for group in ("reading", "distance", "strokes"))
    # The OCR engine alone is compared with the faces themselves, which it never saw.
    assert {name for name in figures["reading"] if name.endswith("_real")} == {"ocr_real"}
    groups = group_figures(scores.assign(stroke_count=range(len(scores)), grade=1, frequency=1))
    means = groups[groups["group"] == "strokes"].set_index(["value", "measure"])["mean"].dropna()
    assert ("1-4", "reading.top1") in means
    assert ("1-4", "copies.rate") not in means


def test_an_ocr_engine_reads_along_and_real_glyphs_beside_it(sample_metrics, glyphs, real_samples):
    rows, images = real_samples
    scores, figures = sample_metrics.score(rows, images)
    read = [text == wanted for text, wanted in zip(scores["ocr_text"], rows["character"], strict=True)]
    assert figures["reading"]["ocr"] == pytest.approx(np.mean(read))
    assert scores["ocr"].tolist() == read
    first = glyphs[(glyphs["view"] == 0) & (glyphs["split"] == "train")]
    read = pd.Series(read_texts(decode_images(first)), index=first.index) == first["character"]
    assert figures["reading"]["ocr_real"] == pytest.approx(read.groupby(first["style"]).mean().mean())
    assert figures["reading"]["ocr_real"] > 0.8
    assert f"reads {100 * figures['reading']['ocr']:.1f} % of the samples" in summary(figures)
    blank, _ = sample_metrics.score(rows, np.full_like(images, 255))
    assert not blank["ocr"].any()


def test_without_an_ocr_engine_its_figures_are_left_out(sample_metrics, real_samples, monkeypatch):
    monkeypatch.setattr(reading, "has_ocr_engine", lambda: False)
    scores, figures = sample_metrics.score(*real_samples)
    assert "kanji-diffusion[reader]" in figures["missing"]["reading.ocr"]
    assert "ocr" not in figures["reading"] and "top1" in figures["reading"]
    assert scores["ocr"].isna().all()
