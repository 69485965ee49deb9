"""What can be measured of a glyph without a model."""

from __future__ import annotations

import numpy as np
import pandas as pd


def ink_measures(images: np.ndarray) -> pd.DataFrame:
    """Measures of pictures uint8 `[N, H, W]`, one row each.

    Columns: `coverage` (share of the square that is ink), `contrast` (darkest against lightest, 0 to 1), `margin`
    (smallest empty border as a share of the side) and `sharpness` (share of the inked pixels that are fully dark).
    """
    ink = 1 - images.astype(np.float32) / 255
    side = images.shape[-1]
    rows: np.ndarray = np.any(ink > 0.5, axis=2)
    columns: np.ndarray = np.any(ink > 0.5, axis=1)
    edges = [rows.argmax(axis=1), rows[:, ::-1].argmax(axis=1)]
    edges += [columns.argmax(axis=1), columns[:, ::-1].argmax(axis=1)]
    touched = (ink > 0.1).sum(axis=(1, 2))
    return pd.DataFrame(
        {
            "coverage": ink.mean(axis=(1, 2)),
            "contrast": ink.max(axis=(1, 2)) - ink.min(axis=(1, 2)),
            "margin": np.where(rows.any(axis=1), np.min(edges, axis=0) / side, 0.5),
            "sharpness": (ink > 0.9).sum(axis=(1, 2)) / np.maximum(touched, 1),
        }
    )
