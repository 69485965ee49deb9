"""Pictures at another size or in another range."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom

from kanji_diffusion.core.temporary import TemporaryArray
from kanji_diffusion.imaging.pictures import Images, blocks

_BATCH = 1024


def to_model_range(images: torch.Tensor | np.ndarray) -> torch.Tensor:
    """uint8 pictures `[B, H, W]` (0 ink, 255 paper) as float32 `[B, 1, H, W]` in [-1, 1]."""
    return torch.as_tensor(images)[:, None].float() / 127.5 - 1


def to_ink(images: torch.Tensor | np.ndarray) -> torch.Tensor:
    """uint8 pictures `[B, H, W]` (0 ink, 255 paper) as ink, float32 `[B, 1, H, W]` in [0, 1] (1 ink, 0 paper)."""
    return 1 - torch.as_tensor(images)[:, None].float() / 255


def resize(images: np.ndarray, side: int) -> np.ndarray:
    """Pictures uint8 `[N, H, W]` at the size `[N, side, side]` by area averaging, as a UNet is trained on them."""
    return _resize(images, side, lambda pixels: F.interpolate(pixels, (side, side), mode="area"))


def resize_bilinear(images: np.ndarray, side: int) -> np.ndarray:
    """Pictures uint8 `[N, H, W]` at the size `[N, side, side]` by `interpolate`, as a recogniser is trained on them."""
    return _resize(images, side, lambda pixels: interpolate(pixels, side))


def resize_all(images: Images, side: int) -> Images:
    """`resize_bilinear` of pictures that need not fit in memory: the result is memory-mapped.

    Raises:
        KanjiDiffusionError: If there is no room for its temporary file.
    """
    if images.shape[-1] == side:
        return images
    resized = TemporaryArray((side, side), np.uint8)
    for block in blocks(images):
        resized.append(resize_bilinear(block, side))
    return resized.read()


def interpolate(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """Pictures `[B, C, H, W]` at the size `[B, C, side, side]`: bilinear, with antialiasing."""
    if pixels.shape[-1] == side:
        return pixels
    return F.interpolate(pixels, (side, side), mode="bilinear", antialias=True)


def _resize(images: np.ndarray, side: int, scale: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
    if images.shape[-1] == side:
        return images
    resized = np.empty((len(images), side, side), np.uint8)
    for first in range(0, len(images), _BATCH):
        pixels = torch.as_tensor(images[first : first + _BATCH])[:, None].float()
        resized[first : first + _BATCH] = scale(pixels).round().byte()[:, 0]
    return resized
