"""The judge of compositions: which component stands in which slot of this picture of a character?

A residual network makes a map of features; each slot has a query of its own that attends to the map, and one classifier
tells the components in all slots, so that a component is known also where it never stood. Halves of different glyphs
are joined in training, so that it is known whatever stands beside it. What is smudged holds nothing.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom
from pydantic import Field
from torch import nn
from transformers import ResNetConfig
from transformers.models.resnet.modeling_resnet import ResNetConvLayer, ResNetEncoder, ResNetPreTrainedModel

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.kanjivg import LAYOUTS, WHOLE, Composition
from kanji_diffusion.imaging import halves
from kanji_diffusion.imaging.resize import resample, to_model_range
from kanji_diffusion.imaging.warp import BendSettings, bend
from kanji_diffusion.training.loop import train
from kanji_diffusion.training.protocols import Batch, LossOutput
from kanji_diffusion.training.settings import TrainingSettings
from kanji_diffusion.training.tracker import Tracker

_DEEPEST = 2
"""Levels at which parts are told by their parts."""
_NOTHING = 0
"""The class of a slot in which no component is that is known."""
_UNTOLD = -100
"""The label of a slot about which a picture says nothing: torch's own custom for what has no loss."""
_ORDER = list(dict.fromkeys(slot for slots in LAYOUTS.values() for slot in slots))
_HEADS = 4
_FIRST, _SECOND = ("left", "top"), ("right", "bottom")
_MIRRORED = dict(zip(_FIRST + _SECOND, _SECOND + _FIRST, strict=True))
# Where the slots of a layout lie: left, top, right and bottom as shares of the side.
_REGIONS = {
    "left": (0.0, 0.0, 0.5, 1.0),
    "right": (0.4, 0.0, 1.0, 1.0),
    "top": (0.0, 0.0, 1.0, 0.5),
    "bottom": (0.0, 0.45, 1.0, 1.0),
    "middle": (0.2, 0.2, 0.8, 0.8),
    "inside": (0.2, 0.25, 0.8, 1.0),
    "upper left": (0.0, 0.0, 0.8, 0.8),
    "lower right": (0.25, 0.3, 1.0, 1.0),
    "upper right": (0.2, 0.0, 1.0, 0.8),
    "lower left": (0.0, 0.2, 0.8, 1.0),
}
# By how much the attention to a place falls, in logits, for each side of the picture that it lies outside its slot.
_FALL = 8.0
# Of the ink, what a smudge must move so that nothing is to be read any more, and what it may move so that all is.
_UNREADABLE, _READABLE = 0.7, 0.35


class ComponentSettings(BendSettings):
    """Architecture of the component recogniser, what it knows, and what it is trained on.

    Its pictures are bent less than the recogniser's, for there are thousands of characters to vary them.
    """

    rotation: float = Field(3.0, ge=0, description="Degrees, each way.")
    shear: float = Field(0.06, ge=0, description="Tangent of the slant, each way.")
    scale: tuple[float, float] = Field((0.88, 1.08), description="Smallest and largest factor, for each axis.")
    shift: float = Field(0.04, ge=0, description="Share of the side, each way.")
    bend: float = Field(0.03, ge=0, description="Amplitude of a smooth warp, share of the side.")
    weight: float = Field(0.3, ge=0, le=1, description="Share of pictures with thinner or thicker strokes.")
    blur: float = Field(0.2, ge=0, le=1, description="Share of pictures blurred to half their resolution.")
    side: int = Field(40, ge=16, multiple_of=8, description="Side of the pictures that it reads, in pixels.")
    channels: tuple[int, ...] = Field((24, 64, 128), min_length=1, description="Channels of each stage.")
    depths: tuple[int, ...] = Field((1, 1, 1), min_length=1, description="Blocks of each stage.")
    fewest: int = Field(3, ge=1, description="Characters that a component must stand in to be known.")
    fewest_in_slot: int = Field(20, ge=1, description="Characters that must have a slot for it to be known.")
    joined: float = Field(0.35, ge=0, le=1, description="Share of pictures that are halves of two glyphs.")
    mirrored: float = Field(0.15, ge=0, le=1, description="Share of pictures whose halves change places.")
    smudged: float = Field(0.15, ge=0, le=1, description="Share of pictures that are smudged, or half of them.")
    unseen_share: float = Field(0.04, ge=0, lt=1, description="Share of the characters kept out of the training.")
    checked: int = Field(600, ge=2, description="Characters that are drawn in the faces held out.")
    characters: int | None = Field(None, ge=2, description="At most so many characters, the frequent ones; or all.")
    missed: float = Field(0.03, gt=0, lt=1, description="Share of real glyphs of faces held out that may be refused.")


