"""What can be measured of a glyph without a model."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import ndimage

from kanji_diffusion.imaging.pictures import Images, blocks

_AT_ONCE = 64
_SMALLEST_HOLE = 3
_EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=int)


def ink_measures(images: Images) -> pd.DataFrame:
    """Measures of pictures uint8 `[N, H, W]`, one row each.

    Columns: `coverage` (share of the square that is ink), `contrast` (darkest against lightest, 0 to 1), `margin`
    (smallest empty border as a share of the side), `edge_sharpness` (how much of the step from paper to ink a pixel
    across an edge takes: 1 for a step within one pixel, less the softer it is, 0 without an edge) and `components`
    (pieces of ink, corners touching).
    """
    parts = [_ink_measures(block) for block in blocks(images, _AT_ONCE)]
    return pd.concat(parts or [_ink_measures(images[:0])], ignore_index=True)


def _ink_measures(images: np.ndarray) -> pd.DataFrame:
    ink = 1 - images.astype(np.float32) / 255
    side = images.shape[-1]
    rows: np.ndarray = np.any(ink > 0.5, axis=2)
    columns: np.ndarray = np.any(ink > 0.5, axis=1)
    edges = [rows.argmax(axis=1), rows[:, ::-1].argmax(axis=1)]
    edges += [columns.argmax(axis=1), columns[:, ::-1].argmax(axis=1)]
    return pd.DataFrame(
        {
            "coverage": ink.mean(axis=(1, 2)),
            "contrast": ink.max(axis=(1, 2)) - ink.min(axis=(1, 2)),
            "margin": np.where(rows.any(axis=1), np.min(edges, axis=0) / side, 0.5),
            "edge_sharpness": _edge_sharpness(ink),
            "components": [ndimage.label(picture > 0.5, _EIGHT_NEIGHBOURS)[1] for picture in ink],
        }
    )


def _edge_sharpness(ink: np.ndarray) -> np.ndarray:
    """Steps between neighbouring pixels, averaged with the steps themselves as weights."""
    across, down = np.abs(np.diff(ink, axis=2)), np.abs(np.diff(ink, axis=1))
    total = across.sum(axis=(1, 2)) + down.sum(axis=(1, 2))
    squared = np.square(across).sum(axis=(1, 2)) + np.square(down).sum(axis=(1, 2))
    return squared / np.maximum(total, 1e-6)


def hole_counts(pictures: np.ndarray) -> np.ndarray:
    """Number of enclosed areas of paper in pictures uint8 `[N, H, W]`, int64 `[N]`; 口 has one, 日 two.

    Paper is connected along its sides (so that ink is along its corners as well). Areas of fewer than three pixels
    are specks of antialiasing and do not count. The Euler number is the number of ink's parts less this; parts are
    left out, since in a dry brush's texture they number flecks and not strokes.
    """
    counts = []
    for ink in pictures < 128:
        areas, _ = ndimage.label(np.pad(~ink, 1, constant_values=True))
        counts.append(int((np.bincount(areas.ravel())[2:] >= _SMALLEST_HOLE).sum()))
    return np.array(counts)


def stroke_overlap(pictures: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Intersection over union of the ink of pictures and references uint8 `[N, H, W]`, float64 `[N]`."""
    ink, reference = pictures < 128, references < 128
    union = (ink | reference).sum(axis=(1, 2))
    return np.where(union == 0, 1.0, (ink & reference).sum(axis=(1, 2)) / np.maximum(union, 1))
