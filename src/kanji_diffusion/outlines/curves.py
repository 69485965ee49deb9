"""Few smooth cubic curves through the many points of a contour (Schneider, 1990)."""

from __future__ import annotations

import numpy as np

Segment = np.ndarray
"""A line `[2, 2]` or a cubic curve `[4, 2]`, of x and y."""

# Distances in pixels. Points are brought to equal steps of the contour.
_STEP = 0.25
# Steps over which the direction of the contour is taken: at a corner, and elsewhere.
_CORNER_REACH, _REACH = 5, 3
# A turn of more radians within twice the reach is a corner.
_CORNER = 0.9
# A contour has an extremum where it turns back by more; less is noise, which no curve follows.
_PROMINENCE = 0.35
_PLATEAU = 0.05
_ROUNDS = 4
# Cosine of the largest angle at which a line may leave its tangent.
_STRAIGHT = 0.985


def fit_curves(points: np.ndarray, tolerance: float) -> list[Segment]:
    """Lines and curves along a closed contour.

    Curves begin and end at corners and at extrema, where their tangents are horizontal or vertical, and elsewhere only
    where one curve does not suffice, without a bend. The handles of a curve lie in the rectangle of its ends, so that
    it has no extremum between them.

    Args:
        points: Its points in order, float64 `[n, 2]`, in pixels of the picture.
        tolerance: Pixels by which a point may lie beside the curve.
    """
    points = _at_equal_steps(points)
    tangents = _corners(points)
    tangents |= _extrema(points, list(tangents))
    if len(tangents) < 2:
        first = next(iter(tangents), 0)
        opposite = int(np.hypot(*(points - points[first]).T).argmax())
        tangents |= {each: _direction(points, each) for each in (first, opposite) if each not in tangents}
    ends = sorted(tangents)
    segments: list[Segment] = []
    for start, end in zip(ends, [*ends[1:], ends[0] + len(points)], strict=True):
        part = points[np.arange(start, end + 1) % len(points)]
        into = tangents[end % len(points)]
        segments += _fit(part, tangents[start], None if into is None else -into, tolerance)
    return segments


def _at_equal_steps(points: np.ndarray) -> np.ndarray:
    closed = np.vstack([points, points[:1]])
    along = np.append(0, np.cumsum(np.hypot(*np.diff(closed, axis=0).T)))
    count = max(4 * _CORNER_REACH, round(along[-1] / _STEP))
    places = np.arange(count) * along[-1] / count
    return np.stack([np.interp(places, along, axis) for axis in closed.T], axis=1)


def _corners(points: np.ndarray) -> dict[int, np.ndarray | None]:
    """Places of the sharpest turns, which have no common tangent."""
    before = points - np.roll(points, _CORNER_REACH, axis=0)
    after = np.roll(points, -_CORNER_REACH, axis=0) - points
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    turn = np.abs(np.arctan2(cross, (before * after).sum(axis=1)))
    sharpest = np.max([np.roll(turn, by) for by in range(-_CORNER_REACH, _CORNER_REACH + 1)], axis=0)
    return dict.fromkeys(np.flatnonzero((turn == sharpest) & (turn > _CORNER)).tolist())


def _extrema(points: np.ndarray, corners: list[int]) -> dict[int, np.ndarray | None]:
    """Places where the contour turns back in x or y, away from corners, and their tangents along the other axis."""
    found: dict[int, np.ndarray | None] = {}
    count = len(points)
    taken = np.zeros(count, dtype=bool)
    for corner in corners:
        taken[np.arange(corner - _CORNER_REACH, corner + _CORNER_REACH + 1) % count] = True
    for axis in (0, 1):
        for place in _turning_points(points[:, axis]):
            if taken[place]:
                continue
            taken[np.arange(place - 1, place + 2) % count] = True
            tangent = np.zeros(2)
            tangent[1 - axis] = np.sign(_direction(points, place)[1 - axis]) or 1
            found[place] = tangent
    return found


def _turning_points(values: np.ndarray) -> list[int]:
    """Places of the extrema of a closed sequence between which it turns back by more than the prominence."""
    top = int(values.argmax())
    around = np.roll(values, -top)
    level = np.append(around, around[0]).tolist()
    best, sign, found = 0, 1, []
    for place, value in enumerate(level):
        gain = sign * (value - level[best])
        if gain > 0:
            best = place
        elif -gain > _PROMINENCE:
            found.append(_middle(level, best))
            best, sign = place, -sign
    return [(top + place) % len(values) for place in found]


