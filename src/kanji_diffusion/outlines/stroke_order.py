"""The strokes of a character in the order of writing: its own in KanjiVG, or put together of those of its parts.

How a part is written in a slot is learnt from the characters that have it there: its strokes (those of 木 on the left
end in a dot), its box, and, of an enclosure, which strokes come before what is inside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from fontTools.pens.recordingPen import RecordingPen
from fontTools.svgLib.path import parse_path

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.spread import evenly
from kanji_diffusion.glyphs.kanjivg import LAYOUTS, Composition, Stroke

POINTS = 24
"""Points that a stroke is given as, at equal steps along it."""

# Of many characters with a part in a slot, so many tell its box.
_MOST_EXAMPLES = 24
# An extent below this share of the side of a character is that of a single stroke, which keeps its slope.
_THIN = 0.1
# A part that no character has in its slot is stretched by at most so much more in one direction than in the other.
_MOST_STRETCHED = 1.8
# How many of the characters that have a part in a slot must write it otherwise than it is written alone.
_OWN_SHARE = 0.5
_KANJIVG_SIDE = 109
_CURVE_STEPS = np.linspace(0, 1, 12)[1:, None]

_Slot = tuple[str, int]


@dataclass(frozen=True)
class PlacedStroke:
    """A stroke where it is written.

    Attributes:
        kind: KanjiVG's type, such as ㇕a.
        points: float64 `[POINTS, 2]` of x and y from its beginning to its end, y down.
        part: Which of the parts that the character was put together of it belongs to, counted from 0.
    """

    kind: str
    points: np.ndarray
    part: int = 0


@dataclass(frozen=True)
class _Example:
    """A part in a character: the composition around it, its number among the parts of this."""

    character: str
    whole: Composition
    number: int

    @property
    def part(self) -> Composition:
        return self.whole.parts[self.number]

    @property
    def slot(self) -> _Slot:
        return self.whole.layout or "", self.number

    def box(self, number: int) -> np.ndarray:
        """Left and top, right and bottom of a part, as shares of those of the composition around it."""
        (low, high), inner = _box(self.whole.drawn), _box(self.whole.parts[number].drawn)
        return (inner - low) / np.maximum(high - low, 1e-6)

    def written_after(self) -> int:
        """Strokes of this part that come after the first one of the others; -1 for all."""
        others = [part.drawn for number, part in enumerate(self.whole.parts) if number != self.number]
        first = min(stroke.number for drawn in others for stroke in drawn)
        after = sum(stroke.number > first for stroke in self.part.drawn)
        return -1 if after == len(self.part.drawn) else after


class StrokeOrder:
    """Puts characters together of the strokes of their parts.

    Args:
        drawn: What `kanjivg.read_kanjivg` returned.
    """

    def __init__(self, drawn: Mapping[str, Composition]) -> None:
        self._drawn = drawn
        self._by_slot: dict[_Slot, list[_Example]] = {}
        self._by_base: dict[str, list[_Example]] = {}
        for character, whole in drawn.items():
            for example in _examples(character, whole):
                self._by_slot.setdefault(example.slot, []).append(example)
                self._by_base.setdefault(example.part.base or "", []).append(example)
        self._bases = {each.part.form: base for base, examples in self._by_base.items() for each in examples}

    def read(self, ids: str) -> Composition:
        """A composition by its ideographic description sequence, as a plan has it.

        Raises:
            KanjiDiffusionError: If it is none.
        """
        symbols = list(reversed(ids))
        composition = self._operand(symbols, ids)
        if symbols:
            raise KanjiDiffusionError(f"The description '{ids}' goes on after its end: leave the rest out.")
        return composition

    def _operand(self, symbols: list[str], ids: str) -> Composition:
        if not symbols:
            raise KanjiDiffusionError(f"The description '{ids}' lacks a part: give it one, as in ⿰魚雷.")
        symbol = symbols.pop()
        if symbol in LAYOUTS:
            return Composition(None, None, symbol, tuple(self._operand(symbols, ids) for _ in LAYOUTS[symbol]))
        base = self._bases.get(symbol) or symbol
        # 水 on the left is meant as 氵: which form a character has in its slot is not told.
        return Composition(symbol if symbol != base else None, base)

    def strokes(self, composition: Composition, hidden: Collection[str] = ()) -> list[PlacedStroke]:
        """The strokes of a composition in the order of writing, in a square of side 1.

        Args:
            composition: One that is a character of KanjiVG has its own strokes.
            hidden: Characters whose own strokes count as unknown.

        Raises:
            KanjiDiffusionError: If a part has no strokes and is made of none that has.
        """
        known = self._known(composition, hidden)
        form = composition.form or composition.base or ""
        whole = composition if composition.layout else self._drawn.get(form, composition)
        placed = _placed(known.drawn) if known else self._composed(whole, hidden)
        numbers = {part: number for number, part in enumerate(dict.fromkeys(stroke.part for stroke in placed))}
        return [replace(stroke, part=numbers[stroke.part]) for stroke in placed]

    def _known(self, part: Composition, hidden: Collection[str]) -> Composition | None:
        """The strokes of a part as a character of its own, or as it stands anywhere."""
        own = part.form or part.base or ""
        if own in self._drawn:
            return None if own in hidden else self._drawn[own]
        return next((each.part for each in self._same_form(part, self._by_base.get(part.base or "", ()), hidden)), None)

    def _composed(self, composition: Composition, hidden: Collection[str]) -> list[PlacedStroke]:
        """The strokes of the parts, each in its box of the square from 0 to 1."""
        layout = composition.layout
        if not layout:
            raise KanjiDiffusionError(
                f"KanjiVG has no strokes of '{composition.form or composition.base}': name a part that it has."
            )
        seen = [self._seen(part, (layout, number), hidden) for number, part in enumerate(composition.parts)]
        written: list[list[PlacedStroke]] = []
        for number, part in enumerate(composition.parts):
            shape, stretch = self._shape(part, seen[number], hidden)
            shift = sum(1 + max(stroke.part for stroke in each) for each in written)
            fitted = _fitted(shape, self._slot_box((layout, number), seen), stretch)
            written.append([replace(stroke, part=stroke.part + shift) for stroke in fitted])
        first, *others = written
        before = len(first) - self._after(layout, seen[0]) % (len(first) + 1)
        return [*first[:before], *(stroke for each in others for stroke in each), *first[before:]]

    def _seen(self, part: Composition, slot: _Slot, hidden: Collection[str]) -> list[_Example]:
        """The part in this slot, in the characters that have it there."""
        return self._same_form(
            part, (each for each in self._by_base.get(part.base or "", ()) if each.slot == slot), hidden
        )

    @staticmethod
    def _same_form(part: Composition, examples: Iterable[_Example], hidden: Collection[str]) -> list[_Example]:
        shown = [each for each in examples if part.base and each.character not in hidden]
        return [each for each in shown if part.form in (None, each.part.form)] or shown

    def _shape(
        self, part: Composition, seen: Sequence[_Example], hidden: Collection[str]
    ) -> tuple[list[PlacedStroke], float]:
        """A part as most write it, and by how much more it may be stretched in one direction than in the other."""
        votes: dict[tuple[str, ...], float] = dict(Counter(each.part.strokes for each in seen))
        if known := self._known(part, hidden):
            votes[known.strokes] = votes.get(known.strokes, 0) + _OWN_SHARE * len(seen)
        if votes:
            strokes = max(votes, key=lambda each: votes[each])
            if alike := [each for each in seen if each.part.strokes == strokes]:
                return _placed(_most_usual(alike).part.drawn), np.inf
        return self.strokes(part, hidden), _MOST_STRETCHED

    def _slot_box(self, slot: _Slot, seen: Sequence[Sequence[_Example]]) -> np.ndarray:
        """Where a part stands: as in characters with it in this slot, and in those with its neighbours in theirs."""
        known = [examples for examples in seen if examples] or [self._by_slot.get(slot, [])]
        if not known[0]:  # KanjiVG has no character of this layout, which is ⿲
            parts = len(seen)
            return np.array([[slot[1] / parts, 0], [(slot[1] + 1) / parts, 1]])
        boxes = [np.median([each.box(slot[1]) for each in _some(examples)], axis=0) for examples in known]
        return np.mean(boxes, axis=0)

    def _after(self, layout: str, seen: Sequence[_Example]) -> int:
        """Strokes of the first part that are written after the others; -1 for all."""
        # Of one that is new here each component of the layout has one vote: most characters have 辶, which comes last.
        examples = seen or list({each.part.base: each for each in self._by_slot.get((layout, 0), ())}.values())
        return Counter(each.written_after() for each in examples).most_common(1)[0][0] if examples else 0


def _examples(character: str, whole: Composition) -> Iterator[_Example]:
    """The parts of a character and those of its parts; none where two parts share strokes, as in KanjiVG's 章."""
    numbers = [stroke.number for part in whole.parts for stroke in part.drawn]
    if sorted(numbers) == sorted(stroke.number for stroke in whole.drawn):
        yield from (_Example(character, whole, number) for number in range(len(whole.parts)))
    for part in whole.parts:
        yield from _examples(character, part)


