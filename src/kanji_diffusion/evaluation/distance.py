"""How far apart two sets of pictures are, by their features."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from kanji_diffusion.core.spread import evenly
from kanji_diffusion.evaluation.intervals import Estimate

Kernel = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

_NEIGHBOURS = 3
_SUBSETS = 100


def polynomial_kernel(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The kernel of KID (Bińkowski et al., 2018) for features of length 1: (x·y + 1)³."""
    return (first @ second.T + 1) ** 3


def gaussian_kernel(width: float) -> Kernel:
    """The kernel of CMMD (Jayasumana et al., 2024): exp(-|x - y|² / 2 width²)."""
    return lambda first, second: torch.exp(-torch.cdist(first, second).square() / (2 * width**2))


def median_distance(features: np.ndarray, most: int = 1000) -> float:
    """Median distance between features `[N, F]`, the usual width of a Gaussian kernel."""
    rows = torch.as_tensor(features[evenly(len(features), most)])
    return float(torch.pdist(rows).median())


def squared_mmd(first: np.ndarray, second: np.ndarray, kernel: Kernel) -> float:
    """Unbiased squared maximum mean discrepancy (Gretton et al., 2012) of features `[N, F]` and `[M, F]`.

    0 on average when both come from one distribution, and then as often below it as above.
    """
    blocks = _kernel_blocks(first, second, kernel)
    return _mmd(blocks, torch.arange(len(first)), torch.arange(len(second)))


def mmd_interval(
    first: np.ndarray, second: np.ndarray, kernel: Kernel, groups: tuple[np.ndarray, np.ndarray], seed: int = 0
) -> Estimate:
    """`squared_mmd` with an interval by subsampling (Politis and Romano, 1994).

    Half of the groups are drawn at a time without replacement, since drawing a picture twice would bias an unbiased
    estimate; their deviations shrink by the square root of a half.

    Args:
        first: Features `[N, F]`.
        second: Features `[M, F]`.
        kernel: Similarity of two sets of features.
        groups: The character of each picture of both, which are drawn as wholes.
        seed: Of the draws.
    """
    blocks = _kernel_blocks(first, second, kernel)
    value = _mmd(blocks, torch.arange(len(first)), torch.arange(len(second)))
    names = np.unique(np.concatenate(groups))
    random = np.random.default_rng(seed)
    found = []
    for _ in range(_SUBSETS):
        drawn = random.choice(names, max(2, len(names) // 2), replace=False)
        here = [torch.from_numpy(np.flatnonzero(np.isin(group, drawn))) for group in groups]
        if min(map(len, here)) >= 2:
            found.append(_mmd(blocks, here[0], here[1]))
    if not found:
        return Estimate(value, value, value)
    deviations = (np.array(found) - value) * np.sqrt(0.5)
    low, high = np.quantile(deviations, (0.025, 0.975))
    return Estimate(value, float(value - high), float(value - low))


def _kernel_blocks(first: np.ndarray, second: np.ndarray, kernel: Kernel) -> tuple[torch.Tensor, ...]:
    one, other = torch.as_tensor(first).double(), torch.as_tensor(second).double()
    return kernel(one, one), kernel(other, other), kernel(one, other)


def _mmd(blocks: tuple[torch.Tensor, ...], first: torch.Tensor, second: torch.Tensor) -> float:
    within = []
    for block, here in zip(blocks[:2], (first, second), strict=True):
        part = block[here][:, here]
        within.append((part.sum() - part.trace()) / (len(here) * (len(here) - 1)))
    return float(within[0] + within[1] - 2 * blocks[2][first][:, second].mean())


def precision_recall(generated: np.ndarray, real: np.ndarray, neighbours: int = _NEIGHBOURS) -> dict[str, float]:
    """How much of what is drawn is real, and how much of the real is drawn, by nearest neighbours.

    `precision` is the share of generated features within reach of a real one and `recall` the share of real ones
    within reach of a generated one, the reach being the distance to the k-th neighbour of its own set
    (Kynkäänniemi et al., 2019). `density` counts the real ones in reach and `coverage` asks of every real one
    whether a generated one lies nearer than its k-th neighbour; outliers disturb these less (Naeem et al., 2020).

    Args:
        generated: Features `[N, F]`.
        real: Features `[M, F]`.
        neighbours: k; fewer when a set is smaller.
    """
    drawn, true = torch.as_tensor(generated), torch.as_tensor(real)
    apart = torch.cdist(drawn, true)
    reach_true, reach_drawn = _reach(true, neighbours), _reach(drawn, neighbours)
    within = apart <= reach_true[None]
    return {
        "precision": float(within.any(dim=1).double().mean()),
        "recall": float((apart <= reach_drawn[:, None]).any(dim=0).double().mean()),
        "density": float(within.double().sum(dim=1).mean() / min(neighbours, len(true) - 1)),
        "coverage": float(within.any(dim=0).double().mean()),
    }


def _reach(features: torch.Tensor, neighbours: int) -> torch.Tensor:
    apart = torch.cdist(features, features)
    return apart.topk(min(neighbours + 1, len(features)), dim=1, largest=False).values[:, -1]
