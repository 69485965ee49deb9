"""Is a sample drawn, or is it a training glyph again?

The character is asked for, so a sample is bound to resemble the training glyphs of it. What makes a copy is to be much
nearer to the glyph of one face than to the glyph of any other face: the ratio test of Lowe (2004), with glyphs of
faces that the model never saw to say how small a ratio chance brings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from kanji_diffusion.imaging.pictures import Images
from kanji_diffusion.imaging.shapes import shape_vectors

_MOST_PROBES = 1000
_QUERIES_AT_ONCE = 256
# Distances below are those of one picture to itself, smeared by rounding.
_SMALLEST = 1e-4


@dataclass(frozen=True)
class Copies:
    """What `CopyCheck.check` found.

    Attributes:
        glyph: Row of the nearest training picture of each sample, int64 `[N]`.
        ratio: Distance to it over the distance to the nearest glyph of the character in another face, float32 `[N]`;
            0 for the training picture itself, about 1 for what lies between the faces.
        copied: Whether that is less than glyphs of unseen faces reach, bool `[N]`.
    """

    glyph: np.ndarray
    ratio: np.ndarray
    copied: np.ndarray


class CopyCheck:
    """Compares samples with every training picture; the threshold of each style is calibrated on real glyphs.

    Half of the characters of the held-out faces set the threshold, the other half checks it (`false_alarms`). How
    many real copies are found (`found`) is measured on augmented views of training glyphs, each looked for among the
    other views. Without held-out faces nothing counts as a copy.

    Args:
        training: Rows with `glyph_id`, `character`, `style`, `face_id` and `view` of the training pictures.
        training_images: The pictures, uint8 `[N, H, W]`.
        held: The same rows of faces that were not trained on.
        held_images: Their pictures.
        false_alarms: Share of real unseen glyphs that the threshold lets pass for copies.
        seed: Of the choice of characters.
    """

    def __init__(
        self,
        training: pd.DataFrame,
        training_images: Images,
        held: pd.DataFrame,
        held_images: Images,
        false_alarms: float = 0.01,
        seed: int = 0,
    ) -> None:
        self.training = training.reset_index(drop=True)
        self._characters, self._faces = (
            torch.from_numpy(pd.factorize(self.training[name])[0]) for name in ("character", "face_id")
        )
        self._bank = torch.from_numpy(shape_vectors(training_images))
        self.thresholds: dict[str, float] = {}
        self.threshold, self.false_alarms = 0.0, float("nan")
        if len(held):
            self._calibrate(held.reset_index(drop=True), held_images, false_alarms, seed)
        self.found = self._probe(seed)

    def check(self, styles: pd.Series, images: np.ndarray) -> Copies:
        """Look for pictures uint8 `[N, H, W]` of the given `styles` among the training pictures."""
        glyph, ratio = self._ratios(torch.from_numpy(shape_vectors(images)))
        return Copies(glyph, ratio, ratio < self._limits(styles))

    def _ratios(self, queries: torch.Tensor, itself: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        glyphs, ratios = [], []
        for first in range(0, len(queries), _QUERIES_AT_ONCE):
            alike = queries[first : first + _QUERIES_AT_ONCE] @ self._bank.T
            rows = torch.arange(len(alike))
            if itself is not None:
                alike[rows, torch.from_numpy(itself[first : first + _QUERIES_AT_ONCE])] = -1
            best, glyph = alike.max(dim=1)
            same = self._characters[None] == self._characters[glyph][:, None]
            elsewhere = same & (self._faces[None] != self._faces[glyph][:, None])
            second = alike.masked_fill(~elsewhere, -1).max(dim=1).values
            ratios.append((1 - best).clamp(min=_SMALLEST) / (1 - second).clamp(min=_SMALLEST))
            glyphs.append(glyph)
        return torch.cat(glyphs).numpy(), torch.cat(ratios).numpy()

    def _limits(self, styles: pd.Series) -> np.ndarray:
        return np.array([self.thresholds.get(style, self.threshold) for style in styles], dtype=np.float32)

    def _calibrate(self, held: pd.DataFrame, images: Images, false_alarms: float, seed: int) -> None:
        _, ratio = self._ratios(torch.from_numpy(shape_vectors(images)))
        names = np.random.default_rng(seed).permutation(np.array(held["character"].unique(), dtype=object))
        chosen = held["character"].isin(names[: -(-len(names) // 2)]).to_numpy()
        self.threshold = float(np.quantile(ratio[chosen], false_alarms))
        for style in held["style"].unique():
            here = chosen & (held["style"] == style).to_numpy()
            if here.any():
                self.thresholds[style] = float(np.quantile(ratio[here], false_alarms))
        if not chosen.all():
            self.false_alarms = float((ratio < self._limits(held["style"]))[~chosen].mean())

    def _probe(self, seed: int) -> float:
        views = np.flatnonzero(self.training["view"] > 0)
        if not len(views):
            return float("nan")
        probes = np.random.default_rng(seed).permutation(views)[:_MOST_PROBES]
        _, ratio = self._ratios(self._bank[torch.from_numpy(probes)], probes)
        return float((ratio < self._limits(self.training["style"].iloc[probes])).mean())


def faces_used(faces: pd.Series, styles: pd.Series, offered: pd.DataFrame) -> float:
    """How evenly samples spread over the training faces of the styles that they were asked for in.

    The number of faces in use is the exponential of the entropy of the samples' nearest training faces, divided by
    that of samples which draw all faces of each style equally often: 1 at best, 1 / (number of faces) for a model that
    has collapsed to one.

    Args:
        faces: Nearest training face of each sample, `[N]`.
        styles: Style that each was asked for in, `[N]`.
        offered: Rows with `style` and `face_id` of the training faces.

    Returns:
        The share; not a number if there is one face only.
    """
    pairs = offered[["style", "face_id"]].drop_duplicates()
    asked = styles.value_counts(normalize=True)
    even = pairs["style"].map(asked).fillna(0) / pairs.groupby("style")["face_id"].transform("size")
    even = even[even > 0]
    if len(even) < 2:
        return float("nan")
    return min(1.0, float(np.exp(_entropy(faces.value_counts(normalize=True)) - _entropy(even / even.sum()))))


def _entropy(shares: pd.Series) -> float:
    return float(-(shares * np.log(shares)).sum())