def _some(examples: Sequence[_Example]) -> list[_Example]:
    return [examples[row] for row in evenly(len(examples), _MOST_EXAMPLES)]


def _most_usual(examples: Sequence[_Example]) -> _Example:
    """The one whose box is nearest to the median of all."""
    some = _some(examples)
    boxes = np.stack([each.box(each.number) for each in some])
    return some[int(np.abs(boxes - np.median(boxes, axis=0)).sum(axis=(1, 2)).argmin())]


def _placed(drawn: Sequence[Stroke]) -> list[PlacedStroke]:
    """In the order of writing, in a square of side 1."""
    ordered = sorted(drawn, key=lambda stroke: stroke.number)
    return [PlacedStroke(stroke.kind, sample_path(stroke.path) / _KANJIVG_SIDE) for stroke in ordered]


@lru_cache(maxsize=4096)
def sample_path(path: str) -> np.ndarray:
    """Points of an SVG path without gaps at equal steps along it, float64 `[POINTS, 2]`."""
    pen = RecordingPen()
    parse_path(path, pen)
    points = [np.array([pen.value[0][1][0]], dtype=float)]
    for name, to in pen.value:
        if name == "lineTo":
            points.append(np.array(to, dtype=float))
        elif name == "curveTo":
            points.append(_curve(points[-1][-1], np.array(to, dtype=float)))
    return at_equal_steps(np.concatenate(points))


