"""Small fonts, cut out of real ones."""

from __future__ import annotations

from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont


def cut(path: Path, text: str) -> TTFont:
    """The glyphs of some characters and of ABC, with all names."""
    options = subset.Options(name_IDs=["*"], notdef_outline=True, drop_tables=["GSUB", "GPOS", "gasp"], hinting=False)
    font = TTFont(path, lazy=True)
    cutter = subset.Subsetter(options)
    cutter.populate(text=text + "ABC")
    cutter.subset(font)
    return font


def rename(font: TTFont, name: str) -> TTFont:
    for number in (1, 3, 4, 6, 16):
        font["name"].setName(name, number, 3, 1, 0x409)
    font["name"].names = [record for record in font["name"].names if record.platformID == 3]
    return font
