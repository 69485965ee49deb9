"""Training of the component recogniser: glyphs that are joined, mirrored and smudged, the loss, the threshold.

Halves of different glyphs are joined, so that a component is recognised whatever stands beside it. Smudged slots are
labelled as empty, so that nothing is read where nothing is legible.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from torch import nn

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.kanjivg import Composition
from kanji_diffusion.imaging import halves
from kanji_diffusion.imaging.resize import resize_bilinear, to_ink
from kanji_diffusion.imaging.warp import warp_pictures
from kanji_diffusion.scoring.component_reading import components_found, is_calibration_character
from kanji_diffusion.scoring.components import (
    NOTHING,
    ComponentRecogniser,
    ComponentSettings,
    Vocabulary,
    component_recogniser,
)
from kanji_diffusion.training.loop import train
from kanji_diffusion.training.protocols import Batch, LossOutput
from kanji_diffusion.training.settings import TrainingSettings
from kanji_diffusion.training.tracker import Tracker

_IGNORED = -100
"""The label of a slot that is not trained on: the default `ignore_index` of torch's cross-entropy."""
_FIRST, _SECOND = ("left", "top"), ("right", "bottom")
_MIRRORED = dict(zip(_FIRST + _SECOND, _SECOND + _FIRST, strict=True))
# Shares of ink that a smudge moves: above the first a slot is labelled as empty, below the second it keeps its label,
# between them it is ignored.
_UNREADABLE, _READABLE = 0.7, 0.35


