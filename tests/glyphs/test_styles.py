from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kanji_diffusion.glyphs.draw import ink_of, open_font
from kanji_diffusion.glyphs.styles import STYLE_WORDS, style_of_family, style_of_strokes

FAMILIES = {
    "gothic": ["Noto Sans CJK JP", "IPAexGothic", "TakaoPGothic", "VL PGothic", "BIZ UDPGothic", "Sawarabi Gothic"],
    "rounded": ["Zen Maru Gothic", "M PLUS Rounded 1c", "Kosugi Maru", "MotoyaLMaru", "Kiwi Maru"],
    "mincho": ["Noto Serif CJK JP", "IPAexMincho", "BIZ UDMincho", "HanaMinA", "Oradano-mincho-GSRR"],
    "antique": ["Zen Antique", "Shippori Antique"],
    "textbook": ["Klee One", "UD Digi Kyokasho NK-R"],
    "kaisho": ["HGSeikaishotaiPRO", "AR KaishoM", "Yuji Syuku"],
    "gyosho": ["KouzanBrushFontGyousyo", "衡山毛筆フォント行書"],
    "sosho": ["KouzanBrushFontSousyo", "衡山毛筆フォント草書"],
    "reisho": ["AoyagiReisyoSIMO2"],
    "brush": ["KouzanBrushFont", "AoyagiSosekiFont2", "AoyagiKouzanFontT"],
    "handwritten": ["kiloji - B", "SetoFont", "YOzS", "Yusei Magic", "Hachi Maru Pop", "あずきフォント"],
    "pixel": ["DotGothic16", "PixelMplus12", "JF Dot Shinonome 14", "Misaki Gothic"],
    "display": ["Reggae One", "Dela Gothic One", "RocknRoll One"],
}  # fmt: skip


@pytest.mark.parametrize(("style", "family"), [(style, name) for style, names in FAMILIES.items() for name in names])
def test_known_families_have_their_style(style: str, family: str) -> None:
    assert style_of_family(family) == style
    assert style in STYLE_WORDS


@pytest.mark.parametrize("family", ["Test", "Volume", "Consumer", ""])
def test_other_families_tell_nothing(family: str) -> None:
    assert style_of_family(family) is None


@pytest.mark.parametrize("grade", [1, 5])
@pytest.mark.parametrize(
    ("file", "style"),
    [
        ("ipaexg.ttf", "gothic"),
        ("VL-Gothic-Regular.ttf", "gothic"),
        ("ipaexm.ttf", "mincho"),
        ("BIZUDMincho-Regular.ttf", "mincho"),
        ("aoyagi-soseki.ttf", "brush"),
        ("kouzan-mouhitsu-gyosho.ttf", "brush"),
        ("kiloji.ttf", "handwritten"),
        ("setofont.ttf", "handwritten"),
    ],
)
def test_strokes_tell_the_style(font_folder: Path, dictionary: pd.DataFrame, file: str, style: str, grade: int) -> None:
    font = open_font(str(next(font_folder.rglob(file))), 0, 128)
    characters = dictionary.loc[dictionary["grade"] == grade, "character"][:80]
    assert style_of_strokes([np.asarray(ink_of(font, character)[0]) for character in characters], 128) == style


@pytest.mark.parametrize("grid", [12, 16, 24])
def test_pixels_are_seen(font_folder: Path, grade_one: pd.DataFrame, grid: int) -> None:
    font = open_font(str(next(font_folder.rglob("ipaexg.ttf"))), 0, grid)
    bitmaps = [ink_of(font, character)[0].point(lambda ink: 255 * (ink > 110)) for character in grade_one["character"]]
    cell = 128 // grid
    large = [bitmap.resize((cell * bitmap.width, cell * bitmap.height), Image.Resampling.NEAREST) for bitmap in bitmaps]
    assert style_of_strokes([np.asarray(bitmap) for bitmap in large], 128) == "pixel"