def parts_of(composition: Composition, depth: int = _DEEPEST, prefix: str = "") -> Iterator[tuple[str, Composition]]:
    """Slot and part at all levels up to `depth`, as in ("right/top", 艹); a character that is not composed is whole."""
    if not composition.layout and not prefix:
        yield WHOLE, composition
    for slot, part in composition.slots():
        yield prefix + slot, part
        if depth > 1:
            yield from parts_of(part, depth - 1, f"{prefix}{slot}/")


@dataclass(frozen=True)
class Vocabulary:
    """What a component recogniser knows.

    Attributes:
        slots: Such as "left" and "right/top".
        components: Of which any may stand in any slot.
    """

    slots: tuple[str, ...]
    components: tuple[str, ...]

    @classmethod
    def of(cls, compositions: Iterable[Composition], settings: ComponentSettings) -> Vocabulary:
        """Slots and components that stand in enough of the characters, the frequent ones first."""
        slots: Counter[str] = Counter()
        components: Counter[str] = Counter()
        for composition in compositions:
            placed = list(parts_of(composition))
            # Not sets, whose order differs from process to process, and with it the order of equals.
            slots.update(dict.fromkeys(slot for slot, _ in placed).keys())
            components.update(dict.fromkeys(part.base for _, part in placed if part.base).keys())
        return cls(
            tuple(slot for slot, count in slots.most_common() if count >= settings.fewest_in_slot),
            tuple(part for part, count in components.most_common() if count >= settings.fewest),
        )

    def labels(self, compositions: Sequence[Composition]) -> np.ndarray:
        """The class in each slot, int64 `[N, S]`: 1 more than the number of the component, 0 for nothing known."""
        slots = {slot: number for number, slot in enumerate(self.slots)}
        classes = {part: number + 1 for number, part in enumerate(self.components)}
        labels = np.full((len(compositions), len(slots)), _NOTHING, dtype=np.int64)
        for row, composition in enumerate(compositions):
            for slot, part in parts_of(composition):
                if slot in slots:
                    labels[row, slots[slot]] = classes.get(part.base or "", _NOTHING)
        return labels

    def asked(self, composition: Composition) -> list[tuple[str, str]] | None:
        """Slot and component that a composition asks for; None if one of them is not known.

        A part that is not known itself is asked for by its parts.
        """
        if not composition.layout:
            known = WHOLE in self.slots and composition.base in self.components
            return [(WHOLE, composition.base or "")] if known else None
        return self._asked(composition, "", _DEEPEST)

    def _asked(self, composition: Composition, prefix: str, depth: int) -> list[tuple[str, str]] | None:
        found: list[tuple[str, str]] = []
        for slot, part in composition.slots():
            if prefix + slot in self.slots and part.base in self.components:
                found.append((prefix + slot, part.base))
                continue
            inner = self._asked(part, f"{prefix}{slot}/", depth - 1) if part.layout and depth > 1 else None
            if inner is None:
                return None
            found += inner
        return found


