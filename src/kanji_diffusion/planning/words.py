"""Words written in kanji and their English glosses, from EDICT."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from kanji_diffusion.core.errors import KanjiDiffusionError

_MAX_BYTES = 64 * 2**20
_MOST_WORDS_OF_A_GLOSS = 4
_GLOSSES = 3
_MOST_UNCOMMON = 4
_ENTRY = re.compile(r"(?P<word>\S+)(?: \[(?P<reading>[^\]]+)\])? /(?P<body>.+)/")
# Two to five kanji (astronaut is 宇宙飛行士), then the kana of an inflection at most.
_KANJI_WORD = re.compile(r"[\u3400-\u9fff]{2,5}[\u3041-\u3096]{0,3}")
_MARKS = re.compile(r"\((?:[a-zA-Z][\w-]*(?:,[\w-]+)*)\) *")
_SENSE = re.compile(r"\((\d+)\) *")
_NOTE = re.compile(r"\([^)]*\)?|\{[^}]*\}?|\[[^\]]*\]?")
_ARTICLE = re.compile(r"^(?:to be|to|an?|the) (?=\w)")
# Marks of words that are names, or that hardly anybody writes this way.
_REFUSED = {"iK", "oK", "ik", "ok", "arch", "sl", "vulg", "X", "unclass", "exp", "surname", "place", "given", "company"}
_RARE = {"obs", "obsc", "uK"}
_ASIDE = "see "


def read_edict(path: Path) -> pd.DataFrame:
    """Read the words of EDICT that are written in two to five kanji, with at most three kana at their end.

    Args:
        path: The file in EUC-JP, plain or compressed with gzip.

    Returns:
        One row per word and reading, common words first: word, reading, glosses (list of str, cleaned, in the
        dictionary's order), first (how many of them are of the first sense), narrow (a note narrows the first of
        them), common (marked "(P)"), rare (marked as obsolete or obscure). Expressions, slang, names and wrong
        spellings are left out.

    Raises:
        KanjiDiffusionError: If the file is missing or broken, or holds no such word.
    """
    try:
        text = _unpacked(path).decode("euc_jp", errors="replace")
    except (OSError, EOFError, zlib.error) as error:
        raise KanjiDiffusionError(
            f"The dictionary of words {path} cannot be read ({error}): run `make data`, or put EDICT there."
        ) from error
    rows = [row for line in text.splitlines() if (row := _word_row(line))]
    if not rows:
        raise KanjiDiffusionError(f"{path} holds no word written in kanji: put EDICT (edict.gz) there.")
    table = pd.DataFrame(rows).sort_values(["common", "rare"], ascending=[False, True], kind="stable")
    return table.drop_duplicates(["word", "reading"]).reset_index(drop=True)


def kanji_of(word: str) -> tuple[str, ...]:
    """The kanji of a word, without its kana."""
    return tuple(symbol for symbol in word if not "\u3041" <= symbol <= "\u30ff")


def _unpacked(path: Path) -> bytes:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    with gzip.open(path) if compressed else path.open("rb") as stream:
        data = stream.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise KanjiDiffusionError(f"{path} unpacks to more than 64 MiB: fetch a clean copy of EDICT.")
    return data


def _word_row(line: str) -> dict[str, Any] | None:
    # The first word excludes most lines before the whole line is parsed.
    entry = _ENTRY.match(line) if _KANJI_WORD.fullmatch(line.partition(" ")[0]) else None
    if not entry:
        return None
    parts = entry["body"].split("/")
    marks = {mark for part in parts for found in _MARKS.findall(part) for mark in found.strip(" ()").split(",")}
    if marks & _REFUSED:
        return None
    glosses: dict[str, tuple[int, bool]] = {}
    for sense, gloss, narrow in _glosses(parts):
        glosses.setdefault(gloss, (sense, narrow))
    if not glosses:
        return None
    return {
        "word": entry["word"],
        "reading": entry["reading"],
        "glosses": list(glosses),
        "first": sum(sense <= 1 for sense, _ in glosses.values()),
        "narrow": next(iter(glosses.values()))[1],
        "common": "P" in marks,
        "rare": bool(marks & _RARE),
    }


def _glosses(parts: list[str]) -> Iterator[tuple[int, str, bool]]:
    """Number of the sense, gloss in plain words, and whether a note narrows it, as in "rocket (Eruca sativa)"."""
    sense = 1
    for part in parts:
        while match := (_MARKS.match(part) or _SENSE.match(part)):
            sense = int(match[1]) if match.re is _SENSE else sense
            part = part[match.end() :]
        text = " ".join(_NOTE.sub(" ", part).split()).strip(" ,;:-").lower()
        text = _ARTICLE.sub("", text)
        if re.search("[a-z]", text) and not text.startswith(_ASIDE) and len(text.split()) <= _MOST_WORDS_OF_A_GLOSS:
            yield sense, text, "(" in part


@dataclass(frozen=True)
class Word:
    """A word that has a meaning.

    Attributes:
        word: As it is written.
        gloss: Its meaning.
        rank: Of the gloss in its entry, from 0.
        first: Whether the gloss is of the first sense.
        narrow: Whether a note narrows the first gloss, such as the name of a species.
        common: Whether EDICT marks the word as common.
        rare: Whether EDICT marks it as obsolete or obscure.
    """

    word: str
    gloss: str
    rank: int
    first: bool
    narrow: bool
    common: bool
    rare: bool


class WordIndex:
    """Words by what they mean.

    Args:
        words: What `concise` returned.
    """

    def __init__(self, words: pd.DataFrame) -> None:
        self._words = words
        self._rows: dict[str, list[tuple[int, int]]] = {}
        for row, glosses in enumerate(words["glosses"]):
            for rank, gloss in enumerate(glosses):
                self._rows.setdefault(_key(gloss), []).append((row, rank))

    def of(self, meaning: str) -> list[Word]:
        """The words that mean exactly this, but for hyphens, a plural, and "a" or "the"."""
        key = _key(_ARTICLE.sub("", " ".join(meaning.lower().split())))
        # "taxis" is no plural of taxi in a dictionary.
        other = key[:-1] if key.endswith("s") else "" if key.endswith(("i", "u")) else f"{key}s"
        return [self._word(*place) for each in (key, other) for place in self._rows.get(each, ())]

    def _word(self, row: int, rank: int) -> Word:
        found = self._words.iloc[row]
        marks = [bool(found[name]) for name in ("narrow", "common", "rare")]
        return Word(found["word"], found["glosses"][rank], rank, rank < found["first"], *marks)


def concise(words: pd.DataFrame, kanji: Container[str]) -> pd.DataFrame:
    """What a planner needs of the words: those of known kanji, each once, with their first glosses.

    Words of five kanji that are not common are left out, and of four with a narrow gloss: they mostly say at length
    what they mean, and that is hardly the gloss.

    Args:
        words: What `read_edict` returned.
        kanji: Known ones.

    Returns:
        word, glosses, first (as far as they are kept), narrow, common, rare; sorted by word, which packs best.
    """
    symbols = words["word"].map(kanji_of)
    kept = words[
        symbols.map(lambda each: all(symbol in kanji for symbol in each))
        & (words["common"] | (symbols.map(len) + words["narrow"] <= _MOST_UNCOMMON))
    ]
    kept = kept.assign(glosses=kept["glosses"].map(lambda each: list(each)[:_GLOSSES])).drop_duplicates("word")
    columns = ["word", "glosses", "first", "narrow", "common", "rare"]
    kept = kept[columns].assign(first=kept["first"].clip(upper=_GLOSSES).astype("int8"))
    return kept.sort_values("word", ignore_index=True)


def _key(meaning: str) -> str:
    return meaning.lower().replace("-", "").replace(" ", "")
