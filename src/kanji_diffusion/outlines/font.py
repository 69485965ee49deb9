"""Outlines as a font: OpenType with cubic curves (CFF) or with quadratic ones (TrueType)."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fontTools.fontBuilder import FontBuilder
from fontTools.misc.timeTools import timestampFromString
from fontTools.pens.cu2quPen import Cu2QuPen
from fontTools.pens.t2CharStringPen import T2CharStringPen
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import newTable

from kanji_diffusion.outlines.trace import ASCENT, EM, Outline

PRIVATE_USE = range(0xE000, 0xF900)
"""Code points of inventions."""

_SPACES = {"space": (0x20, EM // 2), "uni3000": (0x3000, EM)}
_NOT_DEFINED = ".notdef"
_LONGEST_NAME = 63
# Font units by which a quadratic curve may lie beside the cubic one.
_QUADRATIC_ERROR = 0.5
_JAPANESE = 1 << 17
_REGULAR, _USE_TYPO_METRICS = 1 << 6, 1 << 7
# At every size with grey levels and without grid fitting in one direction alone.
_SMOOTH = {0xFFFF: 0x000F}
# The same glyphs make the same file.
_MADE = timestampFromString("Thu Jan  1 00:00:00 2026")


@dataclass(frozen=True)
class FontGlyph:
    """A glyph as wide and as high as the em."""

    name: str
    code_point: int
    outline: Outline


@dataclass(frozen=True)
class FontNames:
    """What a font says of itself.

    Attributes:
        family: Such as "Kanji Diffusion Brush": ASCII letters, digits and spaces, at most 31.
        version: Behind the number of the version: what drew the glyphs.
        description: What it is.
        license: Under which terms it may be used.
        license_url: Where these are told; empty for nowhere.
    """

    family: str
    version: str
    description: str
    license: str
    license_url: str = ""

    @property
    def postscript(self) -> str:
        """The name of the face for programs."""
        return f"{self.family.replace(' ', '')}-Regular"

    def records(self) -> dict[str, str]:
        """The entries of the table `name`, by fontTools' names for them."""
        told = {
            "copyright": self.license.partition("\n")[0],
            "familyName": self.family,
            "styleName": "Regular",
            "uniqueFontIdentifier": f"1.000;{self.postscript};{self.version}",
            "fullName": f"{self.family} Regular",
            "version": f"Version 1.000;{self.version}",
            "psName": self.postscript,
            "description": self.description,
            "licenseDescription": self.license,
            "licenseInfoURL": self.license_url,
        }
        return {name: text for name, text in told.items() if text}


def glyph_name(code_point: int, plan: str = "") -> str:
    """The name of a glyph, of which programs read the character: `uni6D77`, or `uniE000.vampire_blood_beside_ghost`.

    Args:
        code_point: Of the character, or in the private use area.
        plan: What is behind the dot: of an invention, how it is built.
    """
    base = f"uni{code_point:04X}" if code_point < 0x10000 else f"u{code_point:X}"
    words = "_".join(re.findall("[A-Za-z0-9]+", plan))
    return f"{base}.{words}"[:_LONGEST_NAME].rstrip("_.")


