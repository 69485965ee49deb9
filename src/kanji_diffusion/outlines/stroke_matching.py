"""The strokes of a character laid over the ink of its picture.

The points of the strokes are moved onto the ink by coherent point drift (Myronenko and Song, 2010): points near each
other, and those of one stroke, move alike. Ink and strokes match where their directions do as well, so that a stroke
does not slide onto one that crosses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from contourpy import contour_generator
from PIL import Image
from scipy import ndimage
from scipy.spatial import cKDTree

from kanji_diffusion.outlines.stroke_order import PlacedStroke, at_equal_steps
from kanji_diffusion.outlines.trace import EM

# Pixels of the side at which ink and strokes are matched.
_SIDE = 128
_POINTS = 9
_MOST_INK = 700
_ROUNDS = 25
# Of the em: the reach of points that move alike, how stiff they are, how much a right angle between directions counts,
# and how near the ink is searched for at first and at last.
_REACH, _STIFFNESS, _TURNED = 0.25, 20.0, 0.25
_FIRST_SPREAD, _LAST_SPREAD = 0.09, 0.015
# How much the points of a stroke hold together, beside how much all do.
_TOGETHER = 3.0
_OUTLIERS = 0.05
# Pixels by which the areas of strokes overlap, so that no seam is seen between them.
_OVERLAP = 1.0
# Of the largest piece of a stroke's ink.
_SMALLEST_PIECE = 0.15
# Font units by which the border of an area may be simplified.
_SIMPLIFIED = 4.0


@dataclass(frozen=True)
class DrawnStroke:
    """A stroke of a picture, in a square of 1000 units, y down.

    Attributes:
        path: int64 `[n, 2]`, from its beginning to its end.
        width: Of a line along the path that covers all of the ink of the stroke.
        areas: Polygons around its ink, int64 `[n, 2]`; they may overlap with those of strokes that it crosses.
        ink: Ink of the picture that is in no other stroke, as a share of all ink.
    """

    path: np.ndarray
    width: int
    areas: list[np.ndarray]
    ink: float


def match_strokes(picture: np.ndarray, strokes: Sequence[PlacedStroke]) -> list[DrawnStroke]:
    """Where each stroke is in a picture uint8 `[N, N]`, 0 ink and 255 paper; nothing for one without ink."""
    grey = Image.fromarray(picture).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    ink = np.asarray(grey) < 128
    if not strokes or not ink.any():
        return []
    moved = _moved(ink, np.stack([at_equal_steps(stroke.points, _POINTS) for stroke in strokes]))
    return _drawn(ink, moved)


def _moved(ink: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """The lines float64 `[S, P, 2]`, moved onto the ink; in shares of the side."""
    targets, turns = _ink_points(ink)
    low, high = lines.min(axis=(0, 1)), lines.max(axis=(0, 1))
    first, last = targets.min(axis=0), targets.max(axis=0)
    # A single horizontal stroke has no height to be stretched.
    scale = np.where(high - low > 0.1, (last - first) / np.maximum(high - low, 1e-6), (last - first).max())
    points = ((lines - (low + high) / 2) * scale + (first + last) / 2).reshape(-1, 2)
    start, stroke = points.copy(), np.repeat(np.arange(len(lines)), lines.shape[1])
    apart = np.square(points[:, None] - points).sum(axis=2)
    kernel = np.exp(-apart / (2 * _REACH**2)) * (1 + _TOGETHER * (stroke[:, None] == stroke))
    for spread in np.geomspace(_FIRST_SPREAD, _LAST_SPREAD, _ROUNDS):
        tangents = _doubled(np.gradient(points.reshape(lines.shape), axis=1).reshape(-1, 2))
        far = np.square(points[:, None] - targets).sum(axis=2)
        far += (_TURNED / 2) ** 2 * np.square(tangents[:, None] - turns).sum(axis=2)
        near = np.exp(-far / (2 * spread**2))
        near /= near.sum(axis=0) + _OUTLIERS
        weights = near.sum(axis=1)
        wanted = near @ targets - weights[:, None] * start
        stiff = _STIFFNESS * spread**2 * len(targets) / len(points) / _LAST_SPREAD
        points = start + kernel @ np.linalg.solve(weights[:, None] * kernel + stiff * np.eye(len(points)), wanted)
    return points.reshape(lines.shape)


def _ink_points(ink: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Places of ink in shares of the side, and directions there with doubled angles, shorter where there is none."""
    smooth = ndimage.gaussian_filter(ink.astype(float), 1.5)
    down, right = np.gradient(smooth)
    across = np.stack([down**2 - right**2, -2 * down * right], axis=2)
    across = ndimage.gaussian_filter(across, (3, 3, 0))
    strength = ndimage.gaussian_filter(down**2 + right**2, 3)
    rows, columns = np.nonzero(ink)
    some = np.random.default_rng(0).permutation(len(rows))[:_MOST_INK]
    rows, columns = rows[some], columns[some]
    turns = across[rows, columns] / np.maximum(strength[rows, columns], 1e-9)[:, None]
    return np.stack([columns + 0.5, rows + 0.5], axis=1) / len(ink), turns


