"""Whether a glyph looks like its character: its features against those of the same character in other faces.

The features are gradient direction histograms, as in the recognition of handwritten kanji (Liu et al.,
"Handwritten digit recognition: investigation of normalization and feature extraction techniques", Pattern
Recognition 37, 2004). They are whitened by the covariance between faces (Fisher's discriminant), so that what
differs from face to face counts little and what makes a character counts much.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
from PIL import Image

from kanji_diffusion.imaging.pictures import Images

FEATURES = 512
"""Length of a glyph's features: eight directions on a grid of eight by eight."""

SPREAD = 2.25
"""How far a glyph may look like another character, in spreads of its face, where no setting says otherwise."""

_SIDE = 32
_GRID = 8
_DIRECTIONS = 8
_STEP = 1 / 1000  # of the eight bits that a feature is kept with
_GLYPHS_AT_ONCE = 128
_ROWS_AT_ONCE = 1024

_SHRINKAGE = 0.3  # towards equal variances: few faces tell little about 512 of them
_SAME_DRAWING = 0.99  # cosine above which faces share their drawings, so that one cannot vouch for the other
_SAMPLE = 256
_FEWEST_VOICES = 2
_STRANGER = 0.35  # cosine to the best of many wrong characters, of a drawing that is none of them
_STRICTEST = (0.12, 0.25)  # bounds of a face's margins: of one that resembles the others, of one that hardly does
_FAMILIAR = 0.8  # median likeness from which a face counts as resembling the others
_NOISE = 0.5  # the mean of few faces is itself unlike the character
_MILDEST = 0.45  # above the margin of nearly every wrong glyph: a face of wrong glyphs alone does not excuse them


def glyph_features(inks: Sequence[Image.Image]) -> np.ndarray:
    """Describe what glyphs look like, whatever their size and place.

    Args:
        inks: Glyphs cut out along their boxes, mode "L", 255 = ink; none empty.

    Returns:
        uint8 [N, FEATURES].
    """
    parts = [np.empty((0, FEATURES), np.uint8)]
    for first in range(0, len(inks), _GLYPHS_AT_ONCE):
        squares = np.stack([_square(ink) for ink in inks[first : first + _GLYPHS_AT_ONCE]])
        parts.append(_direction_histograms(squares))
    return np.concatenate(parts)


def unlikeness(features: np.ndarray, fit: np.ndarray, spread: float = SPREAD) -> tuple[np.ndarray, np.ndarray]:
    """Measure whether glyphs look less like their own character than like another one, or like none.

    A glyph is compared with the mean of each character over the other faces. How much less like its own it
    may look is measured within its face, so that a cursive face is not refused as a whole. What the first
    round finds has no voice in the second.

    Args:
        features: uint8 [F, N, FEATURES], of N characters in F faces.
        fit: bool [F, N], which of them are glyphs at all.
        spread: A margin is how much more a glyph looks like another character; its bound lies above the median
            margin of its face, by so many times the distance from there to the ninth decile.

    Returns:
        float32 [F, N] in [-1.1, 1.9], by how much the margin of a glyph exceeds its bound: above 0 it is unlike
        its character; NaN if fewer than two other faces have that. And int64 [F, N], the other character that it
        resembles most; -1 where it resembles none.
    """
    excess, nearest = np.full(fit.shape, np.nan, np.float32), np.full(fit.shape, -1)
    if fit.any(axis=1).sum() <= _FEWEST_VOICES or fit.shape[1] < 2:
        return excess, nearest
    glyphs = _Glyphs(features, fit)
    alike = _drawn_alike(glyphs, fit)
    for _ in range(2):
        excess, nearest = _judge(glyphs, fit, fit & ~(excess > 0), alike, spread)
    return excess, nearest


