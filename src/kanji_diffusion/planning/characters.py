"""What characters mean, and which character a meaning belongs to."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import pandas as pd

_EARLY = 2
"""How many meanings of a character count as its main ones, the first in the dictionary."""


class CharacterMeanings:
    """Meanings of characters and characters of meanings.

    Args:
        dictionary: Rows with character, code_point, frequency, meanings and trained.
    """

    def __init__(self, dictionary: pd.DataFrame) -> None:
        self._dictionary = dictionary
        self._meanings = dict(zip(dictionary["character"], map(list, dictionary["meanings"]), strict=True))

    def of(self, character: str) -> list[str]:
        """The meanings of a character in the dictionary's order; none for an unknown character."""
        return self._meanings.get(character, [])

    @cached_property
    def owners(self) -> dict[str, str]:
        """Meaning in lower case -> the character that it belongs to.

        As in captions, that is the character that has the meaning earliest in its entry, then the more frequent one;
        but trained characters come first.
        """
        claims: dict[str, tuple[Any, ...]] = {}
        frequency = self._dictionary["frequency"].astype("Float64").fillna(float("inf"))
        columns = (
            self._dictionary["trained"],
            frequency,
            self._dictionary["code_point"],
            self._dictionary["character"],
        )
        for trained, rank, code_point, character in zip(*columns, strict=True):
            for position, meaning in enumerate(self._meanings[character]):
                claim = (not trained, position, rank, code_point, character)
                claims[meaning.lower()] = min(claims.get(meaning.lower(), claim), claim)
        return {meaning: claim[-1] for meaning, claim in claims.items()}

    def main_owner(self, meaning: str) -> str | None:
        """The character that a meaning belongs to, if it is one of the character's main meanings."""
        owner = self.owners.get(meaning)
        return owner if owner and meaning in [each.lower() for each in self.of(owner)[:_EARLY]] else None
