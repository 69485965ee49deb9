"""Synthetic degradations of glyph pictures, by an amount in [0, 1], with the same effect at every resolution."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom

from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.imaging.resize import to_ink
from kanji_diffusion.imaging.warp import smooth_field, warp_ink

Degradation = Callable[[torch.Tensor, torch.Tensor, SampleRandom], torch.Tensor]
"""Ink `[B, 1, H, W]` in [0, 1] (1 = ink), amounts `[B, 1, 1, 1]` and random numbers → degraded ink, not clamped."""

_GRAINS = 64
_SPOTS = 8
_BATCH = 256


def _pixels(ink: torch.Tensor, share: float) -> int:
    """A length given as a share of the side, in whole pixels."""
    return max(1, round(share * ink.shape[-1]))


def _spread(ink: torch.Tensor, share: float, pool: Callable[..., torch.Tensor]) -> torch.Tensor:
    reach = _pixels(ink, share)
    rows = pool(ink, (2 * reach + 1, 1), stride=1, padding=(reach, 0))
    return pool(rows, (1, 2 * reach + 1), stride=1, padding=(0, reach))


def _grains(grains: torch.Tensor, ink: torch.Tensor) -> torch.Tensor:
    return F.interpolate(grains, ink.shape[-2:], mode="nearest")


def _clouds(random: SampleRandom, ink: torch.Tensor, cells: int) -> torch.Tensor:
    """Smooth noise in [0, 1], `[B, 1, H, W]`."""
    return smooth_field(random.uniform("clouds", 1, cells, cells), ink.shape[-2:]).clamp(0, 1)


def _places(ink: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Column and row of every pixel, in [-0.5, 0.5]."""
    line = torch.linspace(-0.5, 0.5, ink.shape[-1])
    y, x = torch.meshgrid(line, line, indexing="ij")
    return x, y


