"""The UNet's training samples: latents of glyphs and their captions, read from memory-mapped arrays."""

from __future__ import annotations

import hashlib
import logging
import math
import warnings
from collections.abc import Mapping
from fractions import Fraction
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import torch
from diffusers import AutoencoderKL
from pydantic import Field, RootModel

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.randomness import ROOT_OF_TWO, SampleRandom
from kanji_diffusion.core.settings import Settings
from kanji_diffusion.core.temporary import TemporaryArray
from kanji_diffusion.diffusion.conditioning import FIRST_CAPTION
from kanji_diffusion.diffusion.vae import ENCODED_AT_ONCE, encode, factor
from kanji_diffusion.glyphs.captions import caption_rows
from kanji_diffusion.glyphs.structure import STRUCTURE
from kanji_diffusion.imaging.pictures import blocks, open_images
from kanji_diffusion.imaging.resize import resize
from kanji_diffusion.training.protocols import Batch

logger = logging.getLogger(__name__)


class CaptionDropoutSettings(Settings):
    """How often a caption is replaced by the empty one, for classifier-free guidance (Ho and Salimans, 2022)."""

    rate: float = Field(0.1, ge=0, le=1, description="Share of reads that see the empty caption; 0 rules out guidance.")


class StyleRepeats(RootModel[dict[str, Annotated[float, Field(ge=0.1, le=100)]]]):
    """How often a glyph of a style is read while one of a style that is not named here is read once.

    "structure" stands for the glyphs that are drawn for their structure, whatever their style. Values are rounded to
    fractions with denominators up to 10.
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


def stage_glyphs(
    glyphs: pd.DataFrame,
    selected: pd.DataFrame,
    structure_glyphs: pd.DataFrame,
    reads: Literal["all", "styles", "structure"] = "all",
    views: int | None = None,
) -> pd.DataFrame:
    """The glyphs that a stage reads.

    Args:
        glyphs: Of `characters` in all faces.
        selected: Those of them that were not filtered out.
        structure_glyphs: Of structure characters.
        reads: `styles` are the selected glyphs, `structure` all characters in the faces of `structure_glyphs`.
        views: Views of each glyph; None for all.

    Raises:
        KanjiDiffusionError: If none is left.
    """
    kept = glyphs[glyphs["glyph_id"].isin(selected["glyph_id"])]
    if reads == "structure":
        kept = kept[kept["face_id"].isin(structure_glyphs["face_id"].unique())]
    if reads != "styles" and len(structure_glyphs):
        kept = pd.concat([kept, structure_glyphs], ignore_index=True)
    if views is not None:
        kept = kept[kept["view"] < views]
    if kept.empty:
        read = f"the glyphs of `reads: {reads}`" + (f", their first {views} views" if views else "")
        raise KanjiDiffusionError(
            f"A stage reads {read}, of which there is none: raise its `views`, change what it `reads`, loosen "
            "`filter`, or pin versions of `glyphs` and `selected_glyphs` that belong together with --load-versions."
        )
    return kept


def encode_glyphs(
    vae: AutoencoderKL, glyphs: pd.DataFrame, captions: pd.DataFrame, resolution: int, repeats: StyleRepeats
) -> dict[str, np.ndarray]:
    """Latent distributions of glyphs at one resolution, and their captions.

    Args:
        vae: Encodes, where it is.
        glyphs: Their pictures, characters and styles; those without a caption are left out.
        captions: Texts and their shares.
        resolution: Side of the pictures, in pixels.
        repeats: How often each style is read.

    Returns:
        `mean` and `std` `[N, C, h, w]`, in temporary files that are memory-mapped; `captions` and `shares` `[N, K]`,
        rows of the caption states and how often each is read; `repeats` `[N]`.

    Raises:
        KanjiDiffusionError: If the glyphs cannot be encoded at this resolution, or there is no room for the latents.
    """
    captioned = glyphs["character"].isin(captions["character"])
    if not captioned.all():
        logger.warning("%d glyphs have no caption and are left out of a stage.", (~captioned).sum())
        glyphs = glyphs[captioned]
    images = open_images(glyphs)
    rendered = images.shape[-1]
    if resolution > rendered or resolution % factor(vae):
        raise KanjiDiffusionError(
            f"A stage's resolution is {resolution} pixels: it must be a multiple of {factor(vae)}, which "
            f"one latent covers, and at most {rendered}, at which the glyphs were rendered (`render.size`)."
        )
    side = resolution // factor(vae)
    latents = {name: TemporaryArray((vae.config.latent_channels, side, side), np.float32) for name in ("mean", "std")}
    for pictures in blocks(images, ENCODED_AT_ONCE):
        for stored, encoded in zip(latents.values(), encode(vae, resize(pictures, resolution)), strict=True):
            stored.append(encoded)
    rows = caption_rows(glyphs, captions)
    return {
        **{name: stored.read() for name, stored in latents.items()},
        "captions": np.where(rows >= 0, rows + FIRST_CAPTION, -1),
        "shares": np.where(rows >= 0, captions["share"].to_numpy(dtype=np.float32)[rows], 0),
        "repeats": repeats.of(glyphs),
    }


class LatentDataset:
    """Latents with, at each read, one of their captions or the empty one.

    Args:
        latents: `mean` and `std`, float `[N, C, h, w]`, memory-mapped or not; nothing is copied but what is read.
        states: Caption states `[M, L, D]`, or tokens int64 `[M, L]`; entry 0 is the empty caption.
        captions: int64 `[N, K]`, the captions of each latent as rows of `states`; rows with fewer are padded by -1.
        dropout: Share of reads that see the empty caption.
        repeats: How often each latent is an entry of the dataset, int64 `[N]`; None for once each.
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

    @classmethod
    def of_stage(cls, encoded: Mapping[str, np.ndarray], states: np.ndarray, dropout: float) -> LatentDataset:
        """The dataset of what `encode_glyphs` returned."""
        latents = {name: encoded[name] for name in ("mean", "std")}
        return cls(latents, states, encoded["captions"], dropout, encoded["repeats"], encoded["shares"])

    def __reduce__(self) -> tuple[type[LatentDataset], tuple[Any, ...]]:
        # Pickled by its arguments, so that memory-mapped arrays may go to other processes by their path.
        return LatentDataset, self._arguments

    def __len__(self) -> int:
        """Number of entries."""
        return len(self.entries)

    def fingerprint(self) -> str:
        """Changes whenever a latent, a state, a caption, the dropout or a repetition changes."""
        digest = hashlib.sha256(str(self.dropout).encode())
        for tensor in (self.mean, self.std, self.states, self.captions, self.below, self.entries):
            digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def batch(self, index: torch.Tensor, random: SampleRandom) -> Batch:
        """`mean` and `std` `[B, C, h, w]` and the `states` `[B, L, D]`, or tokens `[B, L]`, of one caption each.

        The dropped captions lie evenly among the reads, so that every epoch has its share of them.
        """
        index = self.entries[index]
        choice = (self.below[index] <= random.uniform("caption")[:, None]).sum(dim=1).minimum(self.last[index])
        caption = self.captions[index, choice]
        caption[random.spread("dropout", ROOT_OF_TWO) < self.dropout] = 0
        return {"mean": self.mean[index], "std": self.std[index], "states": self.states[caption]}
