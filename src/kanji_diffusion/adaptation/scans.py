"""Scans of single characters, cleaned and placed as the glyphs of a font are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image
from scipy import ndimage

from kanji_diffusion.glyphs.augment import MARGIN
from kanji_diffusion.glyphs.draw import Placement

_WORKING_SIDE = 384  # of a typical scan, in pixels: finer than any glyph that is drawn of it
_LOWEST_CONTRAST = 0.08  # of ink against paper; a hard pencil has 0.2
_GRAIN = 200  # so many times the grain of a pencil is as large as a scan
_MOST_INK = 0.6  # of a picture: with more, light and dark are the wrong way round
_SPECK = 1 / 150  # of all ink; the dot of a kanji of 24 strokes is 1 / 60
_TYPICAL_PERCENTILE = 75  # as of fonts, see `glyphs.face`
_LARGEST_TILT, _TILT_STEP = 6.0, 0.5
_TILTED_SIDE, _TILTED_SCANS = 96, 64


def working_scale(pictures: Sequence[Image.Image]) -> float:
    """What all scans of a set are reduced by, so that they keep their relative sizes."""
    return min(1.0, _WORKING_SIDE / float(np.median([max(picture.size) for picture in pictures])))


def clean_scan(picture: Image.Image, scale: float) -> np.ndarray:
    """Take paper, its shades and its specks out of a scan.

    The paper's brightness is what the lightest places around say, so that shadows and grey paper count as white. What
    is ink is decided by Otsu's threshold (1979). A quarter of the way to ink counts as paper, and three quarters count
    as ink, so that grain goes and soft edges stay.

    Args:
        picture: Dark on light, mode "L".
        scale: What it is reduced by.

    Returns:
        uint8 `[H, W]`, 255 = ink; all 0 if there is no stroke.
    """
    size = [max(8, round(scale * side)) for side in picture.size]
    grey = ndimage.median_filter(np.asarray(picture.resize(size, Image.Resampling.BOX), np.float32), 3)
    grey = ndimage.gaussian_filter(grey, max(size) / _GRAIN)
    window = max(3, max(size) // 5)
    paper = ndimage.gaussian_filter(ndimage.maximum_filter(grey, window), window / 2)
    darkness = np.clip(1 - grey / np.maximum(paper, 1), 0, 1)
    ink = darkness > _otsu_threshold(darkness)
    if not ink.any() or ink.all():
        return np.zeros(grey.shape, np.uint8)
    white, black = np.median(darkness[~ink]), np.median(darkness[ink])
    if black - white < _LOWEST_CONTRAST:
        return np.zeros(grey.shape, np.uint8)
    level = np.clip(2 * (darkness - white) / (black - white) - 0.5, 0, 1)
    return np.rint(255 * level * _strokes(level)).astype(np.uint8)


def _otsu_threshold(darkness: np.ndarray) -> float:
    counts, edges = np.histogram(darkness, 256, (0, 1))
    below = np.cumsum(counts)
    weight, total = below * (below[-1] - below), np.cumsum(counts * edges[:-1])
    mean_below = total / np.maximum(below, 1)
    mean_above = (total[-1] - total) / np.maximum(below[-1] - below, 1)
    return float(edges[1:][np.argmax(weight * (mean_above - mean_below) ** 2)])


def _strokes(level: np.ndarray) -> np.ndarray:
    """Where strokes and their soft edges are: pieces of ink that are no specks, a pixel around them included."""
    pieces, count = ndimage.label(level > 0.5, np.ones((3, 3)))
    if not count:
        return np.zeros(level.shape, bool)
    areas = np.bincount(pieces.ravel())
    areas[0] = 0
    return ndimage.binary_dilation((areas >= _SPECK * areas.sum())[pieces], np.ones((3, 3)), iterations=2)


def scan_fault(ink: np.ndarray) -> str:
    """Why a cleaned scan `[H, W]` cannot be used, as the end of a sentence; empty if it can."""
    drawn = ink > 127
    if not drawn.any():
        return "shows no stroke"
    if drawn.mean() > _MOST_INK:
        return "has more ink than paper: scan dark strokes on light paper"
    edges = [drawn[0].any(), drawn[-1].any(), drawn[:, 0].any(), drawn[:, -1].any()]
    # A picture that is cut along its ink touches all four.
    return "is clipped: strokes run over its edge" if 0 < sum(edges) < 4 else ""


def common_tilt(inks: Sequence[np.ndarray]) -> float:
    """The angle in degrees, anticlockwise, by which a set of cleaned scans is rotated to stand upright.

    Level and upright strokes both tell it. A hand that lets level strokes rise keeps its upright ones, so that the
    smaller angle counts, and none where they disagree.
    """
    angles = np.arange(-_LARGEST_TILT, _LARGEST_TILT + _TILT_STEP / 2, _TILT_STEP)
    found = []
    for ink in inks[:: max(1, len(inks) // _TILTED_SCANS)]:
        small = Image.fromarray(ink)
        small.thumbnail((_TILTED_SIDE, _TILTED_SIDE))
        turned = [np.asarray(small.rotate(angle, Image.Resampling.BILINEAR), np.float64) for angle in angles]
        found.append([[np.square(np.diff(each.sum(axis=axis))).sum() for each in turned] for axis in (1, 0)])
    # Of the set as a whole: a single glyph may have no level or no upright stroke.
    level, upright = angles[np.array(found).sum(axis=0).argmax(axis=1)]
    return float(min(level, upright, key=abs)) if level * upright > 0 else 0.0


def rotate(ink: np.ndarray, angle: float) -> np.ndarray:
    """A cleaned scan rotated about its middle by `angle` degrees anticlockwise, on as much more paper as it takes."""
    return np.asarray(Image.fromarray(ink).rotate(angle, Image.Resampling.BICUBIC, expand=True))


def measure(inks: Sequence[np.ndarray]) -> Placement:
    """How a set of cleaned scans sits on its pictures, in pixels from their middles, as a face's on its em square."""
    boxes = np.array([_box(ink) for ink in inks], np.float64)
    middles = np.array([[ink.shape[1], ink.shape[0]] for ink in inks]) / 2
    sides = boxes[:, 2:] - boxes[:, :2]
    centre = np.median((boxes[:, 2:] + boxes[:, :2]) / 2 - middles, axis=0)
    extent = float(np.percentile(sides.max(axis=1), _TYPICAL_PERCENTILE))
    return Placement(extent, float(centre[0]), float(centre[1]))


