"""Characters and their meanings from KANJIDIC2."""

from __future__ import annotations

import gzip
import re
import unicodedata
import zlib
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal
from xml.etree.ElementTree import Element, iterparse
from xml.parsers import expat

import pandas as pd
from pydantic import Field

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.settings import Settings

_MAX_XML_BYTES = 256 * 2**20
_MAX_WORDS = 4
_JOUYOU_GRADES = (1, 2, 3, 4, 5, 6, 8)

_NOTE = re.compile(r"\([^)]*\)?|\[[^\]]*\]?")
_LAST_RESORT = re.compile(r"^counter for |^-\w|\w-$")
_PARENTHESIS = re.compile(r"[()\[\]]")
_ABOUT_THE_CHARACTER = re.compile(
    r"""
    \b(radical|rad\.)\D*\d | \bradical\ variant            # "one radical (no.1)", "variant of radical 125"
    | \bcounter\ for\b
    | ^(character\ |phonetic\ )?used\ (in|as|to|for|phonetically)\b
    | ^(various\ )?(chinese\ |korean\ )?(place|proper)\ names?\b
    | ^(same\ as|var\.?\ of|variant\ of|abbreviation\ (of|for)|(old|original|simplified)\ form\ of)\b
    | \btransliteration\b | \bphonetic\b
    | ^(e\.g\.|i\.e\.)
    | ^-\w | \w-$                                        # "-ship", "un-"
    | \b(of\ character|kanji)$                             # "RHS of character", "saguaro-like kanji"
    | \*\* | \d(AM|PM)\b | ^[^A-Za-z]*$                    # "10**40", "11PM-1AM", "0.1"
    | ^[\d./\ ]+(?!\d|st\b|nd\b|rd\b|th\b)\ ?[a-z]       # "3.75 grams", "1/10 sen", but not "3rd"
    | ^\w+/\d+$ | ^approx\.                               # "shaku/100", "approx. thirty-six sq ft"
    """,
    re.IGNORECASE | re.VERBOSE,
)

# "two-branch tree radical (no. 115)", "two-stroke water radical or ice radical (no. 15)"
_RADICAL_NAME = re.compile(r"([a-z' -]+?)(?: or [a-z' -]+)? radical\b.*\(no\. ?\d+\)")
_NO_CHARACTERS = ("Zs", "Zl", "Zp", "Cc", "Cf", "Mn")  # Unicode categories


class CharacterSelection(Settings):
    """Which characters to draw: the union of the criteria, of those that have a meaning."""

    grades: tuple[Literal[1, 2, 3, 4, 5, 6, 8, 9, 10], ...] = Field(
        default=(), description="School grades: 1-6, 8 (rest of jouyou), 9-10 (names)."
    )
    jouyou: bool = Field(default=False, description="The 2,136 characters of general use.")
    frequency_rank: int | None = Field(default=None, ge=1, description="The so many most frequent in newspapers.")
    characters: str = Field(
        default="", description="Characters named one by one, such as '雷龍'; white space between them is ignored."
    )
    all: bool = Field(default=False, description="Everything in the dictionary.")
    limit: int | None = Field(default=None, ge=1, description="Keep at most so many, the most frequent first.")


def read_kanjidic2(path: Path) -> pd.DataFrame:
    """Read the KANJIDIC2 dictionary.

    Args:
        path: The XML file, plain or compressed with gzip.

    Returns:
        One row per character, sorted by code point: character, code_point, on_readings, kun_readings,
        meanings, radical_names, variants (lists of str; `meanings` are English and cleaned, in the dictionary's order;
        `radical_names` are what a radical is called there, such as "two-branch tree" for 禾),
        grade, jlpt, frequency (rank, 1 = most frequent), stroke_count, radical (1-214); the last five
        are nullable integers.

    Raises:
        KanjiDiffusionError: The file is missing, broken, declares XML entities, or holds no character.
    """
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if compressed else path.open("rb") as stream:
            rows = _character_rows(_parse_characters(stream.read(_MAX_XML_BYTES + 1)))
    except (OSError, EOFError, ValueError, zlib.error, expat.ExpatError) as error:
        raise KanjiDiffusionError(
            f"The dictionary {path} cannot be read ({error}): run `make data`, or put KANJIDIC2 there."
        ) from error
    if not rows:
        raise KanjiDiffusionError(f"{path} holds no character entry: put KANJIDIC2 (kanjidic2.xml.gz) there.")
    table = pd.DataFrame(rows).sort_values("code_point", ignore_index=True)
    return table.astype(dict.fromkeys(("grade", "jlpt", "frequency", "stroke_count", "radical"), "Int64"))


