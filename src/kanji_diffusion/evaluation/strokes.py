"""Strokes and holes, counted and compared with real glyphs of the same character."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import ndimage

from kanji_diffusion.imaging.ink import hole_counts
from kanji_diffusion.imaging.pictures import Images, blocks

_SMALLEST_PIECE = 3
_TOUCHING = np.ones((3, 3))


def stroke_measures(images: Images) -> pd.DataFrame:
    """Measures of pictures uint8 `[N, H, W]`, one row each.

    Columns: `ink` (share of the square), `width` (of the strokes, as a share of the side: four times the mean
    distance of ink to paper, which is exact for a long bar), `holes` (enclosed areas of paper) and `pieces` (of
    ink that hang together).
    """
    parts = [_stroke_measures(block) for block in blocks(images)]
    return pd.concat(parts or [_stroke_measures(images[:0])], ignore_index=True)


def _stroke_measures(images: np.ndarray) -> pd.DataFrame:
    rows = []
    for ink in images < 128:
        depth = ndimage.distance_transform_edt(ink)[ink]
        areas, _ = ndimage.label(ink, _TOUCHING)
        pieces = int((np.bincount(areas.ravel())[1:] >= _SMALLEST_PIECE).sum())
        # Half a pixel: the transform measures to the centres of the nearest pixels of paper.
        width = 4 * (depth.mean() - 0.5) + 1 if depth.size else 0.0
        rows.append((width / images.shape[-1], pieces))
    measures = pd.DataFrame(rows, columns=["width", "pieces"])
    return measures.assign(ink=1 - images.mean(axis=(1, 2)) / 255, holes=hole_counts(images))


def compare_strokes(drawn: pd.DataFrame, real: pd.DataFrame) -> pd.DataFrame:
    """How far drawn glyphs are from real ones of their character and style.

    Args:
        drawn: What `stroke_measures` returned, with `character` and `style`.
        real: The same of real glyphs. Where the style is lacking, those of the character in any style count.

    Returns:
        A row for each of `drawn`: `holes_off` and `pieces_off` (distance to the nearest count of a real glyph),
        `ink_off` and `width_off` (share of the real glyphs' mean that is too much or missing); not a number for a
        character without real glyphs.
    """
    exact, loose = dict(iter(real.groupby(["character", "style"]))), dict(iter(real.groupby("character")))
    rows = []
    for row in drawn.to_dict("records"):
        peers = exact.get((row["character"], row["style"]), loose.get(row["character"]))
        if peers is None:
            rows.append((np.nan,) * 4)
            continue
        counts = (float(np.abs(peers[name] - row[name]).min()) for name in ("holes", "pieces"))
        shares = (abs(row[name] / max(float(peers[name].mean()), 1e-6) - 1) for name in ("ink", "width"))
        rows.append((*counts, *shares))
    return pd.DataFrame(rows, columns=["holes_off", "pieces_off", "ink_off", "width_off"], index=drawn.index)