class ComponentRecogniser(ResNetPreTrainedModel):
    """A residual network with a query for each slot, which first attends to where the slot usually lies.

    Args:
        config: With `side`, `slots`, `components` and, once calibrated, `threshold`: the probability from which a
            component counts as found.
    """

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__(config)
        width = config.hidden_sizes[-1]
        side = config.side // 2 ** len(config.hidden_sizes)
        self.stem = ResNetConvLayer(config.num_channels, config.embedding_size, kernel_size=3, stride=2)
        self.encoder = ResNetEncoder(config)
        self.places = nn.Parameter(torch.randn(1, side**2, width) * 0.02)
        self.queries = nn.Parameter(torch.randn(1, len(config.slots), width) * width**-0.5)
        self.where = nn.Parameter(torch.stack([slot_places(slot, side) for slot in config.slots]))
        self.attention = nn.MultiheadAttention(width, _HEADS, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.mixer = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.classifier = nn.Linear(width, 1 + len(config.components))
        self.post_init()

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits of the classes in each slot, `[B, S, 1 + C]`, of pictures `[B, 1, side, side]` in [-1, 1]."""
        features = self.encoder(self.stem(pixels)).last_hidden_state.flatten(2).transpose(1, 2)
        placed = features + self.places
        queries = self.queries.expand(len(pixels), -1, -1)
        found, _ = self.attention(queries, placed, placed, attn_mask=self.where, need_weights=False)
        found = self.norm(queries + found)
        return self.classifier(found + self.mixer(found))

    @property
    def vocabulary(self) -> Vocabulary:
        """What it knows."""
        return Vocabulary(tuple(self.config.slots), tuple(self.config.components))


def slot_places(slot: str, side: int) -> torch.Tensor:
    """How much less a slot attends to each place of a square map of features, in logits, float32 `[side * side]`."""
    left, top, right, bottom = 0.0, 0.0, 1.0, 1.0
    for name in slot.split("/"):
        region = _REGIONS.get(name, (0.0, 0.0, 1.0, 1.0))
        wide, high = right - left, bottom - top
        left, right = left + region[0] * wide, left + region[2] * wide
        top, bottom = top + region[1] * high, top + region[3] * high
    place = (torch.arange(side) + 0.5) / side
    beside = (left - place).clamp(min=0) + (place - right).clamp(min=0)
    above = (top - place).clamp(min=0) + (place - bottom).clamp(min=0)
    return -_FALL * torch.hypot(above[:, None], beside[None, :]).flatten()


def component_recogniser(settings: ComponentSettings, vocabulary: Vocabulary) -> ComponentRecogniser:
    """A component recogniser with random weights, which is not calibrated."""
    return ComponentRecogniser(
        ResNetConfig(
            num_channels=1,
            embedding_size=settings.channels[0],
            hidden_sizes=list(settings.channels),
            depths=list(settings.depths),
            layer_type="basic",
            side=settings.side,
            slots=list(vocabulary.slots),
            components=list(vocabulary.components),
            threshold=0.5,
        )
    )


class ComponentStore:
    """Glyph pictures with the components in their slots, bent anew, joined, mirrored or smudged at every read.

    Args:
        images: uint8 `[N, side, side]`.
        labels: What `Vocabulary.labels` returned, `[N, S]`.
        groups: Which pictures may be joined: of one face and layout, int64 `[N]`; below 0 those of no two halves, and
            odd where the halves lie one above the other.
        slots: Names of the slots.
        settings: How often to join, mirror and smudge, and how hard to bend.
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

    def gather(self, index: torch.Tensor, random: SampleRandom) -> Batch:
        """`pixels` `[B, 1, side, side]` in [-1, 1] and `labels` `[B, S]`, -100 where nothing can be told."""
        ink = 1 - self.images[index][:, None].float() / 255
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
        return {"pixels": bend(1 - 2 * ink, random, self.settings), "labels": labels}

    def _join(
        self, index: torch.Tensor, random: SampleRandom, mirrored: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        group = self.groups[index] + 1
        other = self._order[self._starts[group] + random.integers("other", self._sizes[group])]
        upright = self.groups[index] % 2 == 0
        axis = (~upright).long()
        own, others = self._lines[index, axis], self._lines[other, axis]
        low, high = torch.zeros_like(own), torch.ones_like(own)
        # Mirrored, the second half of the one comes first, and the first half of the other second.
        one = torch.stack([torch.where(mirrored, own, low), torch.where(mirrored, high, own)], dim=1)
        two = torch.stack([torch.where(mirrored, low, others), torch.where(mirrored, others, high)], dim=1)
        meeting = (own + others) / 2 + 0.1 * (random.uniform("line") - 0.5)
        meeting = torch.where(mirrored, 1 - meeting, meeting).clamp(0.2, 0.8)
        first, second = (1 - self.images[rows][:, None].float() / 255 for rows in (index, other))
        joined = halves.join_halves(first, second, one, two, meeting, upright)
        return joined, self._joined_labels(index, other, mirrored)

    def _joined_labels(self, index: torch.Tensor, other: torch.Tensor, mirrored: torch.Tensor) -> torch.Tensor:
        first, second = self._half == 0, self._half == 1
        nothing = torch.tensor(_NOTHING)
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
        # A third of those with halves are smudged on the left or above, a third on the other side, a third altogether.
        half = torch.where(groups[chosen] >= 0, (where * 3).long(), 2)
        place = (torch.arange(part.shape[-1]) + 0.5) / part.shape[-1] < 0.5
        upright = (groups[chosen] % 2 == 0)[:, None, None]
        before = torch.where(upright, place[None, None, :], place[None, :, None])
        within = torch.where((half == 2)[:, None, None], True, before == (half == 0)[:, None, None])[:, None]
        spoilt = torch.where(within, halves.smudge(part, kind, reach), part)
        moved = halves.changed_ink(part * within, spoilt * within)[:, None]
        hit = (half == 2)[:, None] | (self._half[None] == half[:, None])
        told = torch.where(moved > _UNREADABLE, _NOTHING, torch.where(moved < _READABLE, labels[chosen], _UNTOLD))
        ink, labels = ink.clone(), labels.clone()
        ink[chosen], labels[chosen] = spoilt, torch.where(hit, told, labels[chosen])
        return ink, labels


def halves_of(slots: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """For each slot its half (0 first, 1 second, -1 neither), and the number of the slot across (-1 for none)."""
    tops = [slot.split("/")[0] for slot in slots]
    half = [0 if top in _FIRST else 1 if top in _SECOND else -1 for top in tops]
    numbers = {slot: number for number, slot in enumerate(slots)}
    mirrored = [
        numbers.get(_MIRRORED[top] + slot[len(top) :], -1) if top in _MIRRORED else -1
        for top, slot in zip(tops, slots, strict=True)
    ]
    return torch.tensor(half), torch.tensor(mirrored)


def join_groups(faces: Sequence[str], compositions: Sequence[Composition]) -> np.ndarray:
    """Which glyphs may be joined, as `ComponentStore` wants it: int64 `[N]`."""
    numbers = np.unique(np.asarray(faces, dtype=str), return_inverse=True)[1]
    across = np.array([{"⿰": 0, "⿱": 1}.get(each.layout or "", -1) for each in compositions], dtype=np.int64)
    return np.where(across < 0, -1, 2 * numbers + across)


class ComponentLoss:
    """Cross-entropy in each slot; slots that hold a component weigh as much as those that hold nothing."""

    def fingerprint(self) -> str:
        """The loss has no settings."""
        return ""

    def __call__(self, module: nn.Module, batch: Batch, random: SampleRandom) -> LossOutput:
        """Loss of one batch of `pixels` and `labels`."""
        logits, labels = module(batch["pixels"]).float(), batch["labels"]
        each = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none", ignore_index=_UNTOLD)
        held, empty = ((labels > _NOTHING).flatten(), (labels == _NOTHING).flatten())
        loss = torch.stack([(each * part).sum() / part.sum().clamp(min=1) for part in (held, empty)]).sum()
        right = (logits.argmax(dim=2) == labels) & (labels > _NOTHING)
        share = right.sum(dim=1) / (labels > _NOTHING).sum(dim=1)
        return LossOutput(loss, {"right": share})


def split_characters(
    characters: Sequence[str], kept_out: Iterable[str], settings: ComponentSettings
) -> tuple[set[str], set[str]]:
    """Characters that the training never sees, and those of the others that are drawn in faces held out.

    Args:
        characters: All of them.
        kept_out: Those that nothing is trained on; to them comes `unseen_share` of the others.
        settings: The shares.
    """
    given = set(kept_out) & set(characters)
    others = sorted(set(characters) - given, key=lambda each: hashlib.sha256(each.encode()).digest())
    more = round(settings.unseen_share * len(others))
    return given | set(others[:more]), set(others[more : more + settings.checked])


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
        settings: What is trained.
        training: How it is trained.
        tracker: Receives the metrics.
        checkpoints: Folder for checkpoints; None keeps none.

    Raises:
        KanjiDiffusionError: If so few characters have a component or slot in common that nothing would be known.
    """
    seen = (glyphs["split"] == "train").to_numpy()
    of = [compositions.of(character) for character in glyphs.loc[seen, "character"]]
    distinct = {character: compositions.of(character) for character in glyphs.loc[seen, "character"].unique()}
    vocabulary = Vocabulary.of(distinct.values(), settings)
    if not vocabulary.slots or not vocabulary.components:
        raise KanjiDiffusionError(
            f"No component stands in {settings.fewest} of the {len(distinct)} characters of the component recogniser, "
            f"or no slot in {settings.fewest_in_slot}: lower `components.model.fewest` and `fewest_in_slot`, or raise "
            "`components.model.characters`."
        )
    torch.manual_seed(training.seed)
    model = component_recogniser(settings, vocabulary)
    model.config.names = [compositions.names.get(part, part) for part in vocabulary.components]
    store = ComponentStore(
        resample(images[seen], settings.side),
        vocabulary.labels(of),
        join_groups(glyphs.loc[seen, "face_id"].tolist(), of),
        vocabulary.slots,
        settings,
    )
    train(model, ComponentLoss(), store, training, name="components", checkpoints=checkpoints, tracker=tracker)
    held = (glyphs["split"] == "validation").to_numpy(copy=True)
    held[held] = calibrates(glyphs.loc[held, "character"])
    if held.any():
        wanted = [compositions.of(character) for character in glyphs.loc[held, "character"]]
        sure = components_found(model, images[held], wanted)["probability"].dropna()
        model.config.threshold = float(sure.quantile(settings.missed)) if len(sure) else model.config.threshold
    return model


def calibrates(characters: Iterable[str]) -> np.ndarray:
    """Whether glyphs of faces held out set the threshold, bool `[N]`: those of every second character."""
    return np.unique(list(characters), return_inverse=True)[1] % 2 == 0


def components_found(
    model: ComponentRecogniser, images: np.ndarray, wanted: Sequence[Composition], batch_size: int = 256
) -> pd.DataFrame:
    """Whether pictures show the components that were asked for, each in its slot.

    Args:
        model: The component recogniser.
        images: uint8 `[N, H, W]` of any size.
        wanted: What each is to show, `[N]`.
        batch_size: Pictures that are read at once.

    Returns:
        One row each: `slots` (number of slots asked for, 0 if a part is not known), `found` (1 if all components are in
        their slots, else 0; not a number if one is not known), `probability` (of the least sure), `seen` (what is read
        in each slot, such as "left water, right every").
    """
    vocabulary = model.vocabulary
    slots = {slot: number for number, slot in enumerate(vocabulary.slots)}
    classes = {part: number + 1 for number, part in enumerate(vocabulary.components)}
    rows: list[dict[str, Any]] = []
    for first in range(0, len(images), batch_size):
        probability = _probabilities(model, images[first : first + batch_size])
        read = probability.argmax(dim=2).tolist()
        for number, composition in enumerate(wanted[first : first + batch_size]):
            asked = vocabulary.asked(composition)
            sure = [float(probability[number, slots[slot], classes[part]]) for slot, part in asked or ()]
            least = min(sure, default=float("nan"))
            found = float(least >= model.config.threshold) if sure else float("nan")
            rows.append({"slots": len(sure), "found": found, "probability": least, "seen": _told(model, read[number])})
    return pd.DataFrame(rows, columns=["slots", "found", "probability", "seen"])


@torch.no_grad()
def _probabilities(model: ComponentRecogniser, images: np.ndarray) -> torch.Tensor:
    """Of every class in every slot, float32 `[N, S, 1 + C]`."""
    pixels = to_model_range(resample(images, model.config.side)).to(model.device)
    return model(pixels).float().softmax(dim=2).cpu()


def _in_order(slot: str) -> int:
    top = slot.rpartition("/")[2]
    return _ORDER.index(top) if top in _ORDER else len(_ORDER)


def _told(model: ComponentRecogniser, classes: Sequence[int], prefix: str = "") -> str:
    """What is read in the slots directly below `prefix`; a part that is not known is told by its parts."""
    phrases = []
    for slot, held in sorted(zip(model.config.slots, classes, strict=True), key=lambda each: _in_order(each[0])):
        name = slot.removeprefix(prefix)
        if not slot.startswith(prefix) or "/" in name:
            continue
        if held != _NOTHING:
            phrases.append(f"{name} {model.config.names[held - 1]}")
        elif inner := _told(model, classes, f"{slot}/"):
            phrases.append(f"{name} ({inner})")
    return ", ".join(phrases)
