"""The faces of a font file by its tables: which there are, which a rule takes, and where on its axes each lies."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import BinaryIO

from fontTools.ttLib import TTFont, TTLibError, newTable
from fontTools.ttLib.sfnt import readTTCHeader

_MAGIC = (b"\x00\x01\x00\x00", b"OTTO", b"true", b"ttcf", b"wOFF", b"wOF2")
_REGION = re.compile(r"\b(JP|KR|SC|TC|HK|MO|CN|TW)\b")
_JAPANESE_CODE_PAGE = 1 << 17

BROKEN = (TTLibError, OSError, EOFError, AssertionError, LookupError, ValueError, struct.error, zlib.error)
"""What fontTools raises at a broken table."""


class UnusableFontError(Exception):
    """Why a font cannot be used, as the end of a sentence that starts with its name."""


class UnfitRuleError(Exception):
    """What a rule asks for that a font does not have, as a sentence about the font, "it"."""


@dataclass(frozen=True)
class Face:
    """A face of an open font file; its tables are read when they are asked for."""

    index: int
    tables: TTFont
    family: str
    full_name: str
    postscript_name: str
    instance_name: str
    """What the PostScript names of its instances begin with."""
    licence: str

    @property
    def weight(self) -> int:
        """From 1 to 1000; 400 is regular."""
        return int(self.tables["OS/2"].usWeightClass) if "OS/2" in self.tables else 400

    def characters(self) -> dict[int, str]:
        """Code point -> name of its glyph.

        Raises:
            UnusableFontError: The face has no outlines or no character map.
            One of `BROKEN`: Its character map is broken.
        """
        if not any(table in self.tables for table in ("glyf", "CFF ", "CFF2")):
            raise UnusableFontError("holds no outlines (bitmaps or colour pictures alone)")
        known = self.tables.getBestCmap() if "cmap" in self.tables else None
        if known is None:
            raise UnusableFontError("has no Unicode character map")
        return dict(known)

    def axes(self, wanted: Mapping[str, float]) -> dict[str, float]:
        """Where the face is drawn: the value of every axis that it has, in their order; none if it is not variable.

        Args:
            wanted: Values of some of them; the others keep their defaults.

        Raises:
            UnfitRuleError: The face does not have an axis or a value of `wanted`.
        """
        axes = {axis.axisTag: axis for axis in self.tables["fvar"].axes} if "fvar" in self.tables else {}
        for tag, value in wanted.items():
            if not axes:
                raise UnfitRuleError("it is not a variable font, so leave out `weight` and `axes`")
            if tag not in axes:
                known = ", ".join(f"{name} ({_range(axis)})" for name, axis in axes.items())
                raise UnfitRuleError(f"it has no axis {tag!r}, but {known}")
            if not axes[tag].minValue <= value <= axes[tag].maxValue:
                name = "weight" if tag == "wght" else f"axis {tag}"
                raise UnfitRuleError(f"its {name} goes from {_range(axes[tag])}, which leaves out {value:g}")
        return {tag: float(wanted.get(tag, axis.defaultValue)) for tag, axis in axes.items()}


def _range(axis: object) -> str:
    return f"{axis.minValue:g} to {axis.maxValue:g}"  # type: ignore[attr-defined]


def open_faces(file: BinaryIO, size: int, stem: str) -> tuple[list[Face], dict[int, str]]:
    """Open the faces of a font file.

    Args:
        file: Of a font or a collection; not trusted.
        size: Of the file, bytes.
        stem: What a face is called if the file does not tell it.

    Returns:
        The faces that can be read, and number -> why not for each other face of a collection.

    Raises:
        UnusableFontError: No face can be read.
    """
    head = file.read(12)
    if head[:4] not in _MAGIC:
        raise UnusableFontError("is not a TrueType, OpenType or web font")
    if head[:3] == b"wOF" and int.from_bytes(head[8:12], "big") > size:
        raise UnusableFontError("is truncated")
    if head[:8] == b"wOF2ttcf":
        raise UnusableFontError("is a collection in WOFF2 (turn it into a TTC file)")
    try:
        file.seek(0)
        count = readTTCHeader(file).numFonts if head[:4] == b"ttcf" else 1
    except BROKEN as error:
        raise UnusableFontError(f"cannot be read ({error})") from error
    faces, broken = [], {}
    for index in range(count):
        try:
            faces.append(_open_face(file, index, size, stem))
        except UnusableFontError as error:
            broken[index] = str(error)
    if not faces:
        raise UnusableFontError(broken.get(0, "holds no face"))
    return faces, broken


def open_tables(file: BinaryIO, index: int) -> TTFont:
    """Open the tables of one face."""
    file.seek(0)
    if file.read(4) == b"wOF2":
        _read_woff2_with_arrow()
    return TTFont(file, fontNumber=index, lazy=True)


def choose_face(faces: Sequence[Face], name: str) -> Face:
    """The first face whose family or full name fits a glob.

    Raises:
        UnusableFontError: There is none.
    """
    for face in faces:
        if any(fnmatchcase(text, name) or text == name for text in (face.family, face.full_name)):
            return face
    raise UnusableFontError(f"holds no face named {name!r} but {_names(faces)}")


def japanese_faces(faces: Sequence[Face]) -> list[Face]:
    """The faces that are marked as Japanese by name, else those by code page, else those of no region.

    Raises:
        UnusableFontError: All are of other regions.
    """
    regions = {face.index: match[1] if (match := _REGION.search(face.family)) else "" for face in faces}
    japanese = [face for face in faces if regions[face.index] == "JP"]
    unmarked = [face for face in faces if not regions[face.index]]
    chosen = japanese or [face for face in unmarked if _has_japanese_code_page(face.tables)] or unmarked
    if not chosen:
        raise UnusableFontError(
            f"holds no Japanese face but {_names(faces)} (a rule of `fonts.faces` with `face: {faces[0].full_name}` "
            "takes it all the same)"
        )
    return chosen


def _names(faces: Sequence[Face]) -> str:
    return ", ".join(face.full_name for face in faces)


def _has_japanese_code_page(tables: TTFont) -> bool:
    return "OS/2" in tables and bool(getattr(tables["OS/2"], "ulCodePageRange1", 0) & _JAPANESE_CODE_PAGE)


def _open_face(file: BinaryIO, index: int, size: int, stem: str) -> Face:
    try:
        tables = open_tables(file, index)
        entries = tables.reader.tables.values()
        # Offsets of WOFF2 are those of the unpacked tables.
        if tables.flavor != "woff2" and max((entry.offset + entry.length for entry in entries), default=0) > size:
            raise UnusableFontError("is truncated")
        names = tables["name"] if "name" in tables else newTable("name")
        full_name, postscript_name, prefix, *licences = (
            names.getDebugName(number) or "" for number in (4, 6, 25, 13, 14)
        )
        family = names.getBestFamilyName() or stem
        return Face(
            index=index,
            tables=tables,
            family=family,
            full_name=names.getBestFullName() or full_name or family,
            postscript_name=postscript_name or full_name or stem,
            instance_name=prefix or family,
            licence=next(filter(None, licences), "").strip(),
        )
    except BROKEN as error:
        raise UnusableFontError(f"cannot be read ({error})") from error


def _read_woff2_with_arrow() -> None:
    """Let fontTools unpack WOFF2 by the Brotli of pyarrow, where the package that it asks for is not installed."""
    from fontTools.ttLib import woff2

    if not woff2.haveBrotli:
        woff2.brotli, woff2.haveBrotli = SimpleNamespace(decompress=_unpack_brotli), True


def _unpack_brotli(packed: bytes) -> bytes:
    import pyarrow

    with pyarrow.CompressedInputStream(pyarrow.BufferReader(packed), "brotli") as stream:
        return bytes(stream.read())
