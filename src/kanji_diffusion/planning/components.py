"""Which component marks the meaning of a kanji: water in kanji of rivers, illness in kanji of pains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.planning.meanings import Meanings

MEANINGS = 2
"""How many meanings of a character or a component are used, the first ones."""
FEWEST_CHARACTERS = 3
"""In how many characters a component must stand to be a common one."""

# How much less a neighbour counts for each bit of similarity that it lacks.
_TEMPERATURE = 0.05
# Share of the component's frequency that is taken out of its votes again.
_RARITY = 0.25
_SIMILARITY_WEIGHT, _REGRESSION_WEIGHT = 3.0, 12.0
_RIDGE, _BIAS = 3.0, 0.3
_HIDDEN = -9.0


class SemanticComponents:
    """Ranks the components that mark the meaning in real characters (KanjiVG's radicals), for any meaning.

    The score is a sum of three terms: votes of the characters, weighted by the similarity of their meanings; similarity
    to the meanings of the component itself; and a ridge regression from meanings to components. All of them can leave
    characters out, so that a character can be predicted without its own entry.

    Args:
        compositions: Of all characters.
        table: Rows with character and radical (a component, or null), as `composition_table` makes it.
        dictionary: Rows with character, meanings and variants.
        meanings: Their vectors.
    """

    def __init__(
        self, compositions: Compositions, table: pd.DataFrame, dictionary: pd.DataFrame, meanings: Meanings
    ) -> None:
        known = {
            character: list(listed)
            for character, listed in zip(dictionary["character"], dictionary["meanings"], strict=True)
            if len(listed)
        }
        marked = {
            character: radical
            for character, radical in zip(table["character"], table["radical"], strict=True)
            if isinstance(radical, str) and character in known
        }
        often = Counter(marked.values())
        self.components = [each for each, times in often.most_common() if times >= FEWEST_CHARACTERS]
        rows = {component: row for row, component in enumerate(self.components)}
        marked = {character: radical for character, radical in marked.items() if radical in rows}
        texts = [known[character][:MEANINGS] for character in marked]
        self._characters = {character: number for number, character in enumerate(marked)}
        self._variants = _variants(dict(zip(dictionary["character"], dictionary["variants"], strict=True)))
        self._owner = np.repeat(np.arange(len(texts)), [len(each) for each in texts])
        self._vectors = meanings.vectors([text for each in texts for text in each])
        self._label = np.array([rows[radical] for radical in marked.values()])
        self._own = _Grouped([component_meanings(compositions, component) for component in self.components], meanings)
        self._log_frequency = np.log(np.bincount(self._label, minlength=len(rows)))
        self._design = np.c_[self._vectors, np.full(len(self._vectors), _BIAS, np.float32)].astype(np.float64)
        self._gram = self._design.T @ self._design + _RIDGE * np.eye(self._design.shape[1])
        self._moment = self._design.T @ np.eye(len(rows))[self._label[self._owner]]

    def score(self, vector: np.ndarray, hidden: Collection[str] = ()) -> np.ndarray:
        """How well each of `components` suits a meaning, float `[len(components)]`: the logarithm of a weight.

        Args:
            vector: Of the meaning, `[D]`, of length 1.
            hidden: Characters that count as unknown, with their variants.
        """
        left_out = {*hidden}.union(*(self._variants.get(character, ()) for character in hidden))
        own = self._own.similarity(vector)
        own[[number for number, component in enumerate(self.components) if component in left_out]] = _HIDDEN
        return (
            np.log(self._votes(vector, left_out) + 1e-9)
            - _RARITY * self._log_frequency
            + _SIMILARITY_WEIGHT * own
            + _REGRESSION_WEIGHT * self._regression(vector, left_out)
        )

    def similarity(self, vector: np.ndarray) -> np.ndarray:
        """Of the own meanings of each of `components`, float32 `[len(components)]`."""
        return self._own.similarity(vector)

    def _votes(self, vector: np.ndarray, left_out: Collection[str]) -> np.ndarray:
        """Of each character, by its meaning that is most similar."""
        nearest = np.full(len(self._label), -1.0)
        np.maximum.at(nearest, self._owner, self._vectors @ vector)
        weights = np.exp((nearest - 1) / _TEMPERATURE)
        weights[self._numbers(left_out)] = 0
        return np.bincount(self._label, weights, minlength=len(self.components))

    def _regression(self, vector: np.ndarray, left_out: Collection[str]) -> np.ndarray:
        gram, moment = self._gram, self._moment
        rows = np.flatnonzero(np.isin(self._owner, self._numbers(left_out)))
        if len(rows):
            lost = self._design[rows]
            gram = gram - lost.T @ lost
            moment = moment - lost.T @ np.eye(len(self.components))[self._label[self._owner[rows]]]
        return np.linalg.solve(gram, np.append(vector, _BIAS)) @ moment

    def _numbers(self, characters: Collection[str]) -> list[int]:
        return [self._characters[each] for each in characters if each in self._characters]


class _Grouped:
    """Vectors of several meanings for each of several things."""

    def __init__(self, texts: Sequence[Sequence[str]], meanings: Meanings) -> None:
        self._vectors = meanings.vectors([text for each in texts for text in each])
        self._starts = np.cumsum([0, *(len(each) for each in texts[:-1])])

    def similarity(self, vector: np.ndarray) -> np.ndarray:
        """Of the meaning of each that is most similar to `vector`."""
        return np.maximum.reduceat(self._vectors @ vector, self._starts)


class ComponentMeanings:
    """How similar meanings are to those of components.

    Args:
        compositions: Of all characters.
        components: Those that are compared.
        meanings: Vectors.
    """

    def __init__(self, compositions: Compositions, components: Sequence[str], meanings: Meanings) -> None:
        self.components = list(components)
        self._grouped = _Grouped([component_meanings(compositions, each) for each in components], meanings)

    def similarity(self, vector: np.ndarray) -> np.ndarray:
        """Of each component's most similar meaning, float32 `[len(components)]`."""
        return self._grouped.similarity(vector)


def common_components(compositions: Compositions) -> list[str]:
    """The components that stand in at least `FEWEST_CHARACTERS` characters."""
    return [component for component, uses in compositions.uses.items() if uses >= FEWEST_CHARACTERS]


def component_meanings(compositions: Compositions, component: str) -> list[str]:
    """Name and first meanings of a component, no two alike."""
    texts = [compositions.names.get(component, component), *compositions.meanings_of(component)[:MEANINGS]]
    return list(dict.fromkeys(text.lower() for text in texts))


def _variants(listed: Mapping[str, Collection[str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for character, others in listed.items():
        for other in others:
            found.setdefault(character, set()).add(other)
            found.setdefault(other, set()).add(character)
    return found
