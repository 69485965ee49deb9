"""Exponential moving average of a module's weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn


def ema_decay(step: int, limit: float) -> float:
    """The decay used after optimizer step `step` (counted from 0).

    It warms up as (1 + step) / (10 + step), so that early weights are forgotten fast and short runs are not
    averages of their own beginnings.
    """
    return min(limit, (1 + step) / (10 + step))


class ExponentialMovingAverage:
    """Averages every floating-point entry of a module's state; other entries are copied.

    Args:
        module: The module that is trained.
        decay: The decay after warm-up, in [0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}
        self._averaged = [name for name, value in self.state.items() if value.is_floating_point()]
        self._copied = [name for name in self.state if name not in set(self._averaged)]

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Move the average towards `module` after optimizer step `step`."""
        live = module.state_dict()
        averages = [self.state[name] for name in self._averaged]
        torch._foreach_lerp_(averages, [live[name] for name in self._averaged], 1 - ema_decay(step, self.decay))
        for name in self._copied:
            self.state[name].copy_(live[name])

    @torch.no_grad()
    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Replace the average by `state`, which has the same names and shapes."""
        for name, value in self.state.items():
            value.copy_(state[name])
