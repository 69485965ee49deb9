"""The layouts and slots that components have in real characters, and which of them suit new compositions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import permutations

from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.kanjivg import LAYOUTS, Composition
from kanji_diffusion.planning.existing import ExistingCharacters

MOST_STROKES = 14
"""Of one part: more do not fit into a slot at the sizes that are drawn."""

# An enclosure is read only around what it is known to surround.
_FEWEST_ENCLOSED = 3
_ENCLOSURES = "⿴⿵⿶⿷⿸⿹⿺"
# Whatever can stand in a kanji can stand inside an enclosure, which is rare itself.
_INSIDE = -1.5
# Parts that count as seen before any character is looked at, shared out by how common each slot is.
_PRIOR = 2.0


class SeenLayouts:
    """Counts in which slots of which layouts components stand in real characters.

    Args:
        compositions: Of all characters.
    """

    def __init__(self, compositions: Compositions) -> None:
        self._compositions = compositions
        self._seen: Counter[tuple[str, str, int]] = Counter()
        self._uses: Counter[str] = Counter()
        self._slots: Counter[tuple[str, int]] = Counter()
        self._forms: dict[tuple[str, str, int], Counter[str]] = {}
        self._existing = ExistingCharacters(compositions)
        for character in compositions.characters():
            self._count(compositions.of(character))

    def _count(self, composition: Composition) -> None:
        if not composition.layout:
            return
        for place, part in enumerate(composition.parts):
            if not part.base:
                continue
            key = (part.base, composition.layout, place)
            self._seen[key] += 1
            self._uses[part.base] += 1
            self._slots[key[1:]] += 1
            self._forms.setdefault(key, Counter())[part.form or part.base] += 1

    def exists(self, composition: Composition) -> bool:
        """Whether a character is made of the same components, in this layout or another one."""
        return self._existing.has(composition)

    def seen(self, composition: Composition) -> int:
        """In how many characters the parts stand in their slots, the least of all parts."""
        return min(
            self.seen(part) if not part.base else self._seen[part.base, composition.layout or "", place]
            for place, part in enumerate(composition.parts)
        )

    def fit(self, component: str, layout: str, place: int) -> float:
        """Logarithm of how usual a component is in a slot, of all the slots that it could stand in."""
        share = self._slots[layout, place] / self._slots.total()
        seen = self._seen[component, layout, place] + _PRIOR * share
        fit = math.log(seen / (self._uses[component] + _PRIOR))
        return max(fit, _INSIDE) if layout in _ENCLOSURES and place else fit

    def arrangements(self, parts: Sequence[str], *, new: bool = True) -> list[tuple[float, Composition]]:
        """The layouts that suit these components, in any order of them, the best first.

        Args:
            parts: Two or three characters.
            new: Whether compositions of existing characters are left out.

        Returns:
            Mean fit of the parts, and composition.
        """
        made = sorted(self._pairs(parts) if len(parts) == 2 else self._nested(parts), key=lambda each: -each[0])
        return [(fit, composition) for fit, composition in made if not (new and self.exists(composition))]

    def _pairs(self, parts: Sequence[str]) -> Iterator[tuple[float, Composition]]:
        for layout in (layout for layout, slots in LAYOUTS.items() if len(slots) == 2):
            for first, second in dict.fromkeys(permutations(parts)):
                if layout in _ENCLOSURES and self._seen[first, layout, 0] < _FEWEST_ENCLOSED:
                    continue
                fit = self._mean_fit([(first, layout, 0), (second, layout, 1)])
                yield fit, self.compose(layout, (first, second))

    def _nested(self, parts: Sequence[str]) -> Iterator[tuple[float, Composition]]:
        """One part beside two that are one above the other, or above or below two side by side.

        Of three in one row there are no examples to learn from.
        """
        for alone in parts:
            rest = list(parts)
            rest.remove(alone)
            for outer, inner, place in (("⿰", "⿱", 0), ("⿱", "⿰", 0), ("⿱", "⿰", 1)):
                for order in dict.fromkeys(permutations(rest)):
                    two = self.compose(inner, order)
                    placed = self._placed(alone, outer, place)
                    slots = [(alone, outer, place), *((part, inner, number) for number, part in enumerate(order))]
                    both = (placed, two) if place == 0 else (two, placed)
                    yield self._mean_fit(slots), Composition(None, None, outer, both)

    def _mean_fit(self, slots: Sequence[tuple[str, str, int]]) -> float:
        """Of components in slots; where those of many characters stand is better known, and weighs more."""
        weights = [1 + math.log1p(self._uses[component]) for component, _, _ in slots]
        return sum(weight * self.fit(*slot) for weight, slot in zip(weights, slots, strict=True)) / sum(weights)

    def compose(self, layout: str, parts: Iterable[str]) -> Composition:
        """A composition of components, each in the form that is usual in its slot (氵 for 水 at the left)."""
        return Composition(
            None, None, layout, tuple(self._placed(part, layout, place) for place, part in enumerate(parts))
        )

    def _placed(self, component: str, layout: str, place: int) -> Composition:
        part = self._compositions.of(component)
        forms = self._forms.get((component, layout, place))
        form = forms.most_common(1)[0][0] if forms else component
        return replace(part, form=form, base=component)