class ComponentDataset:
    """Glyph pictures with the components in their slots, randomly joined, mirrored, smudged and warped at every read.

    Args:
        images: uint8 `[N, side, side]`.
        labels: What `Vocabulary.labels` returned, `[N, S]`.
        groups: What `join_groups` returned, int64 `[N]`: pictures of one group may be joined. Negative for pictures
            that do not consist of two halves; odd where one half lies above the other.
        slots: Names of the slots.
        settings: How often to join, mirror and smudge, and how strongly to warp.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        groups: np.ndarray,
        slots: Sequence[str],
        settings: ComponentSettings,
    ) -> None:
        self.images, self.labels, self.groups = map(torch.as_tensor, (images, labels, groups))
        self.settings = settings
        self._lines = halves.cut_lines(images)
        self._order = self.groups.argsort(stable=True)
        counted = torch.bincount(self.groups.clamp(min=-1) + 1)
        self._sizes, self._starts = counted, counted.cumsum(0) - counted
        self._half, self._mirror = halves_of(slots)

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self.images)

    def fingerprint(self) -> str:
        """Changes whenever pictures, labels or settings change."""
        digest = hashlib.sha256()
        for part in (self.images, self.labels, self.groups):
            digest.update(part.numpy().tobytes())
        digest.update(self.settings.model_dump_json().encode())
        return digest.hexdigest()[:16]

    def batch(self, index: torch.Tensor, random: SampleRandom) -> Batch:
        """`pixels` `[B, 1, side, side]` in [-1, 1] and `labels` `[B, S]`, -100 for slots without a loss."""
        ink = to_ink(self.images[index])
        labels = self.labels[index]
        draw = random.uniform("what")
        has_halves = self.groups[index] >= 0
        share = self.settings.joined + self.settings.mirrored
        if (joined := has_halves & (draw < share)).any():
            mirrored = (draw >= self.settings.joined)[joined]
            ink[joined], labels[joined] = self._join(
                index[joined], SampleRandom(random.seed, random.sample[joined]), mirrored
            )
        ink, labels = self._smudge(ink, labels, self.groups[index], random)
        return {"pixels": warp_pictures(1 - 2 * ink, random, self.settings), "labels": labels}

    def _join(
        self, index: torch.Tensor, random: SampleRandom, mirrored: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        group = self.groups[index] + 1
        other = self._order[self._starts[group] + random.integers("other", self._sizes[group])]
        upright = self.groups[index] % 2 == 0
        axis = (~upright).long()
        own, others = self._lines[index, axis], self._lines[other, axis]
        low, high = torch.zeros_like(own), torch.ones_like(own)
        # When mirrored, the second half of this glyph comes first, and the first half of the other glyph second.
        one = torch.stack([torch.where(mirrored, own, low), torch.where(mirrored, high, own)], dim=1)
        two = torch.stack([torch.where(mirrored, low, others), torch.where(mirrored, others, high)], dim=1)
        meeting = (own + others) / 2 + 0.1 * (random.uniform("line") - 0.5)
        meeting = torch.where(mirrored, 1 - meeting, meeting).clamp(0.2, 0.8)
        first, second = (to_ink(self.images[rows]) for rows in (index, other))
        joined = halves.join_halves(first, second, one, two, meeting, upright)
        return joined, self._joined_labels(index, other, mirrored)

    def _joined_labels(self, index: torch.Tensor, other: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
        first, second = self._half == 0, self._half == 1
        nothing = torch.tensor(NOTHING)
        plain = torch.where(first, self.labels[index], torch.where(second, self.labels[other], nothing))
        known = self._mirror >= 0
        source, target = (self.labels[rows][:, self._mirror.clamp(min=0)] for rows in (index, other))
        turned = torch.where(first & known, source, torch.where(second & known, target, nothing))
        return torch.where(mirrored[:, None], turned, plain)

    def _smudge(
        self, ink: torch.Tensor, labels: torch.Tensor, groups: torch.Tensor, random: SampleRandom
    ) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = random.uniform("smudged") < self.settings.smudged
        if not chosen.any():
            return ink, labels
        kind, reach, where = (random.uniform(name)[chosen] for name in ("smudge", "reach", "where"))
        part = ink[chosen]
        # Of the glyphs with halves, a third each have their first half, their second half or all of them smudged.
        half = torch.where(groups[chosen] >= 0, (where * 3).long(), 2)
        place = (torch.arange(part.shape[-1]) + 0.5) / part.shape[-1] < 0.5
        upright = (groups[chosen] % 2 == 0)[:, None, None]
        before = torch.where(upright, place[None, None, :], place[None, :, None])
        within = torch.where((half == 2)[:, None, None], True, before == (half == 0)[:, None, None])[:, None]
        smudged = torch.where(within, halves.smudge(part, kind, reach), part)
        moved = halves.changed_ink(part * within, smudged * within)[:, None]
        hit = (half == 2)[:, None] | (self._half[None] == half[:, None])
        changed = torch.where(moved > _UNREADABLE, NOTHING, torch.where(moved < _READABLE, labels[chosen], _IGNORED))
        ink, labels = ink.clone(), labels.clone()
        ink[chosen], labels[chosen] = smudged, torch.where(hit, changed, labels[chosen])
        return ink, labels


def halves_of(slots: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """For each slot its half (0 first, 1 second, -1 neither) and the index of the opposite slot (-1 for none)."""
    tops = [slot.split("/")[0] for slot in slots]
    half = [0 if top in _FIRST else 1 if top in _SECOND else -1 for top in tops]
    numbers = {slot: number for number, slot in enumerate(slots)}
    mirrored = [
        numbers.get(_MIRRORED[top] + slot[len(top) :], -1) if top in _MIRRORED else -1
        for top, slot in zip(tops, slots, strict=True)
    ]
    return torch.tensor(half), torch.tensor(mirrored)


def join_groups(faces: Sequence[str], compositions: Sequence[Composition]) -> np.ndarray:
    """`groups` of `ComponentDataset`, int64 `[N]`: glyphs of one face whose two parts lie alike."""
    numbers = np.unique(np.asarray(faces, dtype=str), return_inverse=True)[1]
    across = np.array([{"⿰": 0, "⿱": 1}.get(each.layout or "", -1) for each in compositions], dtype=np.int64)
    return np.where(across < 0, -1, 2 * numbers + across)


class ComponentLoss:
    """Cross-entropy in each slot; slots with a component weigh as much in total as slots without."""

    def fingerprint(self) -> str:
        """The loss has no settings."""
        return ""

    def __call__(self, module: nn.Module, batch: Batch, random: SampleRandom) -> LossOutput:
        """Loss of one batch of `pixels` and `labels`."""
        logits, labels = module(batch["pixels"]).float(), batch["labels"]
        each = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none", ignore_index=_IGNORED)
        held, empty = labels > NOTHING, labels == NOTHING
        parts = held.flatten(), empty.flatten()
        loss = torch.stack([(each * part).sum() / part.sum().clamp(min=1) for part in parts]).sum()
        right = held.clone()
        right[held] = logits[held].argmax(dim=1) == labels[held]
        share = right.sum(dim=1) / held.sum(dim=1)
        return LossOutput(loss, {"right": share})


def train_component_recogniser(
    glyphs: pd.DataFrame,
    images: np.ndarray,
    compositions: Compositions,
    settings: ComponentSettings,
    training: TrainingSettings,
    tracker: Tracker | None = None,
    checkpoints: Path | None = None,
) -> ComponentRecogniser:
    """A calibrated component recogniser.

    Args:
        glyphs: Rows with `character`, `face_id` and `split`: "train" is trained on, "validation" calibrates.
        images: Their pictures, uint8 `[N, H, W]`.
        compositions: How the characters are built, and what components are called.
        settings: Architecture, vocabulary and training data.
        training: Steps, batch size and optimizer.
        tracker: Receives the metrics.
        checkpoints: Folder for checkpoints; None keeps none.

    Raises:
        KanjiDiffusionError: If no component or no slot occurs in enough characters.
    """
    seen = (glyphs["split"] == "train").to_numpy()
    built = [compositions.of(character) for character in glyphs.loc[seen, "character"]]
    vocabulary = _vocabulary(glyphs.loc[seen, "character"], compositions, settings)
    torch.manual_seed(training.seed)
    model = component_recogniser(settings, vocabulary)
    model.config.names = [compositions.names.get(part, part) for part in vocabulary.components]
    dataset = ComponentDataset(
        resize_bilinear(images[seen], settings.side),
        vocabulary.labels(built),
        join_groups(glyphs.loc[seen, "face_id"].tolist(), built),
        vocabulary.slots,
        settings,
    )
    train(model, ComponentLoss(), dataset, training, name="components", checkpoints=checkpoints, tracker=tracker)
    held = (glyphs["split"] == "validation").to_numpy(copy=True)
    held[held] = is_calibration_character(glyphs.loc[held, "character"])
    if held.any():
        wanted = [compositions.of(character) for character in glyphs.loc[held, "character"]]
        probability = components_found(model, images[held], wanted)["probability"].dropna()
        if len(probability):
            model.config.threshold = float(probability.quantile(settings.missed))
    return model


def _vocabulary(characters: pd.Series, compositions: Compositions, settings: ComponentSettings) -> Vocabulary:
    distinct = characters.unique()
    vocabulary = Vocabulary.of(map(compositions.of, distinct), settings)
    if not vocabulary.slots or not vocabulary.components:
        raise KanjiDiffusionError(
            f"No component stands in {settings.fewest} of the {len(distinct)} characters of the component recogniser, "
            f"or no slot in {settings.fewest_in_slot}: lower `components.model.fewest` and `fewest_in_slot`, or raise "
            "`components.model.characters`."
        )
    return vocabulary
