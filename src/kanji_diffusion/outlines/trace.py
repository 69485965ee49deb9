"""The outline of a glyph from its picture.

The contour is that of half-covered pixels, found between them in the enlarged grey levels. Contours of a picture that
was made black and white first (vtracer's) follow its pixels: they overlap less with it and take twice the points.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from contourpy import contour_generator
from PIL import Image
from scipy import ndimage

from kanji_diffusion.outlines.curves import Segment, fit_curves

EM = 1000
"""Font units of an em, which is the side of a picture."""
ASCENT = 880
"""Font units of the top of a picture above the baseline, as is usual for Japanese faces."""

_SCALE = 4
_LEVEL = 0.5
# Of the ink across an edge of the enlarged picture, for each pixel of it.
_SLOPE = 4
# Pixels of paper around the picture, so that contours close at its border.
_PADDING = 2
# Specks that are smaller parts of the picture are left out: of ink 32 × 32 font units, of paper 20 × 20.
_SMALLEST_INK, _SMALLEST_HOLE = 1 / 1000, 1 / 2500
# Pixels by which a curve may miss the contour; for large pictures more, so that no curve is finer than a font unit.
_TOLERANCE = 0.2


@dataclass(frozen=True)
class Outline:
    """Closed contours in font units, up from the baseline and right from the left side of the em square.

    Attributes:
        contours: Segments of each contour, int64 `[2, 2]` (a line) or `[4, 2]` (a cubic curve) of x and y, each
            beginning where the one before ends. Ink lies to the left of them: outer contours run counter-clockwise,
            inner ones clockwise. The extrema of a curve are its ends.
    """

    contours: list[list[Segment]]

    @classmethod
    def of_polygons(cls, polygons: Iterable[Sequence[tuple[int, int]]]) -> Outline:
        """The outline of straight lines through the corners of each polygon."""
        corners = [np.array(polygon) for polygon in polygons]
        return cls([list(np.stack([each, np.roll(each, -1, axis=0)], axis=1)) for each in corners])

    @property
    def points(self) -> int:
        """Number of points on the curves."""
        return sum(map(len, self.contours))

    def draw(self, pen: Any) -> None:
        """Draw the contours with a pen of fontTools."""
        for contour in self.contours:
            pen.moveTo(tuple(contour[0][0].tolist()))
            for number, segment in enumerate(contour):
                to = [tuple(point) for point in segment[1:].tolist()]
                if len(to) == 3:
                    pen.curveTo(*to)
                elif number < len(contour) - 1:  # the last line is that of closing
                    pen.lineTo(to[0])
            pen.closePath()


def trace(picture: np.ndarray) -> Outline:
    """The outline of a picture uint8 `[N, N]`, 0 ink and 255 paper, which is the em square; none without ink."""
    side = len(picture)
    unit = EM / side
    tolerance = max(_TOLERANCE, 1 / unit)
    contours = []
    for points in _contours(picture):
        area = _area(points) / side**2
        if -_SMALLEST_HOLE < area < _SMALLEST_INK:
            continue
        # In font units y is up, so that the contour is turned round.
        scaled = [segment * (unit, -unit) + (0, ASCENT) for segment in fit_curves(points[::-1], tolerance)]
        if len(whole := _in_whole_units(scaled)) > 1:
            contours.append(whole)
    return Outline(contours)


def _contours(picture: np.ndarray) -> list[np.ndarray]:
    """Closed polygons of half-covered pixels, float64 `[n, 2]` of x and y in pixels, y down.

    Their `_area` is positive around ink and negative around a hole.
    """
    ink = 1 - np.pad(picture, _PADDING, constant_values=255).astype(np.float32) / 255
    enlarged = _enlarged(ink)
    # What the contour's ink lacks of the picture's is added, for a hairline of half a pixel does not reach the level.
    drawn = (_SLOPE * (enlarged - _LEVEL) + _LEVEL).clip(0, 1)
    corrected = enlarged + _enlarged(ink - drawn.reshape(len(ink), _SCALE, len(ink), _SCALE).mean(axis=(1, 3)))
    # But grey that hangs together with no ink is dirt.
    parts, _ = ndimage.label(corrected > _LEVEL)
    corrected[(parts > 0) & ~np.isin(parts, parts[enlarged > _LEVEL])] = 0
    places = (np.arange(len(ink) * _SCALE) + 0.5) / _SCALE - _PADDING
    return [np.asarray(line)[:-1] for line in contour_generator(places, places, corrected).lines(_LEVEL)]


def _enlarged(values: np.ndarray) -> np.ndarray:
    size = (_SCALE * len(values), _SCALE * len(values))
    return np.array(Image.fromarray(values).resize(size, Image.Resampling.LANCZOS))


def _area(points: np.ndarray) -> float:
    x, y = points.T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def _in_whole_units(segments: list[Segment]) -> list[Segment]:
    """Segments with whole coordinates, without those of no length, and one line in the place of lines that go on."""
    kept: list[Segment] = []
    for segment in (segment.round().astype(np.int64) for segment in segments):
        if len(segment) == 2 and (segment[0] == segment[1]).all():
            continue
        if kept and len(segment) == len(kept[-1]) == 2 and _goes_on(kept[-1], segment):
            kept[-1] = np.stack([kept[-1][0], segment[1]])
        else:
            kept.append(segment)
    return kept


def _goes_on(before: Segment, after: Segment) -> bool:
    """Whether the point between two lines lies within half a unit of the line from end to end."""
    (ax, ay), (bx, by) = before[1] - before[0], after[1] - before[0]
    return bool(2 * abs(ax * by - ay * bx) <= np.hypot(bx, by) and ax * bx + ay * by > 0)
