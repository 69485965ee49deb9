from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kanji_diffusion.glyphs.draw import Placement, draw_glyph


def placement_of(faces: pd.DataFrame, pattern: str) -> tuple[str, Placement]:
    face = faces[faces["path"].str.endswith(pattern)].iloc[0]
    return face["path"], Placement(face["extent"], face["centre_x"], face["centre_y"])


def box_of(picture: Image.Image) -> tuple[int, int, int, int]:
    box = picture.getbbox()
    assert box is not None
    return box


@pytest.mark.parametrize("size", [16, 32, 48, 64, 100, 256])
def test_faces_fill_the_square_alike(faces: pd.DataFrame, font_folder: Path, size: int) -> None:
    sides = []
    for path, index, extent, x, y in faces[["path", "face_index", "extent", "centre_x", "centre_y"]].to_numpy():
        for character in "金青雨校":
            picture = draw_glyph(str(font_folder / path), index, Placement(extent, x, y), character, size, 0.88)
            left, top, right, bottom = box_of(picture)
            assert min(left, top, size - right, size - bottom) >= round(size / 64)
            assert abs(left + right - size) < 0.25 * size
            assert abs(top + bottom - size) < 0.25 * size
            sides.append(max(right - left, bottom - top) / size)
    assert np.mean(sides) == pytest.approx(0.88, abs=0.06)
    assert min(sides) > 0.65


def test_characters_of_a_face_keep_their_proportions(faces: pd.DataFrame, font_folder: Path) -> None:
    path, placement = placement_of(faces, "NotoSansCJK-Regular.ttc")
    boxes = {c: box_of(draw_glyph(str(font_folder / path), 0, placement, c, 64, 0.88)) for c in "口国一"}
    assert boxes["口"][2] - boxes["口"][0] < boxes["国"][2] - boxes["国"][0]
    assert boxes["一"][3] - boxes["一"][1] < 10
    assert 24 < (boxes["一"][1] + boxes["一"][3]) / 2 < 40


def test_a_small_drawing_loses_no_stroke(faces: pd.DataFrame, font_folder: Path) -> None:
    path, placement = placement_of(faces, "ipaexm.ttf")
    for character in "王十千":
        small, large = (draw_glyph(str(font_folder / path), 0, placement, character, size, 0.88) for size in (32, 256))
        difference = np.asarray(small, int) - np.asarray(large.reduce(8), int)
        strokes_lost = (difference.sum(axis=1) < -255 * 8).sum()
        assert strokes_lost == 0


def test_a_glyph_that_does_not_fit_is_made_smaller(faces: pd.DataFrame, font_folder: Path) -> None:
    path, placement = placement_of(faces, "kiloji.ttf")
    shrunken = Placement(placement.extent / 1.6, placement.centre_x + 0.3, placement.centre_y)
    left, top, right, bottom = box_of(draw_glyph(str(font_folder / path), 0, shrunken, "校", 64, 0.88))
    assert min(left, top) >= 1
    assert max(right, bottom) <= 63
    assert max(right - left, bottom - top) >= 60