def _doubled(tangents: np.ndarray) -> np.ndarray:
    """Unit vectors of twice the angle, equal for both directions of a line."""
    x, y = tangents.T
    return np.stack([x**2 - y**2, 2 * x * y], axis=1) / np.maximum(x**2 + y**2, 1e-12)[:, None]


def _drawn(ink: np.ndarray, lines: np.ndarray) -> list[DrawnStroke]:
    thickness = ndimage.distance_transform_edt(ink)
    around = ndimage.binary_dilation(ink, iterations=3)
    rows, columns = np.nonzero(around)
    places = np.stack([columns, rows], axis=1) + 0.5
    fine = [at_equal_steps(line * _SIDE, 4 * _SIDE // 8) for line in lines]
    far = np.stack([cKDTree(line).query(places)[0] for line in fine])
    halves = [float(np.median(thickness[tuple(line[:, ::-1].astype(int).clip(0, _SIDE - 1).T)])) for line in fine]
    nearest, inked = far.argmin(axis=0), ink[rows, columns]
    found = []
    for number, (line, half) in enumerate(zip(fine, halves, strict=True)):
        own = nearest == number
        inside = (far[number] < far.min(axis=0) + _OVERLAP) | (far[number] < half + _OVERLAP / 2)
        mask = np.zeros(ink.shape, dtype=bool)
        mask[rows[inside], columns[inside]] = True
        reach = max([half, *far[number][own & inked]]) + 2
        unit = EM / _SIDE
        path = at_equal_steps(_prolonged(line, reach), _POINTS) * unit
        found.append(
            DrawnStroke(
                path.round().astype(np.int64),
                round(2 * reach * unit),
                _polygons(_without_specks(mask, ink)),
                float((own & inked).sum() / ink.sum()),
            )
        )
    return found


def _without_specks(mask: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """A mask without the pieces that hold little ink, which are the edges of other strokes."""
    pieces, _ = ndimage.label(mask & ink)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    kept = np.isin(pieces, np.flatnonzero(sizes > _SMALLEST_PIECE * sizes.max()))
    return mask & ndimage.binary_dilation(kept, iterations=3)


def _prolonged(line: np.ndarray, by: float) -> np.ndarray:
    """The line with its ends moved out along their directions."""
    reach = max(1, len(line) // 8)
    ends = []
    for end, inner in ((line[0], line[reach]), (line[-1], line[-1 - reach])):
        away = end - inner
        ends.append(end + by * away / max(float(np.hypot(*away)), 1e-6))
    return np.vstack([ends[0], line, ends[1]])


def _polygons(mask: np.ndarray) -> list[np.ndarray]:
    """Contours of a mask `[_SIDE, _SIDE]` with few corners, int64 `[n, 2]` each, in a square of 1000 units."""
    places = (np.arange(_SIDE + 2) - 0.5) * EM / _SIDE
    contours = contour_generator(places, places, np.pad(mask, 1)).lines(0.5)
    simple = [_simplified(np.asarray(contour)) for contour in contours]
    return [each.round().astype(np.int64) for each in simple if len(each) > 3]


def _simplified(points: np.ndarray) -> np.ndarray:
    """An open line with the corners alone that it needs (Douglas and Peucker, 1973)."""
    if len(points) < 3:
        return points
    along = points[-1] - points[0]
    beside = points - points[0]
    length = float(np.hypot(*along))
    far = np.abs(beside @ (-along[1], along[0])) / length if length > 1e-6 else np.hypot(*beside.T)
    worst = int(far.argmax())
    if far[worst] < _SIMPLIFIED:
        return points[[0, -1]]
    return np.vstack([_simplified(points[: worst + 1])[:-1], _simplified(points[worst:])])
