"""Readers tell legible glyphs from others, and say so where they cannot tell."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.draw import Placement, draw_glyph
from kanji_diffusion.sampling import readers
from kanji_diffusion.sampling.readers import OcrReader, RecogniserReader
from kanji_diffusion.scoring.components import ComponentSettings, Vocabulary, component_recogniser
from kanji_diffusion.scoring.recogniser import RecogniserSettings, reading_margins, recogniser


@pytest.fixture(scope="module")
def pictures(raw_data: Path) -> np.ndarray:
    path = str(next((raw_data / "fonts").rglob("NotoSansCJK-Regular.ttc")))
    placement = Placement(extent=0.93, centre_x=0.5, centre_y=-0.38)
    return np.stack([255 - np.asarray(draw_glyph(path, 0, placement, each, 64, 0.88)) for each in "海火海"])


@pytest.fixture
def glyphs() -> pd.DataFrame:
    return pd.DataFrame({"character": ["海", "水", None], "ids": ["⿰氵毎", "水", "⿰氵毎"]})


def test_the_ocr_engine_prefers_what_it_reads_and_cannot_tell_of_inventions(pictures, glyphs):
    told = OcrReader()(pictures, glyphs)
    assert told["read_as"].tolist() == ["海", "火", "海"]
    assert told["read"].tolist()[:2] == [1, 0] and np.isnan(told["read"][2])
    assert told["merit"][0] > 0.5 > -0.5 > told["merit"][1] and np.isnan(told["merit"][2])


def test_without_an_ocr_engine_a_recogniser_is_asked_for(monkeypatch):
    monkeypatch.setattr(readers, "has_ocr_engine", lambda: False)
    with pytest.raises(KanjiDiffusionError, match=r"kanji-diffusion\[reader\].*set it to recogniser"):
        OcrReader()


def test_the_recognisers_read_characters_and_the_parts_of_inventions(pictures, glyphs, planner):
    torch.manual_seed(0)
    reading = recogniser(RecogniserSettings(channels=(8, 16)), ["海", "火"]).eval()
    settings = ComponentSettings(side=24, channels=(8, 16), depths=(1, 1))
    parts = component_recogniser(settings, Vocabulary(("left", "right"), ("水", "毎"))).eval()
    parts.config.threshold, parts.config.names = 0.0, ["water", "every"]
    reader = RecogniserReader(reading, parts, planner.compositions)
    told = reader(pictures, glyphs)
    margin = reading_margins(reading, pictures[:1], ["海"])[0]
    assert told["merit"][0] == pytest.approx(margin)
    assert told["read"][0] == float(margin > 0)
    # It does not know 水, and finds the parts of the invention, since any probability will do.
    assert np.isnan(told["merit"][1]) and np.isnan(told["read"][1])
    assert told["read"][2] == 1 and 0 < told["merit"][2] < 1 and "left" in told["read_as"][2]
    assert reader.fingerprint() == RecogniserReader(reading, parts, planner.compositions).fingerprint()
    before = reader.fingerprint()
    with torch.no_grad():
        next(parts.parameters()).add_(1)
    assert reader.fingerprint() != before
