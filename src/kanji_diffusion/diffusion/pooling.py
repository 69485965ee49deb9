"""Whitening of the text that a UNet pools into its time embedding.

A text encoder's states lie close together: most of what they hold is the same in every caption, and what tells one
meaning from another lies in directions that hardly vary, which gradient descent learns late. While it is trained, a
UNet therefore pools states that are uncorrelated over the captions and of deviation 1 (LeCun et al., "Efficient
BackProp", 1998). Afterwards the map is multiplied into the pooling's own weights, so that the trained UNet is a stock
`UNet2DConditionModel`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from diffusers import UNet2DConditionModel
from diffusers.models.embeddings import AttentionPooling, TextTimeEmbedding
from torch import nn

# Captions whose states are looked at, and the share of the largest variance below which a direction is noise.
_CAPTIONS = 4096
_NOISE = 1e-4


def whitening(states: np.ndarray) -> dict[str, np.ndarray]:
    """What whitens the states of captions, normalised as the pooling sees them.

    It is kept beside the states rather than found anew: its last bits depend on the number of threads, and a training
    that is continued must start from the same ones.

    Args:
        states: Text states `[M, L, D]`, those of the empty caption first.

    Returns:
        `mean` `[D]`, the symmetric matrix `whitening` `[D, D]` that what is left is multiplied by, and its `inverse`;
        float64.
    """
    captions = np.unique(np.linspace(1, len(states) - 1, _CAPTIONS, dtype=np.int64))
    seen = F.layer_norm(torch.as_tensor(states[captions]), states.shape[-1:]).flatten(0, 1).double()
    variances, directions = torch.linalg.eigh(torch.cov(seen.T))
    deviations = variances.clamp(min=_NOISE * float(variances[-1])).sqrt()
    return {
        "mean": seen.mean(dim=0).numpy(),
        "whitening": (directions / deviations @ directions.T).numpy(),
        "inverse": (directions * deviations @ directions.T).numpy(),
    }


class WhitenedPooling(nn.Module):
    """Attention pooling of states that are mapped first.

    Args:
        pool: Pools what is mapped.
        mean: Subtracted from the states, `[D]`.
        matrix: What they are then multiplied by, `[D, D]`.
    """

    mean: torch.Tensor
    matrix: torch.Tensor

    def __init__(self, pool: AttentionPooling, mean: torch.Tensor, matrix: torch.Tensor) -> None:
        super().__init__()
        self.pool = pool
        self.register_buffer("mean", mean.float())
        self.register_buffer("matrix", matrix.float())

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Pooled `[B, D]` of normalised `states` `[B, L, D]`."""
        # The directions that vary least are lost in bfloat16.
        with torch.autocast(states.device.type, enabled=False):
            states = (states.float() - self.mean) @ self.matrix
        return self.pool(states)


def start_whitened(unet: UNet2DConditionModel, captions: Mapping[str, np.ndarray]) -> None:
    """Let the random weights of `unet` be those of whitened pooling, in place.

    Args:
        unet: Has just been made; one that pools no text is left as it is.
        captions: What `whitening` returned.
    """
    if pools_text(unet):
        _rebase(unet.add_embedding.pool, *_maps(captions))


@contextmanager
def whitened_pooling(unet: UNet2DConditionModel, captions: Mapping[str, np.ndarray]) -> Iterator[None]:
    """Within it `unet` is trained with whitened pooling; what it computes is the same before, within and after.

    Args:
        unet: Changed in place; one that pools no text is left as it is.
        captions: What `whitening` returned.
    """
    if not pools_text(unet):
        yield
        return
    pool, (mean, matrix, inverse) = unet.add_embedding.pool, _maps(captions)
    _rebase(pool, -mean @ matrix, inverse, matrix)
    unet.add_embedding.pool = WhitenedPooling(pool, mean, matrix)
    yield
    unet.add_embedding.pool = pool
    _rebase(pool, mean, matrix, inverse)


def pools_text(unet: UNet2DConditionModel) -> bool:
    """Whether `unet` pools the text states into its time embedding."""
    return isinstance(getattr(unet, "add_embedding", None), TextTimeEmbedding)


def _maps(captions: Mapping[str, np.ndarray]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    mean, matrix, inverse = (torch.tensor(captions[name]) for name in ("mean", "whitening", "inverse"))
    return mean, matrix, inverse


@torch.no_grad()
def _rebase(pool: AttentionPooling, mean: torch.Tensor, matrix: torch.Tensor, inverse: torch.Tensor) -> None:
    """Make `pool`, which takes (x - `mean`) `matrix`, take x instead, in place."""
    for linear in (pool.q_proj, pool.k_proj, pool.v_proj):
        weight = linear.weight.double() @ matrix.T
        linear.bias.copy_(linear.bias.double() - weight @ mean)
        linear.weight.copy_(weight)
    # Added to the mean of the states, of which `mean` is subtracted there.
    pool.positional_embedding.copy_(pool.positional_embedding.double() @ inverse)
