"""Does a glyph look like its character elsewhere, or rather like another character?

A reader that was trained on a wrong glyph may have learnt it by heart. Here each glyph is compared with its
character in the other faces alone: gradient-direction features (Kimura et al., 1987), and the distance to class
means in the space in which glyphs of one character scatter equally in all directions (Fisher, 1936).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom

_SIDE, _DIRECTIONS, _CELLS = 64, 8, 8
_SHRINKAGE = 0.03
_TYPICAL = 0.95
_FEWEST_OTHERS = 2
_BATCH = 512


def consensus(glyphs: pd.DataFrame, images: np.ndarray) -> pd.DataFrame:
    """Whether the other faces agree that each glyph is its character.

    Args:
        glyphs: `character`, `face_id` and `style` of N glyphs.
        images: Their pictures, uint8 `[N, H, W]`.

    Returns:
        N rows of `consensus`, in [-1, 1]: (b - a) / (b + a) with the distances a to the glyph's own character in
        other faces and b to the nearest other character; and `looks_like`, that other character. `consensus` is NaN
        for a character that fewer than two other faces have (nobody can tell which of two is wrong), or that looks
        like itself in none.
    """
    features = direction_features(images)
    labels, names = pd.factorize(glyphs["character"])
    faces = glyphs.groupby(["face_id", "character"]).ngroup().to_numpy(copy=True)
    space = _Space(features, torch.as_tensor(labels), torch.as_tensor(faces))
    own, other, nearest = space.distances(torch.ones(len(features)))
    margin = (other - own) / (other + own).clamp(min=1e-6)
    # Bad glyphs must not shape the space that they are judged in.
    usual = glyphs.assign(own=own.numpy()).groupby("style")["own"].transform(lambda values: values.quantile(_TYPICAL))
    trusted = (margin > 0) & (own <= torch.as_tensor(usual.to_numpy(copy=True)))
    own, other, nearest = space.distances(trusted.float())
    margin = (other - own) / (other + own).clamp(min=1e-6)
    others = glyphs.groupby("character")["face_id"].transform("nunique").to_numpy() - 1
    alone = (others < _FEWEST_OTHERS) | (len(names) < 2)
    return pd.DataFrame(
        {"consensus": np.where(alone, np.nan, margin.numpy()), "looks_like": names[nearest.numpy()]}, index=glyphs.index
    )


@torch.no_grad()
def direction_features(images: np.ndarray) -> torch.Tensor:
    """Where edges run in which direction, unit vectors float32 `[N, 512]` of pictures uint8 `[N, H, W]`."""
    parts = [torch.empty(0, _DIRECTIONS * _CELLS**2)]
    angles = torch.arange(_DIRECTIONS)[None, :, None, None] * (2 * torch.pi / _DIRECTIONS)
    for first in range(0, len(images), _BATCH):
        ink = 1 - torch.as_tensor(images[first : first + _BATCH])[:, None].float() / 255
        if ink.shape[-1] != _SIDE:
            ink = F.interpolate(ink, (_SIDE, _SIDE), mode="bilinear", antialias=True)
        ink = F.avg_pool2d(ink, 3, stride=1, padding=1)
        across = ink[:, :, 1:-1, 2:] - ink[:, :, 1:-1, :-2]
        down = ink[:, :, 2:, 1:-1] - ink[:, :, :-2, 1:-1]
        apart = (torch.atan2(down, across) - angles + torch.pi) % (2 * torch.pi) - torch.pi
        strength = F.relu(1 - apart.abs() * (_DIRECTIONS / (2 * torch.pi))) * torch.hypot(across, down)
        cells = F.adaptive_avg_pool2d(F.avg_pool2d(strength, 5, stride=1, padding=2), _CELLS)
        parts.append(F.normalize(cells.flatten(1).sqrt(), dim=1))
    return torch.cat(parts)


class _Space:
    """Features `[N, F]` of glyphs with their characters `[N]` and their (face, character) groups `[N]`."""

    def __init__(self, features: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor) -> None:
        self.features, self.labels, self.groups = features, labels, groups

    def distances(self, trust: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Distances `[N]` to the own character without the own group, and to the nearest other; and its number.

        Args:
            trust: Weight of each glyph in means and scatter, `[N]`.
        """
        sums, counts = self._sums(self.labels, trust)
        left_out, less = self._sums(self.groups, trust)
        means = sums / counts.clamp(min=1)[:, None]
        inner = (self.features - means[self.labels]) * trust[:, None]
        scatter = inner.T @ inner / trust.sum().clamp(min=1)
        floor = scatter.diagonal().mean().clamp(min=1e-9) * torch.eye(len(scatter))
        whiten = torch.linalg.cholesky(torch.linalg.inv((1 - _SHRINKAGE) * scatter + _SHRINKAGE * floor))
        means = means @ whiten
        own, other, nearest = [], [], []
        for rows in torch.arange(len(self.labels)).split(_BATCH):
            labels, groups, here = self.labels[rows], self.groups[rows], self.features[rows] @ whiten
            # No weight is left where nothing is trusted: 0 / 0 is not a number, and such a glyph is not judged.
            rest = (sums[labels] - left_out[groups]) / (counts[labels] - less[groups])[:, None]
            own.append((here - rest @ whiten).norm(dim=1))
            apart = torch.cdist(here, means)
            apart[:, counts == 0] = torch.inf
            apart[torch.arange(len(rows)), labels] = torch.inf
            found = apart.min(dim=1)
            other.append(found.values)
            nearest.append(found.indices)
        return torch.cat(own), torch.cat(other), torch.cat(nearest)

    def _sums(self, numbers: torch.Tensor, trust: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        size = int(numbers.max()) + 1
        sums = torch.zeros(size, self.features.shape[1]).index_add_(0, numbers, self.features * trust[:, None])
        return sums, torch.zeros(size).index_add_(0, numbers, trust)
