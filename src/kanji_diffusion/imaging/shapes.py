"""Pictures as shapes: brought to one place and size, so that what differs is what was drawn."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom

from kanji_diffusion.imaging.pictures import Images
from kanji_diffusion.imaging.resize import interpolate, to_ink
from kanji_diffusion.imaging.warp import warp_ink

_WORKING_SIDE = 32  # the shape of a glyph is still whole at this size, and comparing thousands is cheap
_REACH = 2.1  # of the ink's root mean square distance from its centre: holds nearly all ink of a glyph
_QUERIES_AT_ONCE = 256


def shape_vectors(images: Images, side: int = 24) -> np.ndarray:
    """Describe pictures by their ink after centring and scaling it by its first two moments.

    Args:
        images: uint8 `[N, H, W]`, 0 ink, 255 paper.
        side: Side of the aligned picture in samples.

    Returns:
        float32 `[N, side * side]`, mean 0 and length 1 each, so that their products are correlations; all zero for
        a picture without ink.
    """
    parts = [_aligned(images[first : first + 1024], side) for first in range(0, len(images), 1024)]
    return np.concatenate(parts) if parts else np.empty((0, side * side), np.float32)


def _aligned(images: np.ndarray, side: int) -> np.ndarray:
    ink = interpolate(to_ink(np.ascontiguousarray(images)), _WORKING_SIDE)
    place = torch.linspace(-1, 1, 2 * _WORKING_SIDE + 1)[1::2]
    mass = ink.sum(dim=(1, 2, 3)).clamp(min=1e-6)
    across, down = ink.sum(dim=(1, 2)), ink.sum(dim=(1, 3))
    x, y = (across @ place) / mass, (down @ place) / mass
    spread = ((across @ place.square() + down @ place.square()) / mass - x.square() - y.square()) / 2
    reach = _REACH * spread.clamp(min=1e-4).sqrt()
    zero = torch.zeros_like(x)
    matrix = torch.stack([torch.stack([reach, zero, x], dim=1), torch.stack([zero, reach, y], dim=1)], dim=1)
    soft = F.avg_pool2d(ink, 3, stride=1, padding=1)
    vectors = warp_ink(soft, matrix, size=(side, side)).flatten(1)
    vectors = vectors - vectors.mean(dim=1, keepdim=True)
    return F.normalize(vectors, dim=1, eps=1e-6).numpy()


@dataclass(frozen=True)
class Nearest:
    """The nearest references of each query.

    Attributes:
        index: int64 `[N, K]`, rows of the references, nearest first.
        similarity: Correlations float32 `[N, K]`.
    """

    index: np.ndarray
    similarity: np.ndarray


def nearest(queries: np.ndarray, references: np.ndarray, count: int = 1) -> Nearest:
    """Find the references that each query is most like.

    Args:
        queries: Vectors `[N, F]` of length 1.
        references: Vectors `[M, F]` of length 1.
        count: How many are found, at most M.
    """
    bank = torch.as_tensor(references)
    index, similarity = [], []
    for first in range(0, len(queries), _QUERIES_AT_ONCE):
        products = torch.as_tensor(queries[first : first + _QUERIES_AT_ONCE]) @ bank.T
        best = products.topk(min(count, len(bank)), dim=1)
        index.append(best.indices.numpy())
        similarity.append(best.values.numpy())
    return Nearest(np.concatenate(index), np.concatenate(similarity))
