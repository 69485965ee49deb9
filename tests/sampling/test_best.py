"""The best of several drawings is kept, found again, and is the same however the drawing was stopped."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.sampling import best
from kanji_diffusion.sampling.best import draw_best
from kanji_diffusion.sampling.candidates import candidate_seeds
from kanji_diffusion.sampling.sampler import SamplingSettings, draw

SAMPLING = SamplingSettings(sampler="ddim", steps=2, batch_size=4)


class DarkestReader:
    """Reads the darker half as right, and cannot tell of inventions."""

    name = "darkness"

    def __init__(self, version: str = "1") -> None:
        self.version, self.seen = version, 0

    def fingerprint(self) -> str:
        return self.version

    def __call__(self, pictures: np.ndarray, glyphs: pd.DataFrame) -> pd.DataFrame:
        self.seen += len(pictures)
        dark = pd.Series(255.0 - pictures.mean(axis=(1, 2))).where(glyphs["character"].notna())
        return pd.DataFrame({"merit": dark, "read_as": "?", "read": (dark > 127).astype(float).where(dark.notna())})


@pytest.fixture(scope="module")
def glyphs() -> pd.DataFrame:
    words = ["water", "fire", "tree", "gold", "robot"]
    characters = ["水", "火", "木", "金", None]
    return pd.DataFrame({"prompt": words, "seed": 7, "character": characters, "ids": words}, index=[3, 5, 6, 8, 9])


@pytest.fixture(autouse=True)
def two_glyphs_a_block(monkeypatch):
    monkeypatch.setattr(best, "_BLOCK", 6)


def drawn(model, glyphs, folder, reader=None, candidates=3, sampling=SAMPLING, workers=1):
    reader, cluster = reader or DarkestReader(), ClusterSettings(workers=workers)
    return draw_best(model, glyphs, sampling, candidates, reader, folder, cluster), reader.seen


def test_the_best_candidate_is_kept_and_of_inventions_the_first(model, glyphs, tmp_path):
    table, _ = drawn(model, glyphs, tmp_path)
    assert table.index.tolist() == glyphs.index.tolist()
    images = decode_images(table)
    for row, image in zip(table.to_dict("records"), images, strict=True):
        seeds = candidate_seeds([7], 3)
        pictures = draw(model, [row["prompt"]] * 3, seeds, SAMPLING)
        chosen = 0 if pd.isna(row["character"]) else pictures.mean(axis=(1, 2)).argmin()
        assert row["seed"] == seeds[chosen]
        assert np.abs(image.astype(int) - pictures[chosen]).max() <= 1
    assert table["merit"].isna().tolist() == table["read"].isna().tolist() == [False] * 4 + [True]


def test_a_stopped_drawing_goes_on_and_ends_alike(model, glyphs, tmp_path, monkeypatch):
    whole, seen = drawn(model, glyphs, tmp_path / "whole")
    assert seen == 15

    class Stopped(DarkestReader):
        def __call__(self, pictures, rows):
            if self.seen:
                raise KeyboardInterrupt
            return super().__call__(pictures, rows)

    with pytest.raises(KeyboardInterrupt):
        drawn(model, glyphs, tmp_path / "stopped", Stopped())
    (kept,) = (tmp_path / "stopped").glob("*/*.npz")
    before = kept.read_bytes()
    again, seen = drawn(model, glyphs, tmp_path / "stopped")
    assert seen == 9
    assert kept.read_bytes() == before
    pd.testing.assert_frame_equal(again.drop(columns="image"), whole.drop(columns="image"))
    assert np.array_equal(decode_images(again), decode_images(whole))
    assert drawn(model, glyphs, tmp_path / "stopped")[1] == 0


def test_what_changes_the_result_is_drawn_anew_and_other_glyphs_are_added(model, glyphs, tmp_path):
    drawn(model, glyphs[:2], tmp_path)
    assert drawn(model, glyphs, tmp_path)[1] == 9
    assert drawn(model, glyphs, tmp_path, candidates=2)[1] == 10
    assert drawn(model, glyphs, tmp_path, DarkestReader("2"))[1] == 15
    slower = SAMPLING.model_copy(update={"steps": 3})
    assert drawn(model, glyphs, tmp_path, sampling=slower)[1] == 15
    assert drawn(model, glyphs.assign(seed=8), tmp_path)[1] == 15
    elsewhere = SAMPLING.model_copy(update={"device": "cpu"})
    assert drawn(model, glyphs, tmp_path, sampling=elsewhere)[1] == 0


def test_workers_draw_what_one_process_draws(ray_here, model, glyphs, tmp_path):
    here, _ = drawn(model, glyphs, tmp_path / "here")
    there, _ = drawn(model, glyphs, tmp_path / "there", workers=2)
    pd.testing.assert_frame_equal(there.drop(columns="image"), here.drop(columns="image"))
    assert np.abs(decode_images(there).astype(int) - decode_images(here)).max() <= 1