def _curve(start: np.ndarray, to: np.ndarray) -> np.ndarray:
    times, rest = _CURVE_STEPS, 1 - _CURVE_STEPS
    return rest**3 * start + 3 * rest**2 * times * to[0] + 3 * rest * times**2 * to[1] + times**3 * to[2]


def at_equal_steps(points: np.ndarray, count: int = POINTS) -> np.ndarray:
    """Points along an open line, float64 `[count, 2]`."""
    along = np.append(0, np.cumsum(np.hypot(*np.diff(points, axis=0).T)))
    places = np.linspace(0, along[-1], count)
    return np.stack([np.interp(places, along, axis) for axis in points.T], axis=1)


def _box(drawn: Sequence[Stroke]) -> np.ndarray:
    """Left and top, right and bottom, float64 `[2, 2]`."""
    boxes = np.stack([_path_box(stroke.path) for stroke in drawn])
    return np.stack([boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)])


@lru_cache(maxsize=1 << 16)
def _path_box(path: str) -> np.ndarray:
    points = sample_path(path)
    return np.stack([points.min(axis=0), points.max(axis=0)])


def _fitted(strokes: Sequence[PlacedStroke], box: np.ndarray, stretch: float) -> list[PlacedStroke]:
    """Strokes in a box, those of a single direction no thicker than they are."""
    points = np.concatenate([stroke.points for stroke in strokes])
    low, high = points.min(axis=0), points.max(axis=0)
    extent, room = high - low, np.maximum(box[1] - box[0], 1e-3)
    scale = room / np.maximum(extent, 1e-6)
    if (extent < _THIN).any():
        scale[:] = scale[extent.argmax()]
    scale = np.minimum(scale, stretch * scale.min())
    middle = (box[0] + box[1]) / 2
    return [replace(stroke, points=(stroke.points - (low + high) / 2) * scale + middle) for stroke in strokes]
