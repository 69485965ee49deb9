"""Random numbers that are a pure function of (seed, purpose, global sample index, element).

No generator state exists, so nothing has to be saved, restored or divided among workers: whoever computes
sample 4711 draws the same timestep and noise for it. The generator is SplitMix64 (Steele, Lea and Flood,
"Fast splittable pseudorandom number generators", OOPSLA 2014) used in counter mode; normals are by Box-Muller.
"""

from __future__ import annotations

import math
import zlib

import torch

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
ROOT_OF_TWO = math.sqrt(2) - 1


def _shift_right(x: torch.Tensor, bits: int) -> torch.Tensor:
    # torch shifts int64 arithmetically; the mask makes the shift logical.
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: torch.Tensor) -> torch.Tensor:
    x = (x ^ _shift_right(x, 30)) * -4658895280553007687
    x = (x ^ _shift_right(x, 27)) * -7723592293110705685
    return x ^ _shift_right(x, 31)


class SampleRandom:
    """The random numbers of a batch of samples, one row for each sample.

    Args:
        seed: The run's seed.
        sample: Global sample indices, int64 `[B]`: how many samples the run had drawn before each of these.
    """

    def __init__(self, seed: int, sample: torch.Tensor) -> None:
        self.seed = seed
        self.sample = sample

    def _bits(self, purpose: str, count: int) -> torch.Tensor:
        # Filled on the device: a copy would wait for all that an accelerator still computes.
        key = torch.full((1,), self.seed * 1_000_003 + zlib.crc32(purpose.encode()), device=self.sample.device)
        rows = _mix(_mix(key) + self.sample * _GOLDEN)
        elements = torch.arange(1, count + 1, device=self.sample.device) * _GOLDEN
        return _mix(rows[:, None] + elements)

    def uniform(self, purpose: str, *shape: int) -> torch.Tensor:
        """Uniform numbers in [0, 1), float32 `[B, *shape]`."""
        bits = self._bits(purpose, math.prod(shape))
        return (_shift_right(bits, 40).float() * 2.0**-24).view(len(self.sample), *shape)

    def normal(self, purpose: str, *shape: int) -> torch.Tensor:
        """Standard normal numbers, float32 `[B, *shape]`."""
        count = math.prod(shape)
        bits = self._bits(purpose, (count + 1) // 2)
        radius = torch.sqrt(-2 * torch.log((_shift_right(bits, 40).float() + 1) * 2.0**-24))
        angle = (_shift_right(bits, 16) & 0xFFFFFF).float() * (2 * math.pi * 2.0**-24)
        both = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
        return both[:, :count].reshape(len(self.sample), *shape)

    def integers(self, purpose: str, high: torch.Tensor | int) -> torch.Tensor:
        """Integers in [0, high), int64 `[B]`; `high` is one bound or one for each sample, below 2**24."""
        return (self.uniform(purpose) * high).long()

    def spread(self, purpose: str, pace: float = GOLDEN_RATIO) -> torch.Tensor:
        """Uniform numbers in [0, 1), float32 `[B]`, that lie evenly within every run of consecutive samples.

        The additive recurrence of an irrational `pace` with a random start: a batch then covers the interval
        like a stratified draw, yet each number depends on its own sample index alone. Two purposes need two paces
        (GOLDEN_RATIO, ROOT_OF_TWO), or one would follow the other.
        """
        start = SampleRandom(self.seed, torch.zeros(1, dtype=torch.long, device=self.sample.device))
        offset = start.uniform(purpose).double()
        return ((self.sample.double() * pace + offset) % 1).float().clamp_(max=1 - 2.0**-24)


def sample_order(seed: int, sample: torch.Tensor, size: int) -> torch.Tensor:
    """Which dataset entry each global sample index reads: every entry once per epoch, in a new order each epoch.

    Args:
        seed: The run's seed.
        sample: Global sample indices, int64 `[B]`.
        size: Number of entries in the dataset.

    Returns:
        Dataset indices in [0, size), int64 `[B]`.
    """
    epochs = torch.div(sample, size, rounding_mode="floor")
    chosen = torch.empty_like(sample)
    for epoch in epochs.unique().tolist():
        order = torch.randperm(size, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
        here = epochs == epoch
        chosen[here] = order[sample[here] - epoch * size]
    return chosen
