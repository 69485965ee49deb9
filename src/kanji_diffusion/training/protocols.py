"""What the training loop needs of a dataset and of a loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from PIL import Image
from torch import nn

from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.training.settings import TrainingSettings

Batch = dict[str, torch.Tensor]


class IndexedDataset(Protocol):
    """An indexed collection of training samples."""

    def __len__(self) -> int:
        """Number of entries."""

    def batch(self, index: torch.Tensor, random: SampleRandom) -> Batch:
        """The entries `index` (int64 `[B]`) as tensors with leading dimension B."""

    def fingerprint(self) -> str:
        """Changes whenever the contents change."""


@dataclass
class LossOutput:
    """What a loss returns: the mean to minimise, and values to report.

    Attributes:
        loss: Scalar, with gradients.
        terms: Per-sample values by name, detached, `[n]`; NaN where a sample has none (outside a timestep bin).
    """

    loss: torch.Tensor
    terms: dict[str, torch.Tensor]


class Loss(Protocol):
    """What a module is trained to make small.

    One that compares the samples of a batch with each other, or whose module does, says so by an attribute
    `whole_batch = True`: no part of the batch then has a loss of its own.
    """

    # Any: each loss knows the module that it trains.
    def __call__(self, module: Any, batch: Batch, random: SampleRandom, /) -> LossOutput:
        """Loss of one batch."""

    def fingerprint(self) -> str:
        """Changes whenever a setting or a weight changes by which the loss judges."""


Sheet = Callable[[nn.Module], Image.Image]
"""Draws samples of a module."""


class Train(Protocol):
    """`loop.train`, or `launch.train` on a cluster, with tracker and checkpoints given."""

    def __call__(
        self,
        module: nn.Module,
        loss: Loss,
        dataset: IndexedDataset,
        settings: TrainingSettings,
        *,
        name: str,
        sheet: Sheet | None = None,
    ) -> nn.Module:
        """Train `module` and return it; see `loop.train`."""
