from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTCollection, TTFont

from kanji_diffusion.glyphs.compositions import Compositions, composition_table
from kanji_diffusion.glyphs.dictionary import CharacterSelection, read_kanjidic2, select_characters
from kanji_diffusion.glyphs.fonts import FaceRule, FontSettings, audit_glyphs, list_faces
from kanji_diffusion.glyphs.kanjivg import Composition, kanjivg_folder, read_kanjivg
from kanji_diffusion.glyphs.naming import name_components

Box = tuple[int, int, int, int]
FontMaker = Callable[..., Path]


@pytest.fixture(scope="session")
def dictionary(raw_data: Path) -> pd.DataFrame:
    return read_kanjidic2(raw_data / "kanjidic2.xml.gz")


@pytest.fixture(scope="session")
def grade_one(dictionary: pd.DataFrame) -> pd.DataFrame:
    return select_characters(dictionary, CharacterSelection(grades=(1,)))


@pytest.fixture(scope="session")
def drawn() -> dict[str, Composition]:
    return read_kanjivg(kanjivg_folder())


@pytest.fixture(scope="session")
def composition_tables(drawn: dict[str, Composition], dictionary: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    return composition_table(drawn), name_components(drawn, dictionary)


@pytest.fixture(scope="session")
def names(composition_tables: tuple[pd.DataFrame, pd.DataFrame]) -> pd.DataFrame:
    return composition_tables[1]


@pytest.fixture(scope="session")
def compositions(composition_tables: tuple[pd.DataFrame, pd.DataFrame]) -> Compositions:
    return Compositions(*composition_tables)


@pytest.fixture(scope="session")
def font_folder(raw_data: Path) -> Path:
    return raw_data / "fonts"


@pytest.fixture(scope="session")
def font_settings() -> FontSettings:
    rules = {
        "NotoSansCJK-Regular.ttc": "gothic",
        "ipaexm.ttf": "mincho",
        "kouzan-mouhitsu.ttf": "brush",
        "kiloji.ttf": "handwritten",
    }
    held_out = FaceRule(pattern="aoyagi-soseki.ttf", style="brush", held_out=True)
    return FontSettings(faces=(*(FaceRule(pattern=pattern, style=style) for pattern, style in rules.items()), held_out))


@pytest.fixture(scope="session")
def faces(font_folder: Path, font_settings: FontSettings, grade_one: pd.DataFrame) -> pd.DataFrame:
    return list_faces(font_folder, font_settings, grade_one)


@pytest.fixture(scope="session")
def audit(faces: pd.DataFrame, grade_one: pd.DataFrame, font_folder: Path, font_settings: FontSettings) -> pd.DataFrame:
    return audit_glyphs(faces, grade_one, font_folder, font_settings)


@pytest.fixture
def make_font(tmp_path: Path) -> FontMaker:
    """Build a font of rectangles: character -> its boxes (left, bottom, right, top) on an em of 1000."""

    def make(path: Path, drawings: Mapping[str, Sequence[Box]], families: Sequence[str] = ("Test",)) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        fonts = [_build(drawings, family) for family in families]
        if len(fonts) == 1:
            fonts[0].save(path)
            return path
        collection = TTCollection()
        collection.fonts = fonts
        collection.save(path)
        return path

    return make


def _build(drawings: Mapping[str, Sequence[Box]], family: str) -> TTFont:
    glyphs = {".notdef": [(100, 0, 900, 800), (200, 100, 800, 700)]}
    glyphs |= {f"u{ord(character):04X}": list(boxes) for character, boxes in drawings.items()}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap({ord(character): f"u{ord(character):04X}" for character in drawings})
    builder.setupGlyf({name: _rectangles(boxes) for name, boxes in glyphs.items()})
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (1000, 0)))
    builder.setupHorizontalHeader(ascent=880, descent=-120)
    builder.setupNameTable(
        {
            "familyName": family,
            "styleName": "Regular",
            "psName": family.replace(" ", "") + "-Regular",
            "fullName": family,
            "licenseDescription": "For tests only.",
        }
    )
    builder.setupOS2()
    builder.setupPost()
    return builder.font


def _rectangles(boxes: Sequence[Box]) -> object:
    pen = TTGlyphPen(None)
    for left, bottom, right, top in boxes:
        pen.moveTo((left, bottom))
        pen.lineTo((left, top))
        pen.lineTo((right, top))
        pen.lineTo((right, bottom))
        pen.closePath()
    return pen.glyph()
