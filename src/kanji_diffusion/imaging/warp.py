"""Random changes of training pictures that keep the character: warps, stroke weight, blur."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from pydantic import Field

from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.core.settings import Settings


class BendSettings(Settings):
    """How hard the pictures are bent that a reader is trained on."""

    rotation: float = Field(8.0, ge=0, description="Degrees, each way.")
    shear: float = Field(0.15, ge=0, description="Tangent of the slant, each way.")
    scale: tuple[float, float] = Field((0.75, 1.15), description="Smallest and largest factor, for each axis.")
    shift: float = Field(0.08, ge=0, description="Share of the side, each way.")
    bend: float = Field(0.06, ge=0, description="Amplitude of a smooth warp, share of the side.")
    weight: float = Field(0.5, ge=0, le=1, description="Share of pictures with thinner or thicker strokes.")
    blur: float = Field(0.3, ge=0, le=1, description="Share of pictures blurred to half their resolution.")


def bend(pixels: torch.Tensor, random: SampleRandom, settings: BendSettings) -> torch.Tensor:
    """Random affine and smooth warps, stroke weight and blur of pictures `[B, 1, H, W]` in [-1, 1]."""
    count, _, height, width = pixels.shape
    draw = random.uniform("affine", 6) * 2 - 1
    angle = draw[:, 0] * (settings.rotation * torch.pi / 180)
    low, high = settings.scale
    zoom = 1 / (low + (high - low) * (draw[:, 1:3] + 1) / 2)
    shear = draw[:, 3] * settings.shear
    matrix = torch.stack(
        [
            torch.stack([zoom[:, 0] * angle.cos(), shear - angle.sin(), draw[:, 4] * 2 * settings.shift], dim=1),
            torch.stack([angle.sin(), zoom[:, 1] * angle.cos(), draw[:, 5] * 2 * settings.shift], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(matrix, [count, 1, height, width], align_corners=False)
    warp = (random.uniform("bend", 2, 4, 4) * 2 - 1) * 2 * settings.bend
    grid = grid + F.interpolate(warp, (height, width), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    ink = F.grid_sample(1 - pixels, grid, align_corners=False)
    kind, thicker = random.uniform("weight"), random.uniform("thicker") < 0.5
    grown = F.max_pool2d(ink, 3, stride=1, padding=1)
    thinned = 2 - F.max_pool2d(2 - ink, 3, stride=1, padding=1)
    changed = 0.5 * ink + 0.5 * torch.where(thicker[:, None, None, None], grown, thinned)
    ink = torch.where((kind < settings.weight)[:, None, None, None], changed, ink)
    blurred = F.interpolate(F.avg_pool2d(ink, 2), (height, width), mode="bilinear")
    ink = torch.where((random.uniform("blur") < settings.blur)[:, None, None, None], blurred, ink)
    return 1 - ink