def relative_size(ink: np.ndarray, placement: Placement) -> float:
    """The larger side of a cleaned scan's ink in typical glyphs of its set."""
    left, top, right, bottom = _box(ink)
    return max(right - left, bottom - top) / placement.extent


def place(ink: np.ndarray, placement: Placement, size: int, fill: float) -> Image.Image:
    """A cleaned scan on the square, `size` x `size`, mode "L", 255 = ink, placed as `glyphs.draw.draw_glyph` does."""
    left, top, right, bottom = box = _box(ink)
    margin = round(MARGIN * size)
    scale = min(fill * size / placement.extent, (size - 2 * margin) / max(right - left, bottom - top))
    width, height = (max(1, round(scale * side)) for side in (right - left, bottom - top))
    middle = (
        (left + right - ink.shape[1]) / 2 - placement.centre_x,
        (top + bottom - ink.shape[0]) / 2 - placement.centre_y,
    )
    corner = [
        min(max(round(size / 2 + scale * offset - side / 2), margin), size - margin - side)
        for offset, side in zip(middle, (width, height), strict=True)
    ]
    picture = Image.new("L", (size, size))
    cut = Image.fromarray(ink).crop(box)
    picture.paste(cut.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3), (corner[0], corner[1]))
    return picture


def _box(ink: np.ndarray) -> tuple[int, int, int, int]:
    found = Image.fromarray((ink > 127).astype(np.uint8)).getbbox()
    assert found, "a scan without ink is refused before it is placed"
    return found
