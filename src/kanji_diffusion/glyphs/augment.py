"""Small changes that keep a character what it is: place, slant, weight, bent strokes, uneven ink; never a flip.

This module imports little, because the child processes of `render` do.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

MARGIN = 1 / 64
"""Share of the square that stays paper along every edge."""

_BENDS = 4  # knots of the bending field along a side: neighbouring strokes bend together, and no stroke folds
_OCTAVES = {6: 0.5, 24: 0.25, 96: 0.25}  # knots of a texture along a side, from clouds to grain, and their shares


@dataclass(frozen=True)
class Ranges:
    """The fields of `render.AugmentSettings`, which describes and checks them; pydantic is slow to import."""

    rotation: float
    shift: float
    scale: tuple[float, float]
    aspect: float
    shear: float
    weight: tuple[float, float]
    elastic: float
    ink_texture: float
    paper_texture: float


def augment_views(ink: Image.Image, size: int, ranges: Ranges, keys: Iterable[str]) -> list[Image.Image]:
    """Draw augmented views of one glyph.

    Args:
        ink: The glyph at the size of the views, or twice that so that small views stay sharp, mode "L",
            0 = paper, 255 = ink, with paper of at least `MARGIN` along its edges.
        size: Side of a view in pixels.
        ranges: What each view is drawn from.
        keys: What the random draw of each view is a function of.

    Returns:
        One picture per key, `size` x `size`, mode "L", 0 = paper, 255 = ink. No ink leaves the square: a
        glyph that would is moved back, and made smaller if it does not fit at all.
    """
    pixels = np.asarray(ink)
    outline = _outline(pixels) - ink.width / 2
    if outline.size == 0:
        return [Image.new("L", (size, size)) for _ in keys]
    return [_augment_view(pixels, outline, size, ranges, key) for key in keys]


def _augment_view(pixels: np.ndarray, outline: np.ndarray, size: int, ranges: Ranges, key: str) -> Image.Image:
    symmetric = ((-half, half) for half in (ranges.rotation, ranges.shear, ranges.aspect))
    intervals = (
        *symmetric,
        ranges.scale,
        *[(-ranges.shift, ranges.shift)] * 2,
        ranges.weight,
        (0, ranges.elastic),
    )
    angle, shear, aspect, scale, right, down, weight, bend = (
        low + (high - low) * part for (low, high), part in zip(intervals, _uniforms(key), strict=True)
    )
    side = len(pixels)
    matrix = _linear_map(math.radians(angle), math.radians(shear), aspect, scale * size / side)
    moved = outline @ matrix.T
    # Half a pixel of the drawing is how far interpolation smears its edge.
    growth = (max(0, math.ceil(weight * side)) + 0.5) * np.abs(matrix).sum(axis=1)
    low, high = moved.min(axis=0) - growth, moved.max(axis=0) + growth
    room = size * (1 - 2 * MARGIN - 2 * bend)
    fit = min(1.0, room / max(high - low))
    matrix, low, high = matrix * fit, low * fit, high * fit
    target = np.array([0.5 + right, 0.5 + down]) * size
    target = np.clip(target, size * (MARGIN + bend) - low, size * (1 - MARGIN - bend) - high)
    (a, b), (c, d) = matrix.tolist()
    back = np.array([[d, -b], [-c, a]]) / (a * d - b * c)
    offset = side / 2 - back @ target
    ink = change_weight(pixels, weight * side)
    if bend:
        view = _bent(ink, back, offset, bend * size, size, key)
    else:
        view = Image.fromarray(ink).transform(
            (size, size),
            Image.Transform.AFFINE,
            (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1]),
            Image.Resampling.BILINEAR,
        )
    return _textured(view, ranges, key)


def _bent(ink: np.ndarray, back: np.ndarray, offset: np.ndarray, bend: float, size: int, key: str) -> Image.Image:
    """Map the drawing onto the square, and move each point by up to `bend` pixels along a smooth random field.

    After Simard, Steinkraus and Platt, "Best practices for convolutional neural networks applied to visual
    document analysis" (ICDAR 2003).
    """
    y, x = np.mgrid[:size, :size] + 0.5
    x += bend * (2 * _field(f"{key}/bend x", _BENDS, size) - 1)
    y += bend * (2 * _field(f"{key}/bend y", _BENDS, size) - 1)
    return _bilinear(ink, back[0, 0] * x + back[0, 1] * y + offset[0], back[1, 0] * x + back[1, 1] * y + offset[1])


def _bilinear(ink: np.ndarray, x: np.ndarray, y: np.ndarray) -> Image.Image:
    """Read a drawing at points given in pixels from its corner; there is paper around it."""
    height, width = ink.shape
    padded = np.pad(ink, 1).astype(np.float32)
    x, y = np.clip(x + 0.5, 0, width + 0.999), np.clip(y + 0.5, 0, height + 0.999)
    column, row = x.astype(np.intp), y.astype(np.intp)
    right, below = (x - column).astype(np.float32), (y - row).astype(np.float32)
    corner = row * (width + 2) + column
    flat = padded.ravel()
    upper = flat[corner] + right * (flat[corner + 1] - flat[corner])
    lower = flat[corner + width + 2] + right * (flat[corner + width + 3] - flat[corner + width + 2])
    return Image.fromarray((upper + below * (lower - upper) + 0.5).astype(np.uint8))


def _textured(view: Image.Image, ranges: Ranges, key: str) -> Image.Image:
    """Let the ink run dry in places, and give the paper a shade."""
    if not ranges.ink_texture and not ranges.paper_texture:
        return view
    ink_strength, paper_strength, *_ = _uniforms(f"{key}/texture")
    ink = np.asarray(view, dtype=np.float32) / 255
    if ranges.ink_texture:
        dry = np.clip(3 * _noise(f"{key}/ink", view.width) - 1.2, 0, 1)
        ink *= 1 - ranges.ink_texture * ink_strength * dry
    if ranges.paper_texture:
        shade = np.clip(2 * _noise(f"{key}/paper", view.width) - 0.5, 0, 1)
        ink += (1 - ink) * (ranges.paper_texture * paper_strength * shade)
    return Image.fromarray((255 * ink + 0.5).astype(np.uint8))


def change_weight(ink: np.ndarray, pixels: float) -> np.ndarray:
    """Move the edges of strokes.

    Args:
        ink: uint8 [H, W], 0 = paper, 255 = ink.
        pixels: How far, outwards when positive; fractions blend the two nearest whole steps.

    Returns:
        uint8 [H, W].
    """
    if pixels < 0:
        return 255 - change_weight(255 - ink, -pixels)
    previous = current = ink
    for step in range(math.ceil(pixels)):
        previous, current = current, _dilate(current, diagonal=bool(step % 2))
    part = 1 - (math.ceil(pixels) - pixels)
    if previous is current or part == 1:
        return current
    return (previous + part * (current.astype(np.float32) - previous) + 0.5).astype(np.uint8)


def _dilate(ink: np.ndarray, diagonal: bool) -> np.ndarray:
    """One pixel outwards; alternating the two neighbourhoods keeps round ends nearly round."""
    tall = ink.copy()
    np.maximum(tall[1:], ink[:-1], out=tall[1:])
    np.maximum(tall[:-1], ink[1:], out=tall[:-1])
    source = tall if diagonal else ink
    wide = tall.copy()
    np.maximum(wide[:, 1:], source[:, :-1], out=wide[:, 1:])
    np.maximum(wide[:, :-1], source[:, 1:], out=wide[:, :-1])
    return wide


def _linear_map(angle: float, shear: float, aspect: float, scale: float) -> np.ndarray:
    rotation = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    slant = np.array([[1.0, -math.tan(shear)], [0.0, 1.0]])
    stretch = np.diag([math.exp(aspect / 2), math.exp(-aspect / 2)])
    return scale * rotation @ slant @ stretch


def _outline(ink: np.ndarray) -> np.ndarray:
    """Corners of the first and last ink pixel of every row: they hold every extreme of any linear map."""
    has_ink = ink > 0
    rows = np.flatnonzero(has_ink.any(axis=1))
    first = has_ink[rows].argmax(axis=1)
    last = ink.shape[1] - has_ink[rows, ::-1].argmax(axis=1)
    x = np.concatenate([first, first, last, last])
    y = np.concatenate([rows, rows + 1, rows, rows + 1])
    return np.stack([x, y], axis=1).astype(np.float64)


def _uniforms(key: str) -> Iterator[float]:
    """Eight numbers in [0, 1) that depend on the key alone, the same on every platform."""
    digest = hashlib.blake2b(key.encode(), digest_size=64).digest()
    return (word / 2.0**64 for word in struct.unpack("<8Q", digest))


def _field(key: str, knots: int, size: int) -> np.ndarray:
    """A smooth random field over the square: uniform numbers at `knots` x `knots` places, cubic in between.

    Returns:
        float32 [size, size] in [0, 1], a function of the key alone, alike at every size.
    """
    values = Image.fromarray(_many_uniforms(key, knots**2).reshape(knots, knots))
    return np.clip(np.asarray(values.resize((size, size), Image.Resampling.BICUBIC)), 0, 1)


def _noise(key: str, size: int) -> np.ndarray:
    """Clouds with grain in them, float32 [size, size] around 0.5, alike at every size."""
    octaves = [share * _field(f"{key} {knots}", knots, size) for knots, share in _OCTAVES.items()]
    return np.sum(octaves, axis=0)


def _many_uniforms(key: str, count: int) -> np.ndarray:
    """Numbers in [0, 1), float32 [count], that depend on the key alone, the same on every platform: SplitMix64."""
    start = np.frombuffer(hashlib.blake2b(key.encode(), digest_size=8).digest(), dtype="<u8")
    x = start + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