def _middle(level: list[float], place: int) -> int:
    """The middle of the flat top around an extremum."""
    low = high = place
    while low and abs(level[low - 1] - level[place]) < _PLATEAU:
        low -= 1
    while high < len(level) - 1 and abs(level[high + 1] - level[place]) < _PLATEAU:
        high += 1
    return (low + high) // 2


def _direction(points: np.ndarray, place: int) -> np.ndarray:
    return _unit(points[(place + _REACH) % len(points)] - points[place - _REACH])


def _unit(vector: np.ndarray) -> np.ndarray:
    length = np.hypot(*vector)
    return vector / length if length else vector


def _fit(points: np.ndarray, start: np.ndarray | None, end: np.ndarray | None, tolerance: float) -> list[Segment]:
    """A line or curve through open points, or several.

    Args:
        points: float64 `[n, 2]`.
        start: Tangent at the first, into the curve; None for that of the points.
        end: Tangent at the last, into the curve.
        tolerance: As in `fit_curves`.
    """
    if len(points) < 3 or (_bulge(points) < tolerance and _goes_straight_on(points, start, end)):
        return [points[[0, -1]]]
    reach = min(_REACH, len(points) - 1)
    start = _unit(points[reach] - points[0]) if start is None else start
    end = _unit(points[-1 - reach] - points[-1]) if end is None else end
    along = np.append(0, np.cumsum(np.hypot(*np.diff(points, axis=0).T)))
    times = along / along[-1]
    for _ in range(_ROUNDS):
        curve = _least_squares(points, times, start, end)
        missed = np.hypot(*(_at(curve, times) - points).T)
        if missed.max() < tolerance:
            return [curve]
        times = _nearest_times(curve, points, times)
    worst = min(max(int(missed.argmax()), 1), len(points) - 2)
    tangent = _unit(points[min(worst + _REACH, len(points) - 1)] - points[max(worst - _REACH, 0)])
    return [
        *_fit(points[: worst + 1], start, -tangent, tolerance),
        *_fit(points[worst:], tangent, end, tolerance),
    ]


def _bulge(points: np.ndarray) -> float:
    """Largest distance from the line between the ends."""
    x, y = _unit(points[-1] - points[0])
    return float(np.abs((points - points[0]) @ (-y, x)).max())


def _goes_straight_on(points: np.ndarray, start: np.ndarray | None, end: np.ndarray | None) -> bool:
    """Whether the line between the ends has the tangents that it must have."""
    line = _unit(points[-1] - points[0])
    return all(tangent is None or tangent @ along > _STRAIGHT for tangent, along in ((start, line), (end, -line)))


def _least_squares(points: np.ndarray, times: np.ndarray, start: np.ndarray, end: np.ndarray) -> Segment:
    """The curve with these tangents that is nearest to the points at `times`; its handles are held as told above."""
    rest = 1 - times
    first, last = 3 * rest**2 * times, 3 * rest * times**2
    fixed = np.outer(rest**3 + first, points[0]) + np.outer(times**3 + last, points[-1])
    beside = points - fixed
    # Two equations for the lengths of the handles.
    a, b, c = first @ first * (start @ start), first @ last * (start @ end), last @ last * (end @ end)
    right = first @ (beside @ start), last @ (beside @ end)
    chord, determinant = float(np.hypot(*(points[-1] - points[0]))), a * c - b * b
    lengths = np.array([c * right[0] - b * right[1], a * right[1] - b * right[0]]) / (determinant or np.inf)
    if not ((lengths > 0.001 * chord) & (lengths < 3 * chord)).all():
        lengths = np.full(2, chord / 3)
    handles = points[[0, -1]] + lengths[:, None] * (start, end)
    low, high = points[[0, -1]].min(axis=0), points[[0, -1]].max(axis=0)
    return np.stack([points[0], *handles.clip(low, high), points[-1]])


def _at(curve: Segment, times: np.ndarray) -> np.ndarray:
    rest = 1 - times
    return np.stack([rest**3, 3 * rest**2 * times, 3 * rest * times**2, times**3], axis=1) @ curve


def _nearest_times(curve: Segment, points: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Times of the points of the curve that are nearest to `points`, by a step of Newton's method from `times`."""
    first, second = 3 * np.diff(curve, axis=0), 6 * np.diff(curve, n=2, axis=0)
    rest = 1 - times
    beside = _at(curve, times) - points
    slope = np.stack([rest**2, 2 * rest * times, times**2], axis=1) @ first
    bend = np.stack([rest, times], axis=1) @ second
    falls = (slope**2).sum(axis=1) + (beside * bend).sum(axis=1)
    step = np.divide((beside * slope).sum(axis=1), falls, out=np.zeros_like(times), where=np.abs(falls) > 1e-9)
    return np.maximum.accumulate((times - step).clip(0, 1))