def build_font(glyphs: Sequence[FontGlyph], names: FontNames, kind: Literal["otf", "ttf"]) -> bytes:
    """The file of a font with these glyphs, a space, an ideographic space and `.notdef`.

    Args:
        glyphs: No two of one name or code point.
        names: Of the font.
        kind: `otf` has the outlines as they are, `ttf` quadratic curves within half a font unit of them.
    """
    outlines = {glyph.name: glyph.outline for glyph in sorted(glyphs, key=lambda glyph: glyph.code_point)}
    # .notdef comes first.
    outlines = {_NOT_DEFINED: _box(), **dict.fromkeys(_SPACES, Outline([])), **outlines}
    builder = FontBuilder(EM, isTTF=kind == "ttf")
    builder.font.recalcTimestamp = False
    builder.updateHead(created=_MADE, modified=_MADE, fontRevision=1.0, lowestRecPPEM=12)
    builder.setupGlyphOrder(list(outlines))
    spaces = {code_point: name for name, (code_point, _) in _SPACES.items()}
    builder.setupCharacterMap(spaces | {glyph.code_point: glyph.name for glyph in glyphs})
    bounds = (_setup_truetype if kind == "ttf" else _setup_cff)(builder, outlines, names)
    _setup_metrics(builder, bounds)
    builder.setupNameTable(names.records(), mac=False)
    builder.setupOS2(
        version=4,
        sTypoAscender=ASCENT,
        sTypoDescender=ASCENT - EM,
        sTypoLineGap=0,
        usWinAscent=max([ASCENT, *(top for *_, top in bounds.values())]),
        usWinDescent=max([EM - ASCENT, *(-bottom for _, bottom, *_ in bounds.values())]),
        fsType=0,
        fsSelection=_REGULAR | _USE_TYPO_METRICS,
        ulCodePageRange1=_JAPANESE,
    )
    builder.font["OS/2"].recalcUnicodeRanges(builder.font)
    builder.setupPost()
    file = io.BytesIO()
    builder.save(file)
    return file.getvalue()


Bounds = tuple[int, int, int, int]
"""Left, bottom, right and top of a glyph in font units; zeros for one without ink."""


def _setup_cff(builder: FontBuilder, outlines: Mapping[str, Outline], names: FontNames) -> dict[str, Bounds]:
    drawn = {}
    for name, outline in outlines.items():
        pen = T2CharStringPen(_width(name), None)
        outline.draw(pen)
        drawn[name] = pen.getCharString()
    told = {"FullName": f"{names.family} Regular", "FamilyName": names.family, "Weight": "Regular", "version": "1.000"}
    builder.setupCFF(names.postscript, told, drawn, {})
    glyphs = builder.font["CFF "].cff[0].CharStrings
    return {name: _whole(glyphs[name].calcBounds(None)) for name in outlines}


def _setup_truetype(builder: FontBuilder, outlines: Mapping[str, Outline], names: FontNames) -> dict[str, Bounds]:
    drawn = {}
    for name, outline in outlines.items():
        pen = TTGlyphPen(None)
        # Ink lies to the right of TrueType's contours.
        outline.draw(Cu2QuPen(pen, _QUADRATIC_ERROR, reverse_direction=True))
        drawn[name] = pen.glyph()
    builder.setupGlyf(drawn)
    builder.font["gasp"] = gasp = newTable("gasp")
    gasp.version, gasp.gaspRange = 1, _SMOOTH
    boxes = {name: builder.font["glyf"][name] for name in outlines}
    return {
        name: _whole([getattr(box, side, 0) for side in ("xMin", "yMin", "xMax", "yMax")])
        for name, box in boxes.items()
    }


def _setup_metrics(builder: FontBuilder, bounds: Mapping[str, Bounds]) -> None:
    builder.setupHorizontalMetrics({name: (_width(name), left) for name, (left, *_) in bounds.items()})
    builder.setupHorizontalHeader(ascent=ASCENT, descent=ASCENT - EM)
    inked = {name for name, box in bounds.items() if any(box)}
    builder.setupVerticalMetrics(
        {name: (EM, ASCENT - top if name in inked else 0) for name, (*_, top) in bounds.items()}
    )
    # The lines of vertical text run through the middle of the em square.
    builder.setupVerticalHeader(ascent=EM // 2, descent=-EM // 2)
    if not builder.isTTF:
        builder.setupVerticalOrigins({}, ASCENT)


def _width(name: str) -> int:
    return _SPACES[name][1] if name in _SPACES else EM


def _whole(box: Any) -> Bounds:
    left, bottom, right, top = map(round, box or (0, 0, 0, 0))
    return left, bottom, right, top


def _box() -> Outline:
    """The glyph of what a font lacks: a frame within the em square."""
    left, bottom, right, top = 100, ASCENT - EM + 100, EM - 100, ASCENT - 100
    thick = 40
    outer = [(left, bottom), (right, bottom), (right, top), (left, top)]
    inner = [
        (left + thick, bottom + thick),
        (left + thick, top - thick),
        (right - thick, top - thick),
        (right - thick, bottom + thick),
    ]
    return Outline.of_polygons([outer, inner])
