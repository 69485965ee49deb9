"""What training changes of a module, and its exponential moving average."""

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


def trained_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """The live entries of the module's state, without the parameters that are frozen."""
    frozen = {name for name, value in module.named_parameters(remove_duplicate=False) if not value.requires_grad}
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


@torch.no_grad()
def load_trained_state(module: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Give the entries of `trained_state` the values of `state`, which has all of them."""
    for name, value in trained_state(module).items():
        value.copy_(state[name])


class ExponentialMovingAverage:
    """Averages every floating-point entry of what is trained of a module; other entries are copied.

    Args:
        module: The module that is trained. Its parameters and buffers must be changed in place only.
        decay: The decay after warm-up, in [0, 1).
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        live = trained_state(module)
        self.state = {name: value.clone() for name, value in live.items()}
        averaged = [name for name, value in live.items() if value.is_floating_point()]
        self._averages, self._live = [self.state[name] for name in averaged], [live[name] for name in averaged]
        self._copies = [(self.state[name], live[name]) for name in live.keys() - set(averaged)]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the average towards the module after optimizer step `step`."""
        torch._foreach_lerp_(self._averages, self._live, 1 - ema_decay(step, self.decay))
        for copy, value in self._copies:
            copy.copy_(value)

    @torch.no_grad()
    def load(self, state: Mapping[str, torch.Tensor]) -> None:
        """Replace the average by `state`, which has the same names and shapes."""
        for name, value in self.state.items():
            value.copy_(state[name])