def select_characters(dictionary: pd.DataFrame, selection: CharacterSelection) -> pd.DataFrame:
    """Select the characters to draw from the dictionary.

    Args:
        dictionary: What `read_kanjidic2` returned.
        selection: The criteria.

    Returns:
        The selected rows, sorted by code point, each with at least one meaning.

    Raises:
        KanjiDiffusionError: Nothing is selected, or a character named one by one is unknown or has no
            meaning.
    """
    has_meaning = dictionary["meanings"].map(len) > 0
    # White space and variation selectors, which choose a variant of the character before them, are no characters.
    named = {letter for letter in selection.characters if unicodedata.category(letter) not in _NO_CHARACTERS}
    if lost := named - set(dictionary.loc[has_meaning, "character"]):
        raise KanjiDiffusionError(
            f"No English meaning in the dictionary for {'、'.join(sorted(lost))}, so no caption can be "
            "written: remove it from `characters`."
        )
    chosen = (
        dictionary["grade"].isin(selection.grades)
        | (selection.jouyou & dictionary["grade"].isin(_JOUYOU_GRADES))
        | (dictionary["frequency"] <= (selection.frequency_rank or 0)).fillna(False)
        | dictionary["character"].isin(named)
        | selection.all
    )
    table = dictionary[chosen & has_meaning].sort_values("code_point", ignore_index=True)
    if table.empty:
        raise KanjiDiffusionError(
            "The selection of characters is empty: set `grades`, `jouyou`, `frequency_rank`, `characters` or `all`."
        )
    if selection.limit is not None:
        table = table.sort_values(["frequency", "code_point"]).head(selection.limit)
    return table.sort_values("code_point", ignore_index=True)


def clean_meanings(meanings: Sequence[str]) -> list[str]:
    """Reduce dictionary entries to plain meanings.

    Notes in parentheses, counters, affixes, entries about the character's shape or use rather than its
    meaning, bare figures, duplicates and entries of more than four words go; the order stays. When nothing
    else is left, the shortest over-long entry is kept, or an affix, or what a counter counts ("articles").
    """
    plain = _plain_texts(meaning for meaning in meanings if not _ABOUT_THE_CHARACTER.search(meaning))
    short = [text for text in plain if len(text.split()) <= _MAX_WORDS]
    if short or plain:
        return short or sorted(plain, key=len)[:1]
    return _plain_texts(meaning.removeprefix("counter for ") for meaning in meanings if _LAST_RESORT.search(meaning))[
        :1
    ]


def _plain_texts(meanings: Iterable[str]) -> list[str]:
    texts: dict[str, str] = {}
    for meaning in meanings:
        text = _PARENTHESIS.sub(" ", _NOTE.sub(" ", meaning)).replace("&", " and ").replace("_", ",")
        text = re.sub(r"[\s,;]*\betc\b[\s.,;]*$", "", " ".join(text.split()))
        text = re.sub(r"\s+([,;.?!])", r"\1", text).strip(" ,;:-")
        text = re.sub(r"( of| in)?\.{3}$", "", text)
        text = re.sub(r"\"(.+?)\"|(?<!\w)'(\w+)'(?!\w)", r"\1\2", text)
        text = re.sub(r"^to (?=\w)", "", text)
        if re.search(r"[A-Za-z]", text):
            texts.setdefault(text.lower(), text)
    return list(texts.values())


def _parse_characters(data: bytes) -> list[Element]:
    if len(data) > _MAX_XML_BYTES:
        raise KanjiDiffusionError("The dictionary unpacks to more than 256 MiB: fetch a clean copy of KANJIDIC2.")
    # Expat itself reads the file first, since ElementTree's parser cannot refuse declarations of entities.
    parser = expat.ParserCreate()
    parser.EntityDeclHandler = _refuse_entity
    parser.Parse(data, True)
    found = (element for _, element in iterparse(BytesIO(data)) if element.tag == "character")
    return [_without_indexes(element) for element in found]


def _refuse_entity(name: str, *_: Any) -> None:
    raise KanjiDiffusionError(
        f"The dictionary declares the XML entity {name!r}, which KANJIDIC2 never does: get a clean copy."
    )


def _without_indexes(element: Element) -> Element:
    """Drop the references to printed dictionaries, which are two thirds of the file."""
    for tag in ("dic_number", "query_code"):
        if (child := element.find(tag)) is not None:
            element.remove(child)
    return element


def _character_rows(elements: Sequence[Element]) -> list[dict[str, Any]]:
    by_standard = {
        (value.get("cp_type"), value.text): element.findtext("literal", "")
        for element in elements
        for value in element.iterfind("codepoint/cp_value")
    }
    return [_character_row(element, by_standard) for element in elements]


def _character_row(element: Element, by_standard: dict[tuple[str | None, str | None], str]) -> dict[str, Any]:
    character = element.findtext("literal", "")
    if len(character) != 1:
        raise ValueError(f"an entry has the literal '{character}', which is not one character")

    def readings(kind: str) -> list[str]:
        found = element.iterfind(f"reading_meaning/rmgroup/reading[@r_type='{kind}']")
        return [reading.text for reading in found if reading.text]

    def number(path: str) -> int | None:
        text = element.findtext(path)
        return int(text) if text else None

    meanings = [
        meaning.text
        for meaning in element.iterfind("reading_meaning/rmgroup/meaning")
        if meaning.text and "m_lang" not in meaning.attrib
    ]
    variants = [
        by_standard.get((variant.get("var_type"), variant.text)) for variant in element.iterfind("misc/variant")
    ]
    return {
        "character": character,
        "code_point": ord(character),
        "on_readings": readings("ja_on"),
        "kun_readings": readings("ja_kun"),
        "meanings": clean_meanings(meanings),
        "radical_names": [match[1] for meaning in meanings if (match := _RADICAL_NAME.match(meaning))],
        "variants": sorted({variant for variant in variants if variant}),
        "grade": number("misc/grade"),
        "jlpt": number("misc/jlpt"),
        "frequency": number("misc/freq"),
        "stroke_count": number("misc/stroke_count"),
        "radical": number("radical/rad_value[@rad_type='classical']"),
    }
