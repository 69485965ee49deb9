"""The optimizers of one module, as one: AdamW for all parameters, or Muon for matrices and AdamW for the others."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from kanji_diffusion.training.muon import Muon, is_matrix
from kanji_diffusion.training.settings import TrainingSettings


class Optimizers:
    """AdamW for all parameters of `module` that are trained, or Muon for the matrices and AdamW for the others.

    Weights of embeddings are no matrices to Muon: a batch has gradients for few of their rows, and orthogonalised, the
    others would move as far by what is left of earlier ones.

    Args:
        module: On the device that it is trained on; every parameter with `requires_grad` is trained.
        settings: How.

    Attributes:
        parameters: Those that are trained.
        optimizers: One or two.
    """

    def __init__(self, module: nn.Module, settings: TrainingSettings) -> None:
        self._named = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self.parameters = list(self._named.values())
        tables = {part.weight for part in module.modules() if isinstance(part, nn.Embedding)}
        matrices = [
            each for each in self.parameters if settings.optimizer == "muon" and is_matrix(each) and each not in tables
        ]
        others = [each for each in self.parameters if each not in set(matrices)]
        self.optimizers: list[torch.optim.Optimizer] = []
        if others:
            self.optimizers.append(_adamw(others, settings))
        if matrices:
            self.optimizers.append(Muon(matrices, settings.learning_rate, settings.betas[0], settings.weight_decay))
        self._owners = {
            parameter: optimizer
            for optimizer in self.optimizers
            for group in optimizer.param_groups
            for parameter in group["params"]
        }

    def set_learning_rate(self, rate: float) -> None:
        """Take the next step with the learning rate `rate`."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate

    def step(self) -> None:
        """Take one step along the gradients."""
        for optimizer in self.optimizers:
            optimizer.step()

    def zero_grad(self) -> None:
        """Remove all gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The moments by `slot/name of the parameter`."""
        return {
            f"{slot}/{name}": value
            for name, parameter in self._named.items()
            for slot, value in self._owners[parameter].state[parameter].items()
        }

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Replace the moments by those that `state_dict` returned."""
        for key, value in state.items():
            slot, name = key.split("/", 1)
            parameter = self._named[name]
            # A moment has the memory layout of its parameter.
            moment = value if slot == "step" else torch.empty_like(parameter).copy_(value)
            self._owners[parameter].state[parameter][slot] = moment


def _adamw(parameters: list[nn.Parameter], settings: TrainingSettings) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=settings.betas,
        weight_decay=settings.weight_decay,
        fused=parameters[0].device.type in ("cpu", "cuda"),
    )
