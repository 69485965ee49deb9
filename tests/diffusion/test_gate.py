"""What is measured of a reconstruction, and what the gate lets through."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.diffusion.gate import GateSettings, reconstruction_report, require_gate
from kanji_diffusion.imaging.ink import hole_counts, stroke_overlap


def test_holes_are_counted_as_a_reader_would():
    box, eight, line = (Image.new("L", (32, 32), 255) for _ in range(3))
    ImageDraw.Draw(box).rectangle((6, 6, 26, 26), outline=0, width=2)
    ImageDraw.Draw(eight).rectangle((6, 4, 26, 28), outline=0, width=2)
    ImageDraw.Draw(eight).line((6, 16, 26, 16), fill=0, width=2)
    ImageDraw.Draw(line).line((0, 16, 32, 16), fill=0, width=2)
    assert hole_counts(np.stack([np.asarray(p) for p in (box, eight, line)])).tolist() == [1, 2, 0]


def test_stroke_overlap_falls_with_every_lost_stroke(pictures):
    assert (stroke_overlap(pictures, pictures) == 1).all()
    cut = pictures.copy()
    cut[:, 16:] = 255
    assert stroke_overlap(cut, pictures).mean() < 0.9
    blank = np.full_like(pictures, 255)
    assert (stroke_overlap(blank, blank) == 1).all()


def test_figures_are_told_by_style_and_by_stroke_count():
    measured = pd.DataFrame(
        {
            "style": ["brush", "brush", "gothic", "gothic"],
            "stroke_count": [1, 4, 5, 23],
            "stroke_overlap": [0.8, 1.0, 0.9, 0.7],
            "holes_agree": [True, False, True, True],
            "read": [False, True, True, True],
            "original_read": [True, True, True, True],
        }
    )
    report = reconstruction_report(measured)
    assert report["glyphs"] == 4
    assert report["stroke_overlap"] == pytest.approx(0.85)
    assert report["style"]["brush"] == pytest.approx(
        {"glyphs": 2, "stroke_overlap": 0.9, "holes_agree": 0.5, "read": 0.5, "original_read": 1.0}
    )
    assert list(report["stroke_count"]) == ["1 to 4", "5 to 8", "17 and more"]
    assert report["stroke_count"]["17 and more"]["stroke_overlap"] == pytest.approx(0.7)


GOOD = {"stroke_overlap": 0.96, "holes_agree": 0.98, "read": 0.985, "original_read": 0.99}


def report(**changes):
    return GOOD | {"style": {"brush": GOOD | changes.pop("brush", {}), "gothic": GOOD}} | changes


def test_the_gate_lets_good_reconstructions_through():
    require_gate(report(), GateSettings())
    require_gate(report(brush={"stroke_overlap": 0.92}), GateSettings())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"stroke_overlap": 0.5}, r"stroke overlap is 0\.500 \(at least 0\.95 is needed\)"),
        ({"holes_agree": 0.9}, r"holes agree is 0\.900"),
        ({"read": 0.5}, r"the reading score falls by 0\.490 \(at most 0\.02 is allowed\)"),
        ({"stroke_overlap": 0.5, "read": 0.5}, r"stroke overlap is 0\.500 .*reading score falls by 0\.490"),
        ({"stroke_overlap": float("nan")}, "stroke overlap is nan"),
        ({"brush": {"holes_agree": 0.8}}, r"in brush holes agree is 0\.800 \(at least 0\.91 is needed\)"),
    ],
)
def test_the_gate_stops_what_loses_strokes_and_names_each_loss(changes, sentence):
    with pytest.raises(KanjiDiffusionError, match=sentence):
        require_gate(report(**changes), GateSettings())


def test_no_single_style_is_judged_without_a_tolerance():
    require_gate(report(brush={"holes_agree": 0.8}), GateSettings(style_tolerance=None))
