"""Geometric warps of pictures, and the random augmentation of training pictures that is made of them."""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from pydantic import Field

from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.core.settings import Settings


class WarpSettings(Settings):
    """How strongly training pictures of a recogniser are augmented."""

    rotation: float = Field(8.0, ge=0, description="Degrees, each way.")
    shear: float = Field(0.15, ge=0, description="Tangent of the slant, each way.")
    scale: tuple[float, float] = Field((0.75, 1.15), description="Smallest and largest factor, for each axis.")
    shift: float = Field(0.08, ge=0, description="Share of the side, each way.")
    bend: float = Field(0.06, ge=0, description="Amplitude of a smooth warp, share of the side.")
    weight: float = Field(0.5, ge=0, le=1, description="Share of pictures with thinner or thicker strokes.")
    blur: float = Field(0.3, ge=0, le=1, description="Share of pictures blurred to half their resolution.")


def warp_pictures(pixels: torch.Tensor, random: SampleRandom, settings: WarpSettings) -> torch.Tensor:
    """Random affine and smooth warps, stroke weight and blur of pictures `[B, 1, H, W]` in [-1, 1].

    The character stays the same.
    """
    height, width = pixels.shape[-2:]
    displacement = smooth_field((random.uniform("bend", 2, 4, 4) * 2 - 1) * 2 * settings.bend, (height, width))
    ink = warp_ink(1 - pixels, _affine(random, settings), displacement.permute(0, 2, 3, 1))
    kind, thicker = random.uniform("weight"), random.uniform("thicker") < 0.5
    changed = 0.5 * ink + 0.5 * torch.where(thicker[:, None, None, None], dilate(ink), 2 - dilate(2 - ink))
    ink = torch.where((kind < settings.weight)[:, None, None, None], changed, ink)
    blurred = F.interpolate(F.avg_pool2d(ink, 2), (height, width), mode="bilinear")
    ink = torch.where((random.uniform("blur") < settings.blur)[:, None, None, None], blurred, ink)
    return 1 - ink


def _affine(random: SampleRandom, settings: WarpSettings) -> torch.Tensor:
    """Random affine maps `[B, 2, 3]`."""
    draw = random.uniform("affine", 6) * 2 - 1
    angle = draw[:, 0] * (settings.rotation * torch.pi / 180)
    low, high = settings.scale
    zoom = 1 / (low + (high - low) * (draw[:, 1:3] + 1) / 2)
    shear = draw[:, 3] * settings.shear
    return torch.stack(
        [
            torch.stack([zoom[:, 0] * angle.cos(), shear - angle.sin(), draw[:, 4] * 2 * settings.shift], dim=1),
            torch.stack([angle.sin(), zoom[:, 1] * angle.cos(), draw[:, 5] * 2 * settings.shift], dim=1),
        ],
        dim=1,
    )


def warp_ink(
    ink: torch.Tensor,
    matrix: torch.Tensor,
    displacement: torch.Tensor | float = 0.0,
    size: tuple[int, int] | None = None,
) -> torch.Tensor:
    """Ink sampled bilinearly at warped places; there is no ink outside of a picture.

    Args:
        ink: `[B, 1, H, W]`, 0 for paper.
        matrix: Affine map from each place of the result to its place in `ink`, `[B, 2, 3]`; both in [-1, 1].
        displacement: What is added to the places in `ink`, `[B, *size, 2]`.
        size: Height and width of the result; None for those of `ink`.
    """
    grid = F.affine_grid(matrix, [len(ink), 1, *(size or ink.shape[-2:])], align_corners=False)
    return F.grid_sample(ink, grid + displacement, align_corners=False)


def smooth_field(knots: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """Values `[B, C, K, K]` on a coarse grid, interpolated bicubically to `[B, C, *size]`."""
    # One direction after the other, as matrix products: a tenth of the time of `F.interpolate` on the whole.
    down, across = (_bicubic(knots.shape[-1], length) for length in size)
    return down @ knots @ across.T


@cache
def _bicubic(knots: int, length: int) -> torch.Tensor:
    """Weights of each knot at each place, `[length, knots]`."""
    return F.interpolate(torch.eye(knots)[None, None], (length, knots), mode="bicubic", align_corners=True)[0, 0]


def dilate(ink: torch.Tensor, reach: int = 1) -> torch.Tensor:
    """The most ink within `reach` pixels in each direction, `[B, 1, H, W]`: `F.max_pool2d` in a tenth of its time."""
    for axis in (2, 3):
        last = ink.shape[axis] - 1
        for _ in range(reach):
            most = ink.clone()
            most.narrow(axis, 0, last).copy_(torch.maximum(most.narrow(axis, 0, last), ink.narrow(axis, 1, last)))
            most.narrow(axis, 1, last).copy_(torch.maximum(most.narrow(axis, 1, last), ink.narrow(axis, 0, last)))
            ink = most
    return ink
