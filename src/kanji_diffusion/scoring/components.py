"""The component recogniser: which component stands in which slot of a picture of a character.

A residual network makes a map of features. Each slot has a query of its own that attends to the map, and one classifier
reads all slots, so that a component is recognised also in slots in which it was never seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field, PositiveInt, model_validator
from torch import nn
from transformers import ResNetConfig
from transformers.models.resnet.modeling_resnet import ResNetConvLayer, ResNetEncoder, ResNetPreTrainedModel

from kanji_diffusion.glyphs.kanjivg import WHOLE, Composition
from kanji_diffusion.imaging.warp import WarpSettings

NOTHING = 0
"""The class of a slot without a component, or with an unknown one."""

_DEEPEST = 2
"""Levels of nested slots that are read."""
_HEADS = 4
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
# By how many logits the attention to a place falls for each side length between the place and its slot.
_FALL = 8.0


class ComponentSettings(WarpSettings):
    """Architecture, vocabulary and training data of the component recogniser.

    Its pictures are warped less than the recogniser's, since thousands of characters already vary them.
    """

    rotation: float = Field(3.0, ge=0, description="Degrees, each way.")
    shear: float = Field(0.06, ge=0, description="Tangent of the slant, each way.")
    scale: tuple[float, float] = Field((0.88, 1.08), description="Smallest and largest factor, for each axis.")
    shift: float = Field(0.04, ge=0, description="Share of the side, each way.")
    bend: float = Field(0.03, ge=0, description="Amplitude of a smooth warp, share of the side.")
    weight: float = Field(0.3, ge=0, le=1, description="Share of pictures with thinner or thicker strokes.")
    blur: float = Field(0.2, ge=0, le=1, description="Share of pictures blurred to half their resolution.")
    side: int = Field(40, ge=16, multiple_of=8, description="Side of the pictures that it reads, in pixels.")
    channels: tuple[PositiveInt, ...] = Field((24, 64, 128), min_length=1, description="Channels of each stage.")
    depths: tuple[PositiveInt, ...] = Field((1, 1, 1), description="Blocks of each stage.")
    fewest: int = Field(3, ge=1, description="Characters that a component must stand in to be known.")
    fewest_in_slot: int = Field(20, ge=1, description="Characters that must have a slot for it to be known.")
    joined: float = Field(0.35, ge=0, le=1, description="Share of pictures that are joined from halves of two glyphs.")
    mirrored: float = Field(0.15, ge=0, le=1, description="Share of pictures whose halves change places.")
    smudged: float = Field(0.15, ge=0, le=1, description="Share of pictures that are smudged, or half of them.")
    unseen_share: float = Field(0.04, ge=0, lt=1, description="Share of the characters kept out of the training.")
    checked: int = Field(600, ge=2, description="Characters that are drawn in the faces held out.")
    characters: int | None = Field(None, ge=2, description="At most so many characters, the frequent ones; or all.")
    missed: float = Field(0.03, gt=0, lt=1, description="Share of real glyphs of faces held out that may be refused.")

    @model_validator(mode="after")
    def _consistent(self) -> ComponentSettings:
        if len(self.depths) != len(self.channels):
            raise ValueError(
                f"`depths` has {len(self.depths)} entries and `channels` {len(self.channels)}; give one for each stage"
            )
        return self


def parts_of(composition: Composition, depth: int = _DEEPEST, prefix: str = "") -> Iterator[tuple[str, Composition]]:
    """Slot and part at all levels up to `depth`, as in ("right/top", 艹); a character without parts fills "whole"."""
    if not composition.layout and not prefix:
        yield WHOLE, composition
    for slot, part in composition.slots():
        yield prefix + slot, part
        if depth > 1:
            yield from parts_of(part, depth - 1, f"{prefix}{slot}/")


@dataclass(frozen=True)
class Vocabulary:
    """The slots and components that a component recogniser can read.

    Attributes:
        slots: Such as "left" and "right/top".
        components: Any of them may stand in any slot.
    """

    slots: tuple[str, ...]
    components: tuple[str, ...]

    @classmethod
    def of(cls, compositions: Iterable[Composition], settings: ComponentSettings) -> Vocabulary:
        """Slots and components that occur in enough of the characters, the frequent ones first."""
        slots: Counter[str] = Counter()
        components: Counter[str] = Counter()
        for composition in compositions:
            placed = list(parts_of(composition))
            # Not sets: their order differs between processes, and with it the order of equally frequent ones.
            slots.update(dict.fromkeys(slot for slot, _ in placed).keys())
            components.update(dict.fromkeys(part.base for _, part in placed if part.base).keys())
        return cls(
            tuple(slot for slot, count in slots.most_common() if count >= settings.fewest_in_slot),
            tuple(part for part, count in components.most_common() if count >= settings.fewest),
        )

    def labels(self, compositions: Sequence[Composition]) -> np.ndarray:
        """The class in each slot, int64 `[N, S]`: 1 plus the index of the component, 0 without a known one."""
        slots = {slot: number for number, slot in enumerate(self.slots)}
        classes = {part: number + 1 for number, part in enumerate(self.components)}
        labels = np.full((len(compositions), len(slots)), NOTHING, dtype=np.int64)
        for row, composition in enumerate(compositions):
            for slot, part in parts_of(composition):
                if slot in slots:
                    labels[row, slots[slot]] = classes.get(part.base or "", NOTHING)
        return labels

    def required(self, composition: Composition) -> list[tuple[str, str]] | None:
        """The slots and components that a picture of a composition must show; None if one of them is unknown.

        An unknown part is replaced by its own parts.
        """
        if not composition.layout:
            known = WHOLE in self.slots and composition.base in self.components
            return [(WHOLE, composition.base or "")] if known else None
        return self._required(composition, "", _DEEPEST)

    def _required(self, composition: Composition, prefix: str, depth: int) -> list[tuple[str, str]] | None:
        found: list[tuple[str, str]] = []
        for slot, part in composition.slots():
            if prefix + slot in self.slots and part.base in self.components:
                found.append((prefix + slot, part.base))
                continue
            inner = self._required(part, f"{prefix}{slot}/", depth - 1) if part.layout and depth > 1 else None
            if inner is None:
                return None
            found += inner
        return found


class ComponentRecogniser(ResNetPreTrainedModel):
    """A residual network with a query for each slot, whose attention starts at the usual place of the slot.

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
        """The slots and components that it can read."""
        return Vocabulary(tuple(self.config.slots), tuple(self.config.components))


def slot_places(slot: str, side: int) -> torch.Tensor:
    """Initial attention bias of a slot over a square map of features, logits float32 `[side * side]`, at most 0."""
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
    """A component recogniser with random weights and without a calibrated threshold."""
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
