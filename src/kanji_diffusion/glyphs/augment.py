"""Small changes that keep a character what it is: rotation, shift, scale, shear and weight, never a flip."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable, Iterator
from typing import Self

import numpy as np
from PIL import Image
from pydantic import Field, model_validator

from kanji_diffusion.settings_model import Settings

MARGIN = 1 / 64
"""Share of the square that stays paper along every edge."""


class AugmentSettings(Settings):
    """Ranges that each augmented view is drawn from, uniformly."""

    rotation: float = Field(default=0.0, ge=0, le=20, description="Degrees to either side.")
    shift: float = Field(default=0.0, ge=0, le=0.25, description="Share of the square, along each axis.")
    scale: tuple[float, float] = Field(default=(1.0, 1.0), description="Smallest and largest factor.")
    aspect: float = Field(default=0.0, ge=0, le=0.3, description="Relative change of width against height.")
    shear: float = Field(default=0.0, ge=0, le=15, description="Degrees of slant to either side.")
    weight: tuple[float, float] = Field(
        default=(0.0, 0.0),
        description="Stroke edges moved by this share of the square: negative thins, positive thickens.",
    )

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        if not 0.5 <= self.scale[0] <= self.scale[1] <= 1.5:
            raise ValueError(f"scale {self.scale} must be two growing factors between 0.5 and 1.5")
        if not -MARGIN <= self.weight[0] <= self.weight[1] <= MARGIN:
            raise ValueError(f"weight {self.weight} must be two growing shares between -1/64 and 1/64")
        return self


def augment_views(ink: Image.Image, size: int, settings: AugmentSettings, keys: Iterable[str]) -> list[Image.Image]:
    """Draw augmented views of one glyph.

    Args:
        ink: The glyph at the size of the views, or twice that so that small views stay sharp, mode "L",
            0 = paper, 255 = ink, with paper of at least `MARGIN` along its edges.
        size: Side of a view in pixels.
        settings: Ranges.
        keys: What the random draw of each view is a function of.

    Returns:
        One picture per key, `size` x `size`, mode "L", 0 = paper, 255 = ink. No ink leaves the square: a
        glyph that would is moved back, and made smaller if it does not fit at all.
    """
    pixels = np.asarray(ink)
    outline = _outline(pixels) - ink.width / 2
    if outline.size == 0:
        return [Image.new("L", (size, size)) for _ in keys]
    return [_augment_view(pixels, outline, size, settings, key) for key in keys]


def _augment_view(
    pixels: np.ndarray, outline: np.ndarray, size: int, settings: AugmentSettings, key: str
) -> Image.Image:
    symmetric = ((-half, half) for half in (settings.rotation, settings.shear, settings.aspect))
    ranges = (*symmetric, settings.scale, *[(-settings.shift, settings.shift)] * 2, settings.weight)
    angle, shear, aspect, scale, right, down, weight = (
        low + (high - low) * part for (low, high), part in zip(ranges, _uniforms(key), strict=False)
    )
    side = len(pixels)
    matrix = _linear_map(math.radians(angle), math.radians(shear), aspect, scale * size / side)
    moved = outline @ matrix.T
    # Half a pixel of the drawing is how far interpolation smears its edge.
    growth = (max(0, math.ceil(weight * side)) + 0.5) * np.abs(matrix).sum(axis=1)
    low, high = moved.min(axis=0) - growth, moved.max(axis=0) + growth
    room = size * (1 - 2 * MARGIN)
    fit = min(1.0, room / max(high - low))
    matrix, low, high = matrix * fit, low * fit, high * fit
    target = np.array([0.5 + right, 0.5 + down]) * size
    target = np.clip(target, size * MARGIN - low, size * (1 - MARGIN) - high)
    (a, b), (c, d) = matrix.tolist()
    back = np.array([[d, -b], [-c, a]]) / (a * d - b * c)
    offset = side / 2 - back @ target
    return Image.fromarray(change_weight(pixels, weight * side)).transform(
        (size, size),
        Image.Transform.AFFINE,
        (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1]),
        Image.Resampling.BILINEAR,
    )


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