def picture_unlikeness(
    images: Images, characters: np.ndarray, faces: np.ndarray, views: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Measure whether pictures look like their characters, each view by itself: the others do not vouch for it.

    Args:
        images: uint8 [N, H, W], 0 = ink, 255 = paper.
        characters: What each shows, [N].
        faces: The face of each, [N].
        views: The number of each among the pictures of its face and character, [N].

    Returns:
        float32 [N], as `unlikeness`, also NaN for a picture without ink; and str [N], the other character that the
        picture resembles most, "" where it resembles none.
    """
    names, character = np.unique(characters, return_inverse=True)
    face_ids, face = np.unique(faces, return_inverse=True)
    excess, other = np.full(len(images), np.nan, np.float32), np.full(len(images), -1)
    for view in np.unique(views):
        rows, found = _drawn_features(images, np.flatnonzero(views == view))
        cells = face[rows], character[rows]
        features = np.zeros((len(face_ids), len(names), FEATURES), np.uint8)
        fit = np.zeros(features.shape[:2], bool)
        features[cells], fit[cells] = found, True
        judged, nearest = unlikeness(features, fit)
        excess[rows], other[rows] = judged[cells], nearest[cells]
    return excess, np.where(other >= 0, names[other], "")


def _drawn_features(images: Images, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those of `rows` whose pictures have ink, and the features of these, uint8 [N, FEATURES]."""
    kept: list[int] = []
    parts = []
    for first in range(0, len(rows), _GLYPHS_AT_ONCE):
        here = rows[first : first + _GLYPHS_AT_ONCE]
        inks = [_cut_out(picture) for picture in images[here]]
        kept += [row for row, ink in zip(here.tolist(), inks, strict=True) if ink]
        parts.append(glyph_features([ink for ink in inks if ink]))
    return np.array(kept, np.int64), np.concatenate(parts)


def _cut_out(picture: np.ndarray) -> Image.Image | None:
    """The ink of a picture along its box, or None if there is none; a shade of the paper is no ink."""
    ink = 255 - picture
    box = Image.fromarray(ink > 127).getbbox()
    return Image.fromarray(ink).crop(box) if box else None


class _Glyphs:
    """The features of each face, less the face's mean: what its weight and style add to all its glyphs."""

    def __init__(self, features: np.ndarray, fit: np.ndarray) -> None:
        self._features = features
        self._means = [face[row].mean(axis=0) if row.any() else 0 for face, row in zip(features, fit, strict=True)]

    def __call__(self, face: int, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """float32 [N, FEATURES], of the rows asked for; zero where a mask says no."""
        centred = (self._features[face] - self._means[face]).astype(np.float32)
        return centred * rows[:, None] if isinstance(rows, np.ndarray) else centred


def _drawn_alike(glyphs: _Glyphs, fit: np.ndarray) -> np.ndarray:
    """Which pairs of faces share their drawings, as a font and its proportional sister do, bool [F, F]."""
    shown = np.arange(0, fit.shape[1], math.ceil(fit.shape[1] / _SAMPLE))
    sample = np.stack([_unit(glyphs(face)[shown]) * row[shown, None] for face, row in enumerate(fit)])
    flat = sample.reshape(len(fit), -1)
    shared = fit[:, shown].astype(np.float32) @ fit[:, shown].T
    return (flat @ flat.T >= _SAME_DRAWING * shared) | np.eye(len(fit), dtype=bool)


def _judge(
    glyphs: _Glyphs, fit: np.ndarray, voices: np.ndarray, alike: np.ndarray, spread: float
) -> tuple[np.ndarray, np.ndarray]:
    total = reduce(add, (_Moments.of(glyphs(face, row), row) for face, row in enumerate(voices)))
    excess, nearest = np.full(fit.shape, np.nan, np.float32), np.full(fit.shape, -1)
    for face, row in enumerate(fit):
        # Neither a face nor its sisters may tell what its glyphs have to look like, or how far they may differ.
        others = total
        for sister in np.flatnonzero(alike[face]).tolist():
            others -= _Moments.of(glyphs(sister, voices[sister]), voices[sister])
        heard = others.count >= _FEWEST_VOICES
        judged = np.flatnonzero(row & heard)
        if not len(judged):
            continue
        whitening = others.whitening()
        own = _unit(glyphs(face)[judged] @ whitening)
        characters = _unit((others.mean * heard[:, None]) @ whitening)
        likeness, margin, nearest[face, judged] = _margins(own, characters, judged)
        excess[face, judged] = margin - _bound(likeness, margin, spread, int(np.median(others.count[judged])))
    return excess, nearest


def _bound(likeness: np.ndarray, margin: np.ndarray, spread: float, voices: int) -> float:
    """The largest margin that is no surprise in this face."""
    middle, high = np.quantile(margin, [0.5, 0.9])
    strangeness = _FAMILIAR - np.median(likeness)
    strictest = np.clip(_STRICTEST[0] + 0.6 * strangeness, *_STRICTEST)
    bound = max(middle + spread * (high - middle), strictest) + _NOISE / voices
    return float(min(bound, _MILDEST))


@dataclass(frozen=True)
class _Moments:
    """Of the glyphs of several faces: how many each character has, their sums, and the sum of all squares."""

    count: np.ndarray  # [N]
    sums: np.ndarray  # [N, FEATURES]
    squares: np.ndarray  # [FEATURES, FEATURES]

    @classmethod
    def of(cls, glyphs: np.ndarray, voices: np.ndarray) -> _Moments:
        return cls(voices.astype(np.int64), glyphs, (glyphs.T @ glyphs).astype(np.float64))

    def __add__(self, other: _Moments) -> _Moments:
        return _Moments(self.count + other.count, self.sums + other.sums, self.squares + other.squares)

    def __sub__(self, other: _Moments) -> _Moments:
        return _Moments(self.count - other.count, self.sums - other.sums, self.squares - other.squares)

    @property
    def mean(self) -> np.ndarray:
        return self.sums / np.maximum(1, self.count)[:, None].astype(np.float32)

    def whitening(self) -> np.ndarray:
        """float32 [FEATURES, FEATURES]: what makes the differences within characters equally large everywhere."""
        mean = self.mean
        within = self.squares - (mean.T * self.count) @ mean
        within += np.eye(FEATURES) * max(_SHRINKAGE * np.trace(within) / FEATURES, 1e-3)
        return np.linalg.cholesky(np.linalg.inv(within)).astype(np.float32)


def _margins(glyphs: np.ndarray, characters: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How like its own character each glyph is, how much more like another one, and which; -1 for none."""
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for first in range(0, len(glyphs), _ROWS_AT_ONCE):
        rows = slice(first, first + _ROWS_AT_ONCE)
        likeness = glyphs[rows] @ characters.T
        each = np.arange(len(likeness))
        to_own = likeness[each, own[rows]]
        likeness[each, own[rows]] = -np.inf
        other = likeness.argmax(axis=1)
        to_other = likeness[each, other]
        margin = np.maximum(to_other, _STRANGER) - to_own
        found.append((to_own, margin, np.where(to_other > _STRANGER, other, -1)))
    to_own, margin, nearest = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return to_own, margin, nearest


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)


def _square(ink: Image.Image) -> np.ndarray:
    """Fit the box into a square, less slender than it was, so that neither 一 nor 曰 turns into 口."""
    slenderness = min(ink.size) / max(ink.size)
    short = max(2, round(_SIDE * math.sqrt(math.sin(math.pi / 2 * slenderness))))
    size = (_SIDE, short) if ink.width >= ink.height else (short, _SIDE)
    square = Image.new("L", (_SIDE, _SIDE))
    corner = ((_SIDE - size[0]) // 2, (_SIDE - size[1]) // 2)
    square.paste(ink.resize(size, Image.Resampling.BILINEAR), corner)
    return np.asarray(square)


def _direction_histograms(squares: np.ndarray) -> np.ndarray:
    padded = np.pad(squares.astype(np.float32), ((0, 0), (1, 1), (1, 1)))
    upright = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    level = padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]
    right, down = upright[:, :, 2:] - upright[:, :, :-2], level[:, 2:] - level[:, :-2]
    strength = np.hypot(right, down)
    planes = [
        _BLUR @ np.maximum(cosine * right + sine * down - _NARROWEST * strength, 0) @ _BLUR.T
        for cosine, sine in _direction_vectors()
    ]
    histograms = np.sqrt(np.stack(planes, axis=1).reshape(len(squares), FEATURES))
    return np.minimum(np.rint(_unit(histograms) / _STEP), 255).astype(np.uint8)


def _direction_vectors() -> Iterator[tuple[float, float]]:
    for number in range(_DIRECTIONS):
        angle = 2 * math.pi * number / _DIRECTIONS
        yield math.cos(angle), math.sin(angle)


def _blur_matrix() -> np.ndarray:
    """float32 [_GRID, _SIDE]: a Gaussian around the middle of each cell."""
    cell = _SIDE / _GRID
    middles = (np.arange(_GRID)[:, None] + 0.5) * cell - 0.5
    weights = np.exp(-0.5 * ((np.arange(_SIDE) - middles) / (0.7 * cell)) ** 2)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


_BLUR = _blur_matrix()
_NARROWEST = math.cos(2 * math.pi / _DIRECTIONS)  # a direction takes gradients up to one step to either side
