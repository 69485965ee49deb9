"""Figures of teacher and student."""

import numpy as np
import pandas as pd
import pytest
from tests.distillation.conftest import toy

from kanji_diffusion.distillation.report import (
    checked_prompts,
    distillation_report,
    distillation_sheet,
    told,
)
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.imaging.pictures import encode_images


@pytest.fixture(scope="module")
def asked(released):
    return checked_prompts(released, toy(checked=16), CaptionSettings())


@pytest.fixture(scope="module")
def drawn(asked):
    rng = np.random.default_rng(0)
    parts = []
    for name, spread, seconds in (("teacher", 60, 0.8), ("steps_1", 30, 0.1), ("steps_2", 60, 0.2)):
        images = rng.integers(0, 1 + spread, (len(asked), 64, 64)).astype(np.uint8)
        read = (np.arange(len(asked)) % 4 > 0).astype(float) if name == "steps_1" else 1.0
        parts.append(asked.assign(drawn_in=name, seconds=seconds, ocr=read, image=encode_images(images)))
    return pd.concat(parts, ignore_index=True)


def test_trained_and_other_characters_are_asked_for(released, asked):
    kinds = asked["kind"].value_counts()
    assert kinds["trained"] == 16 and kinds["others"] == 8 and kinds["again"] == 12
    assert asked["seed"].is_unique
    trained = set(released.planner.tables["dictionary"].query("trained")["character"])
    assert set(asked.loc[asked["kind"] == "trained", "character"]) <= trained
    assert not trained & set(asked.loc[asked["kind"] == "others", "character"])
    assert asked.loc[asked["kind"] == "again"].groupby("prompt").size().eq(6).all()


def test_the_report_sets_both_against_each_other(drawn):
    report = distillation_report(drawn)
    assert list(report) == ["teacher", "steps_1", "steps_2"]
    assert report["teacher"]["trained"] == report["teacher"]["others"] == 1
    assert 0.5 < report["steps_1"]["trained"] < 1
    assert report["steps_1"]["times_as_fast"] == pytest.approx(8)
    assert report["steps_1"]["relative_diversity"] == pytest.approx(0.5, abs=0.03)
    assert report["steps_2"]["relative_diversity"] == pytest.approx(1, abs=0.03)
    first, second, _ = told(report)
    assert first.startswith("The teacher: 100.0 % of trained and 100.0 % of other characters are read")
    assert "The student in 1 steps" not in second and "in one step" in second


def test_the_sheet_shows_the_same_prompts_below_each_other(drawn):
    assert distillation_sheet(drawn, columns=8).height == 6 * 68
