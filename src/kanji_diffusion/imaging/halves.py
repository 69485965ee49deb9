"""Halves of pictures joined to new pictures, and smudges: what the component recogniser learns and is checked on.

A character of two parts side by side, or one above the other, is cut where the least ink is. The first half of one and
the second half of another make a character that no font has, whose parts are nevertheless known.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom

from kanji_diffusion.imaging.warp import dilate

_MIDDLE = (0.25, 0.75)
_BATCH = 4096
# Share of the side over which a smudge reaches, from the least to the most.
_REACHES = (0.08, 0.12, 0.16)


def cut_lines(images: np.ndarray) -> torch.Tensor:
    """Where pictures uint8 `[N, H, W]` have the least ink in the middle of their extent.

    Returns:
        Column and row as shares of the side, float32 `[N, 2]`: what is before them is the first half.
    """
    parts = [images[first : first + _BATCH] for first in range(0, len(images), _BATCH)]
    lines = [np.stack([_emptiest(part, axis) for axis in (1, 2)], axis=1) for part in parts]
    return torch.as_tensor(np.concatenate([np.empty((0, 2)), *lines]), dtype=torch.float32)


def _emptiest(images: np.ndarray, axis: int) -> np.ndarray:
    profile = (255 - images.astype(np.float32)).sum(axis=axis)
    place = np.arange(profile.shape[1])[None]
    inked = profile > 0.02 * profile.max(axis=1, keepdims=True)
    first = inked.argmax(axis=1)[:, None]
    last = profile.shape[1] - 1 - inked[:, ::-1].argmax(axis=1)[:, None]
    low, high = (first + share * (last - first) for share in _MIDDLE)
    # A stroke that crosses the line costs; of equally empty places the one nearest to the middle is taken.
    cost = profile + 0.02 * profile.max(axis=1, keepdims=True) * np.abs(place - (first + last) / 2)
    return (np.where((place >= low) & (place <= high), cost, np.inf).argmin(axis=1) + 0.5) / profile.shape[1]


def join_halves(
    first: torch.Tensor,
    second: torch.Tensor,
    first_span: torch.Tensor,
    second_span: torch.Tensor,
    line: torch.Tensor,
    upright: torch.Tensor,
) -> torch.Tensor:
    """Pictures whose halves come from two others, stretched to meet at a line.

    Args:
        first: Where the left or top half comes from, ink `[B, 1, H, W]` in [0, 1].
        second: Where the right or bottom half comes from.
        first_span: From where to where in `first`, as shares of the side, `[B, 2]`.
        second_span: From where to where in `second`.
        line: Where the halves meet, as a share of the side, `[B]`.
        upright: Whether the line is a column, bool `[B]`; a row otherwise.

    Returns:
        Ink `[B, 1, H, W]`.
    """
    side = first.shape[-1]
    place = (torch.arange(side) + 0.5) / side
    before = place < line[:, None]
    to_first = first_span[:, :1] + place * (first_span[:, 1:] - first_span[:, :1]) / line[:, None]
    share = (place - line[:, None]) / (1 - line[:, None])
    to_second = second_span[:, :1] + share * (second_span[:, 1:] - second_span[:, :1])
    mask = torch.where(upright[:, None, None], before[:, None, :], before[:, :, None])[:, None]
    return torch.where(mask, _resampled(first, to_first, upright), _resampled(second, to_second, upright))


def _resampled(ink: torch.Tensor, along: torch.Tensor, upright: torch.Tensor) -> torch.Tensor:
    """Ink sampled at the places `along` `[B, S]` (shares of the side) in one direction, unchanged in the other."""
    # Not `warp_ink`: an affine map gives other roundings, on which the weights of trained recognisers depend.
    side = ink.shape[-1]
    plain = ((torch.arange(side) + 0.5) / side).expand(len(ink), side)
    x = torch.where(upright[:, None], along, plain)[:, None, :].expand(-1, side, -1)
    y = torch.where(upright[:, None], plain, along)[:, :, None].expand(-1, -1, side)
    return F.grid_sample(ink, 2 * torch.stack([x, y], dim=-1) - 1, align_corners=False)


def smudge(ink: torch.Tensor, kind: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
    """Pictures whose strokes run together.

    Args:
        ink: `[B, 1, H, W]` in [0, 1].
        kind: In [0, 1), `[B]`: below a half blurred, above it with the room between the strokes filled.
        reach: In [0, 1), `[B]`: over how much of the side.
    """
    levels = []
    for share in _REACHES:
        size = 2 * round(share * ink.shape[-1] / 2) + 1
        blurred = _box(_box(ink, size), size)
        closed = 1 - dilate(1 - dilate(ink, size // 2), size // 2)
        levels.append(torch.where((kind < 0.5)[:, None, None, None], blurred, _box(closed, 3)))
    level = (reach * len(levels)).long()
    return torch.stack(levels)[level, torch.arange(len(ink))]


def _box(ink: torch.Tensor, size: int) -> torch.Tensor:
    return F.avg_pool2d(ink, size, stride=1, padding=size // 2)


def changed_ink(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """How much of the ink `[B, 1, H, W]` is elsewhere afterwards, as a share of the ink that there was, `[B]`."""
    return (after - before).abs().sum(dim=(1, 2, 3)) / before.sum(dim=(1, 2, 3)).clamp(min=1e-6)
