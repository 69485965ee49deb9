"""Muon: momentum whose matrices are brought to singular values near one before each step.

In the gradient of a convolution or a linear layer a few directions outweigh all others; made orthogonal, the rare ones
are learnt as fast as the common ones (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks").
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import nn

# Factors of x, x^3 and x^5, turn by turn: each polynomial is the one nearest to 1, by its largest error, over the range
# in which the one before leaves singular values that were 0.01 or more of the matrix's norm (Amsel et al. 2025, "The
# Polar Express"). After three they lie between 0.73 and 1.27; Jordan's, which is the same in every turn, needs five.
_QUINTICS = (8.0934, -23.6204, 17.4462), (3.6366, -2.7219, 0.5365), (2.6613, -1.9772, 0.4526)
# The cost grows with the cube of the shorter side: longer ones are cut into blocks, each made orthogonal by itself.
_BLOCK = 64
# A matrix with a shorter side than this, such as a picture's first convolution, is left to another optimizer.
_SHORTEST = 32


def is_matrix(parameter: nn.Parameter) -> bool:
    """Whether Muon trains `parameter`: a weight of 32 outputs and 32 inputs or more, each tap of a kernel an input."""
    return parameter.ndim > 1 and min(len(parameter), parameter[0].numel()) >= _SHORTEST


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov's momentum and decoupled weight decay.

    A step is as large as AdamW's, 0.2 of the learning rate in root mean square, so that both share a learning rate (Liu
    et al. 2025, "Muon is scalable for LLM training", arXiv:2502.16982).

    Args:
        parameters: Those of which `is_matrix` is true; the first dimension is the output's.
        lr: Learning rate.
        momentum: Share of the past in the mean of the gradients.
        weight_decay: Share of the learning rate by which weights shrink in a step.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.9, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Take one step along the gradients; there is no closure that could be called again."""
        for group in self.param_groups:
            given = [each for each in group["params"] if each.grad is not None]
            blocks = [_blocks(each) for each in self._ahead(given, group["momentum"])]
            turned = iter(orthogonal([block for several in blocks for block in several]))
            for parameter, several in zip(given, blocks, strict=True):
                update = torch.cat([next(turned) for _ in several])
                if _tall(parameter):
                    update = update.T
                if group["weight_decay"]:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                rate = 0.2 * math.sqrt(several[0].shape[1]) * group["lr"]
                parameter.add_(update.reshape(parameter.shape), alpha=-rate)

    def _ahead(self, parameters: list[nn.Parameter], momentum: float) -> list[torch.Tensor]:
        """The mean of each one's gradients, the newest counted once more."""
        for each in parameters:
            if not self.state[each]:
                self.state[each]["momentum"] = torch.zeros_like(each)
        means = [self.state[each]["momentum"] for each in parameters]
        newest = [each.grad for each in parameters if each.grad is not None]
        torch._foreach_lerp_(means, newest, 1 - momentum)
        return list(torch._foreach_lerp(newest, means, momentum))


def _tall(values: torch.Tensor) -> bool:
    return len(values) > values[0].numel()


def _blocks(values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """`values` as matrices that are wider than high, of at most 64 rows."""
    matrix = values.reshape(len(values), -1)
    if _tall(values):
        matrix = matrix.T
    return matrix.chunk(math.ceil(len(matrix) / _BLOCK))


def orthogonal(blocks: list[torch.Tensor]) -> list[torch.Tensor]:
    """Each matrix `[m, n]`, m <= n, with the same singular vectors and singular values of about one.

    The polynomial of X is turned on X X' alone, `[m, m]`, and multiplied with X once.
    """
    places: dict[torch.Size, list[int]] = defaultdict(list)
    for place, block in enumerate(blocks):
        places[block.shape].append(place)
    turned: list[torch.Tensor] = [torch.empty(0)] * len(blocks)
    for rows in {shape[0] for shape in places}:
        alike = {shape: found for shape, found in places.items() if shape[0] == rows}
        stacks = [torch.stack([blocks[place] for place in found]) for found in alike.values()]
        factors = _factors(torch.cat([stack @ stack.mT for stack in stacks])).split([len(stack) for stack in stacks])
        for found, factor, stack in zip(alike.values(), factors, stacks, strict=True):
            for place, result in zip(found, factor @ stack, strict=True):
                turned[place] = result
    return turned


def _factors(squares: torch.Tensor) -> torch.Tensor:
    """What X is multiplied with, from X X' `[k, m, m]`."""
    size = squares.diagonal(dim1=1, dim2=2).sum(dim=1)[:, None, None] + 1e-14
    squares, factors = squares / size, size.rsqrt()
    for turn, (one, cubic, quintic) in enumerate(_QUINTICS):
        step = torch.baddbmm(squares, squares, squares, beta=cubic, alpha=quintic)
        step.diagonal(dim1=1, dim2=2).add_(one)
        factors = step * factors if turn == 0 else step @ factors
        if turn < len(_QUINTICS) - 1:
            squares = step @ squares @ step
    return factors
