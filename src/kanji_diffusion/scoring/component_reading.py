"""What the component recogniser reads in pictures: whether the components of a composition are in their slots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from kanji_diffusion.glyphs.kanjivg import LAYOUTS, Composition
from kanji_diffusion.imaging.resize import resize_bilinear, to_model_range
from kanji_diffusion.scoring.components import NOTHING, ComponentRecogniser

_ORDER = list(dict.fromkeys(slot for slots in LAYOUTS.values() for slot in slots))


def is_calibration_character(characters: Iterable[str]) -> np.ndarray:
    """Whether glyphs of faces held out set the threshold, bool `[N]`: glyphs of every second character do."""
    return np.unique(list(characters), return_inverse=True)[1] % 2 == 0


def components_found(
    model: ComponentRecogniser, images: np.ndarray, wanted: Sequence[Composition], batch_size: int = 256
) -> pd.DataFrame:
    """Whether pictures show the components of their compositions, each in its slot.

    Args:
        model: The component recogniser.
        images: uint8 `[N, H, W]` of any size.
        wanted: The composition that each picture is to show, `[N]`.
        batch_size: Pictures that are read at once.

    Returns:
        One row for each picture: `slots` (number of slots that are checked, 0 if a part is unknown), `found` (1 if all
        components are in their slots, else 0; NaN if one is unknown), `probability` (the lowest of all slots), `seen`
        (what is read in each slot, such as "left water, right every").
    """
    vocabulary = model.vocabulary
    slots = {slot: number for number, slot in enumerate(vocabulary.slots)}
    classes = {part: number + 1 for number, part in enumerate(vocabulary.components)}
    told = _slots(vocabulary.slots)
    rows: list[dict[str, Any]] = []
    for first in range(0, len(images), batch_size):
        probability = _probabilities(model, images[first : first + batch_size])
        read = probability.argmax(dim=2).tolist()
        for number, composition in enumerate(wanted[first : first + batch_size]):
            required = vocabulary.required(composition) or ()
            each = [float(probability[number, slots[slot], classes[part]]) for slot, part in required]
            lowest = min(each, default=float("nan"))
            found = float(lowest >= model.config.threshold) if each else float("nan")
            seen = _describe(model.config.names, told, read[number])
            rows.append({"slots": len(each), "found": found, "probability": lowest, "seen": seen})
    return pd.DataFrame(rows, columns=["slots", "found", "probability", "seen"])


@torch.no_grad()
def _probabilities(model: ComponentRecogniser, images: np.ndarray) -> torch.Tensor:
    """Of every class in every slot, float32 `[N, S, 1 + C]`."""
    pixels = to_model_range(resize_bilinear(images, model.config.side)).to(model.device)
    return model(pixels).float().softmax(dim=2).cpu()


@dataclass(frozen=True)
class _Slot:
    """A slot as descriptions tell it.

    Attributes:
        name: The innermost part of its name.
        number: Its place among the model's slots.
        inner: The slots within it.
    """

    name: str
    number: int
    inner: list[_Slot]


def _slots(names: Sequence[str], prefix: str = "") -> list[_Slot]:
    """The slots directly below `prefix`, in the order in which descriptions tell them."""
    below = {name.removeprefix(prefix): number for number, name in enumerate(names) if name.startswith(prefix)}
    told = sorted((name for name in below if "/" not in name), key=_in_order)
    return [_Slot(name, below[name], _slots(names, f"{prefix}{name}/")) for name in told]


def _in_order(name: str) -> int:
    return _ORDER.index(name) if name in _ORDER else len(_ORDER)


def _describe(components: Sequence[str], slots: Sequence[_Slot], classes: Sequence[int]) -> str:
    """What is read in `slots`, by the names of `components`; an unknown part is described by its own parts."""
    phrases = []
    for slot in slots:
        if (held := classes[slot.number]) != NOTHING:
            phrases.append(f"{slot.name} {components[held - 1]}")
        elif inner := _describe(components, slot.inner, classes):
            phrases.append(f"{slot.name} ({inner})")
    return ", ".join(phrases)
