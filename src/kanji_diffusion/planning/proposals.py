"""Compositions for a meaning that has no kanji: from Japanese words, and from components of similar meanings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import combinations, islice, product
from typing import NamedTuple

import numpy as np
import pandas as pd

from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.planning.characters import CharacterMeanings
from kanji_diffusion.planning.components import (
    FEWEST_CHARACTERS,
    MEANINGS,
    ComponentMeanings,
    SemanticComponents,
    common_components,
    component_meanings,
)
from kanji_diffusion.planning.layouts import MOST_STROKES, SeenLayouts
from kanji_diffusion.planning.meanings import Meanings
from kanji_diffusion.planning.plan import Plan, Source, describe_briefly
from kanji_diffusion.planning.words import Word, WordIndex, kanji_of

# The weights below were tuned on evaluation/invented_meanings.txt, by looking at the plans.
# Score of a word; what is added if it is common, rare, or of a narrow meaning, and for later glosses and senses.
_WORD, _COMMON, _RARE, _LATER_GLOSS, _LATER_SENSE, _NARROW = 0.6, 0.2, -0.1, -0.1, -0.1, -0.25
# Weight of the similarity between the kanji of a word and the meaning, and bonus of the last kanji, the head.
_SHARED_MEANING, _HEAD = 0.8, 0.06
# A word whose kanji are all less similar to its gloss means something else by it (rocket: 黄花清白, a flower).
_LEAST_SHARED = 0.28
# Cost of a part in place of its kanji, with its weight for each bit of similarity below `_ALIKE`; of a kanji that is
# built as a whole; of a component of few characters.
_IN_PLACE, _UNLIKE, _ALIKE, _NESTED, _SELDOM = -0.1, -0.6, 0.6, -0.2, -0.05
# Weights of the semantic component's score, of its similarity and of the similarity of the second component.
_SEMANTIC, _FIRST, _SECOND = 0.06, 0.3, 0.5
# Weight of the fit of a layout, and cost of each stroke above `_LIGHT`.
_FIT, _STROKE, _LIGHT = 0.06, -0.03, 18
# Cost of a part in a slot where it stands in no character, divided by the square of one more than those where it does:
# what a model has hardly seen somewhere, it does not draw well there.
_UNSEEN = -0.4
_FEWEST_STROKES = 2
_SEMANTIC_TRIED, _SECOND_TRIED, _ARRANGED = 8, 12, 2
# In how many proposals for a meaning a component may be.
_MOST_ALIKE = 2
_EMPTY_WORDS = {"a", "an", "the", "of", "and", "in", "on", "to", "for", "with", "from"}


class _Part(NamedTuple):
    """A component that stands for a kanji of a word."""

    component: str
    meaning: str
    penalty: float


class Proposer:
    """Proposes compositions for meanings.

    Args:
        compositions: Of all characters.
        table: What `composition_table` returned.
        component_names: What `name_components` returned.
        dictionary: Rows with character, meanings and variants.
        words: What `words.concise` returned.
        characters: Meanings of the characters in `dictionary`.
        meanings: Vectors of meanings.
    """

    def __init__(
        self,
        compositions: Compositions,
        table: pd.DataFrame,
        component_names: pd.DataFrame,
        dictionary: pd.DataFrame,
        words: pd.DataFrame,
        characters: CharacterMeanings,
        meanings: Meanings,
    ) -> None:
        self._compositions, self._characters, self._meanings = compositions, characters, meanings
        self._table, self._dictionary, self._words = table, dictionary, words
        named = component_names["source"].isin(["meaning", "radical"])
        self._named = set(component_names.loc[named, "component"])

    def propose(self, meaning: str, count: int = 1, hidden: Collection[str] = ()) -> list[Plan]:
        """Compositions for a meaning, the best first.

        Args:
            meaning: In English.
            count: At most so many.
            hidden: Characters that count as unknown, also in words; for evaluation.
        """
        vector = self._meanings.vectors([meaning])[0]
        found = [*self._by_words(meaning, vector, hidden), *self._by_similarity(meaning, vector, hidden)]
        found.sort(key=lambda plan: -plan.score)
        return list(islice(_distinct(found), count))

    @cached_property
    def layouts(self) -> SeenLayouts:
        """The slots in which components stand in real characters."""
        return SeenLayouts(self._compositions)

    @cached_property
    def semantic(self) -> SemanticComponents:
        """Components that suit a meaning because kanji of similar meanings have them."""
        return SemanticComponents(self._compositions, self._table, self._dictionary, self._meanings)

    @cached_property
    def words(self) -> WordIndex:
        """Words by their meaning."""
        return WordIndex(self._words)

    @cached_property
    def _second(self) -> ComponentMeanings:
        """Components that can be the other part: those whose name is a meaning."""
        usable = [each for each in common_components(self._compositions) if self._is_usable(each)]
        return ComponentMeanings(self._compositions, usable, self._meanings)

    def _is_usable(self, component: str) -> bool:
        strokes = len(self._compositions.of(component).strokes)
        return component in self._named and _FEWEST_STROKES <= strokes <= MOST_STROKES

    def _by_words(self, meaning: str, vector: np.ndarray, hidden: Collection[str]) -> Iterator[Plan]:
        """From the kanji of Japanese words of this meaning, and from the words of the prompt themselves."""
        for word in self.words.of(meaning):
            kanji = kanji_of(word.word)
            if not set(kanji) & set(hidden):
                yield from self._of_kanji(meaning, vector, kanji, _word_score(word), word.word)
        content = [word for word in meaning.lower().split() if word not in _EMPTY_WORDS]
        if len(content) > 1:
            owners = [self._characters.main_owner(word) for word in content]
            kanji = tuple(owner for owner in owners if owner and owner not in hidden)
            if len(kanji) > 1:
                yield from self._of_kanji(meaning, vector, kanji, _WORD + _COMMON, None)

    def _of_kanji(
        self, meaning: str, vector: np.ndarray, kanji: Sequence[str], score: float, word: str | None
    ) -> Iterator[Plan]:
        """Plans of two kanji of a word, if one is similar to its meaning; the last one is the head of the word."""
        shared = [self._shared(vector, symbol) for symbol in kanji]
        if word and max(shared) < _LEAST_SHARED:
            return
        for first, second in combinations(range(len(kanji)), 2):
            if kanji[first] == kanji[second]:
                continue
            similarity = (shared[first] + shared[second]) / 2 + _HEAD * (second == len(kanji) - 1)
            for one, other in product(self._parts(kanji[first]), self._parts(kanji[second])):
                if one.component == other.component:
                    continue
                total = score + _SHARED_MEANING * similarity + one.penalty + other.penalty
                said = ", ".join(dict.fromkeys((one.meaning, other.meaning)))
                origin = f"from {word} ({said})" if word else f"from {kanji[first]}, {kanji[second]} ({said})"
                yield from self._arranged(meaning, (one.component, other.component), "word", origin, total)

    def _shared(self, vector: np.ndarray, character: str) -> float:
        """Similarity of a meaning and a character, by the most similar of its first meanings."""
        known = self._characters.of(character)[:MEANINGS]
        return float((self._meanings.vectors(known) @ vector).max()) if known else 0.0

    def _parts(self, character: str) -> list[_Part]:
        """The components that can stand for a kanji: the kanji itself, or a part of it with a similar meaning."""
        meaning = self._characters.of(character)[0]
        composition = self._compositions.of(character)
        uses, strokes = self._compositions.uses.get(character, 0), len(composition.strokes)
        found = []
        if uses and strokes <= MOST_STROKES:
            found.append(_Part(character, meaning, _SELDOM * (uses < FEWEST_CHARACTERS)))
        elif composition.layout and strokes <= MOST_STROKES - 1:
            found.append(_Part(character, meaning, _NESTED))
        for part in composition.components():
            if part.base and part.base != character and self._is_usable(part.base):
                unlike = max(0.0, _ALIKE - self._similarity(character, part.base))
                found.append(_Part(part.base, meaning, _IN_PLACE + _UNLIKE * unlike))
        return found

    def _similarity(self, character: str, component: str) -> float:
        own = self._meanings.vectors([text.lower() for text in self._characters.of(character)[:MEANINGS]])
        parts = self._meanings.vectors(component_meanings(self._compositions, component))
        return float((own @ parts.T).max())

    def _by_similarity(self, meaning: str, vector: np.ndarray, hidden: Collection[str]) -> Iterator[Plan]:
        """From components that kanji of similar meanings have, beside components of similar meanings."""
        logits, own = self.semantic.score(vector, hidden), self.semantic.similarity(vector)
        first = [row for row in np.argsort(-logits) if self._is_usable(self.semantic.components[row])]
        similar = self._second.similarity(vector)
        second = [row for row in np.argsort(-similar) if self._second.components[row] not in hidden]
        for one, other in product(first[:_SEMANTIC_TRIED], second[:_SECOND_TRIED]):
            pair = (self.semantic.components[one], self._second.components[other])
            if pair[0] != pair[1]:
                total = _SEMANTIC * (logits[one] - logits[first[0]])
                total += _FIRST * own[one] + _SECOND * float(similar[other])
                yield from self._arranged(meaning, pair, "similarity", "by similar meanings", total)

    def _arranged(
        self, meaning: str, parts: tuple[str, str], source: Source, origin: str, score: float
    ) -> Iterator[Plan]:
        """Plans of two parts in the layouts that suit them best."""
        strokes = sum(len(self._compositions.of(part).strokes) for part in parts)
        score += _STROKE * max(0, strokes - _LIGHT)
        for fit, composition in islice(self.layouts.arrangements(parts), _ARRANGED):
            label = f"{meaning} = {describe_briefly(self._compositions, composition)}"
            unseen = _UNSEEN / (1 + self.layouts.seen(composition)) ** 2
            yield Plan(
                asked=meaning,
                subject=self._compositions.describe(composition),
                composition=composition,
                ids=composition.ids,
                character=None,
                source=source,
                reason=f"{label}, {origin}",
                score=round(score + _FIT * fit + unseen, 3),
                label=label,
            )


def _word_score(word: Word) -> float:
    marked = _COMMON * word.common + _RARE * word.rare + _NARROW * (word.narrow and not word.common)
    return _WORD + marked + _LATER_GLOSS * word.rank + _LATER_SENSE * (not word.first)


def _distinct(plans: Iterable[Plan]) -> Iterator[Plan]:
    """Plans of different parts, no component in more than `_MOST_ALIKE` of them."""
    seen: set[frozenset[str]] = set()
    times: dict[str, int] = {}
    for plan in plans:
        parts = frozenset(part.base or "" for part in plan.composition.components())
        if parts in seen or any(times.get(part, 0) >= _MOST_ALIKE for part in parts):
            continue
        seen.add(parts)
        times |= {part: times.get(part, 0) + 1 for part in parts}
        yield plan