def blur(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    """Soft edges."""
    soft = _spread(_spread(ink, 0.03, F.avg_pool2d), 0.03, F.avg_pool2d)
    return torch.lerp(ink, soft, 0.3 + 0.7 * amount)


def noise(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    """Gaussian grain all over."""
    return ink + (0.05 + 0.35 * amount) * _grains(random.normal("noise", 1, _GRAINS, _GRAINS), ink)


def jagged(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    """Edges in steps, as of a small bitmap enlarged."""
    coarse = F.interpolate(F.avg_pool2d(ink, _pixels(ink, 1 / 16)), ink.shape[-2:], mode="nearest")
    return torch.lerp(ink, (coarse > 0.4).float(), 0.4 + 0.6 * amount)


def broken(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    """Pieces of strokes missing."""
    holes = (random.uniform("holes", 1, 8, 8) < 0.08 + 0.3 * amount).float()
    return ink * (1 - _grains(holes, ink))


def merged(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    """Ink that ran, so that strokes touch."""
    return torch.lerp(ink, _spread(ink, 0.05, F.max_pool2d), 0.35 + 0.65 * amount)


def clipped(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    """The left side cut off."""
    cut = (0.12 + 0.3 * amount) * ink.shape[-1]
    return ink * (torch.arange(ink.shape[-1])[None, None, None, :] >= cut).float()


def scratched(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    """White lines across."""
    x, y = _places(ink)
    angle = (random.uniform("angle", _SPOTS) * torch.pi)[:, :, None, None]
    offset = ((random.uniform("offset", _SPOTS) - 0.5) * 0.6)[:, :, None, None]
    shown = torch.arange(_SPOTS)[None, :, None, None] < 1 + 5 * amount
    lines = ((x * angle.cos() + y * angle.sin() - offset).abs() < 0.018) & shown
    return ink * (1 - lines.any(dim=1, keepdim=True).float())


def blotted(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    """Drops of ink."""
    x, y = _places(ink)
    centre = (random.uniform("centre", 2, _SPOTS) - 0.5)[:, :, :, None, None]
    radius = (0.015 + 0.05 * random.uniform("radius", _SPOTS))[:, :, None, None]
    shown = (torch.arange(_SPOTS)[None, :, None, None] < 1 + 7 * amount).float()
    drops = ((radius - torch.hypot(x - centre[:, 0], y - centre[:, 1])) * ink.shape[-1] + 0.5).clamp(0, 1) * shown
    return torch.maximum(ink, drops.amax(dim=1, keepdim=True))


def smeared(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    """Wet ink drawn out to one side."""
    angle = random.uniform("angle") * 2 * torch.pi
    way = 0.2 * torch.stack([angle.cos(), angle.sin()], dim=1)
    trail = [(1 - step / 7) * _moved(ink, way * step / 6) for step in range(1, 7)]
    return torch.maximum(ink, (0.15 + 0.75 * amount) * torch.stack(trail).amax(dim=0))


def wobbly(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    """Strokes drawn by a trembling hand."""
    wave = smooth_field(random.uniform("wave", 2, 16, 16) - 0.5, ink.shape[-2:])
    return _moved(ink, torch.zeros(len(ink), 2), (wave * (0.05 + 0.15 * amount)).permute(0, 2, 3, 1))


def speckle(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    """Salt and pepper."""
    draw = _grains(random.uniform("speckle", 1, _GRAINS, _GRAINS), ink)
    share = 0.01 + 0.08 * amount
    return torch.where(draw < share, 1.0, torch.where(draw > 1 - share, 0.0, ink))


def ghost(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    """A second, paler print beside the first."""
    angle = random.uniform("angle") * 2 * torch.pi
    distance = (0.12 + 0.16 * random.uniform("distance"))[:, None]
    second = _moved(ink, distance * torch.stack([angle.cos(), angle.sin()], dim=1))
    return torch.maximum(ink, (0.2 + 0.6 * amount) * second)


def faded(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    """Ink that is uneven, and pale in places."""
    return ink * (1 - (0.25 + 0.75 * amount) * _clouds(random, ink, 4).sqrt())


def worn(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    """Strokes eaten from their edges, and through where they are thin."""
    clouds = _clouds(random, ink, 16)
    inner = 1 - _spread(1 - ink, 1 / 64, F.max_pool2d)
    edge = (ink - inner) * (clouds > 0.3 + 0.4 * amount)
    return inner * (clouds > 0.1 + 0.35 * amount) + edge


def torn(ink: torch.Tensor, amount: torch.Tensor, random: SampleRandom) -> torch.Tensor:
    """A share of the ink cut off by a slanted line."""
    x, y = _places(ink)
    angle = (random.uniform("angle") * 2 * torch.pi)[:, None, None]
    order = (x * angle.cos() + y * angle.sin()).flatten(1).argsort(dim=1)
    mass = ink.flatten(1).gather(1, order).cumsum(dim=1)
    left = (mass <= (0.9 - 0.4 * amount[:, :, 0, 0]) * mass[:, -1:]).float()
    return ink * torch.zeros_like(mass).scatter(1, order, left).view_as(ink)


def _moved(ink: torch.Tensor, shift: torch.Tensor, wave: torch.Tensor | float = 0.0) -> torch.Tensor:
    """Ink sampled at places moved by `shift` `[B, 2]` (2 is the side) and `wave` `[B, H, W, 2]`."""
    matrix = torch.eye(2, 3).repeat(len(ink), 1, 1)
    matrix[:, :, 2] = shift
    return warp_ink(ink, matrix, wave)


TRAINING: dict[str, Degradation] = {
    each.__name__: each for each in (blur, noise, jagged, broken, merged, clipped, scratched, blotted, smeared, wobbly)
}
"""What the aesthetic head is trained on."""

HELD_OUT: dict[str, Degradation] = {each.__name__: each for each in (speckle, ghost, faded, worn, torn)}
"""What it is only evaluated on."""


def corrupt(images: np.ndarray, kind: str, amount: float, seed: int) -> np.ndarray:
    """Degrade pictures uint8 `[N, H, W]` by `kind` (of `TRAINING` or `HELD_OUT`) with `amount` in [0, 1]."""
    degrade = (TRAINING | HELD_OUT)[kind]
    degraded = np.empty_like(images)
    for first in range(0, len(images), _BATCH):
        ink = to_ink(images[first : first + _BATCH])
        random = SampleRandom(seed, torch.arange(first, first + len(ink)))
        worse = degrade(ink, torch.full((len(ink), 1, 1, 1), amount), random).clamp(0, 1)
        degraded[first : first + _BATCH] = ((1 - worse) * 255).round().byte()[:, 0].numpy()
    return degraded
