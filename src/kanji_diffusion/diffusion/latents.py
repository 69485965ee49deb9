"""The UNet's training samples: latents and caption states, gathered from memory-mapped arrays."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field, RootModel

from kanji_diffusion.core.randomness import ROOT_OF_TWO, SampleRandom
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.glyphs.structure import STRUCTURE
from kanji_diffusion.training.loop import Batch


class CaptionDropoutSettings(Settings):
    """How often a caption is replaced by the empty one, for classifier-free guidance (Ho and Salimans, 2022)."""

    rate: float = Field(0.1, ge=0, le=1)


class StyleRepeats(RootModel[dict[str, Annotated[float, Field(ge=0.1, le=100)]]]):
    """How often a glyph of a style is read while one of a style that is not named here is read once.

    "structure" stands for the glyphs that are drawn for their structure, whatever their style. Fractions are taken in
    tenths or simpler ones.
    """

    def of(self, glyphs: pd.DataFrame) -> np.ndarray:
        """Repetitions of `glyphs`, rows with style and split, int64 `[N]`: the smallest with these proportions."""
        often = {group: Fraction(times).limit_denominator(10) for group, times in self.root.items()}
        unit = math.lcm(*(times.denominator for times in often.values()))
        groups = glyphs["style"].mask(glyphs["split"] == STRUCTURE, STRUCTURE)
        return groups.map(lambda group: int(often.get(group, 1) * unit)).to_numpy(dtype=np.int64)


def read_only_tensor(array: np.ndarray) -> torch.Tensor:
    """A tensor on the memory of `array`, which may be a memory-mapped file; only what is read is loaded.

    Torch knows no read-only tensors and warns of each: whoever asks for one here must not write to it.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(array)


class LatentStore:
    """Latents with, at each read, one of their captions or the empty one.

    Args:
        latents: `mean` and `std`, float `[N, C, h, w]`, memory-mapped or not; nothing is copied but what is read.
        states: Caption states `[M, L, D]`, or tokens int64 `[M, L]`; entry 0 is the empty caption.
        captions: int64 `[N, K]`, the captions of each latent as rows of `states`; rows with fewer are padded by -1.
        dropout: Share of reads that see the empty caption.
        repeats: How often each latent is an entry of the store, int64 `[N]`; None for once each.
        shares: float `[N, K]`, how often each caption is read, those of a latent sum to 1; None for all alike.
    """

    def __init__(
        self,
        latents: Mapping[str, np.ndarray],
        states: np.ndarray,
        captions: np.ndarray,
        dropout: float,
        repeats: np.ndarray | None = None,
        shares: np.ndarray | None = None,
    ) -> None:
        self._arguments = dict(latents), states, captions, dropout, repeats, shares
        self.mean, self.std, self.states = map(read_only_tensor, (latents["mean"], latents["std"], states))
        self.captions = read_only_tensor(captions)
        real = self.captions >= 0
        alike = real / real.sum(dim=1, keepdim=True)
        self.below = (alike if shares is None else read_only_tensor(shares)).cumsum(dim=1).float()
        self.last = real.sum(dim=1) - 1
        self.dropout = dropout
        once = np.arange(len(self.mean))
        self.entries = torch.from_numpy(once if repeats is None else once.repeat(repeats))

    def __reduce__(self) -> tuple[type[LatentStore], tuple[Any, ...]]:
        # Pickled by its arguments, so that memory-mapped arrays may go to other processes by their path.
        return LatentStore, self._arguments

    def __len__(self) -> int:
        """Number of entries."""
        return len(self.entries)

    def fingerprint(self) -> str:
        """Changes whenever a latent, a state, a caption, the dropout or a repetition changes."""
        digest = hashlib.sha256(str(self.dropout).encode())
        for tensor in (self.mean, self.std, self.states, self.captions, self.below, self.entries):
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def gather(self, index: torch.Tensor, random: SampleRandom) -> Batch:
        """`mean` and `std` `[B, C, h, w]` and the `states` `[B, L, D]`, or tokens `[B, L]`, of one caption each.

        The dropped captions lie evenly among the reads, so that every epoch has its share of them.
        """
        index = self.entries[index]
        choice = (self.below[index] <= random.uniform("caption")[:, None]).sum(dim=1).minimum(self.last[index])
        caption = self.captions[index, choice]
        caption[random.spread("dropout", ROOT_OF_TWO) < self.dropout] = 0
        return {"mean": self.mean[index], "std": self.std[index], "states": self.states[caption]}
