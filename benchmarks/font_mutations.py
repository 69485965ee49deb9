"""Small fonts, and what `fuzz_fonts` changes in them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

from fontTools import subset
from fontTools.misc.psCharStrings import T2CharString
from fontTools.ttLib import TTCollection, TTFont, newTable
from fontTools.ttLib.tables._g_l_y_f import Glyph, GlyphComponent
from fontTools.ttLib.tables.ttProgram import Program

# TrueType outlines with programs, TrueType outlines of a brush, CFF outlines.
_FONTS = ("ipaexg.ttf", "kouzan-mouhitsu.ttf", "NotoSansCJK-Regular.ttc")
_TRUETYPE, _CFF, _COLLECTION = "truetype.ttf", "cff.otf", "collection.ttc"
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_NEEDED = ("CFF ", "cmap", "glyf", "head", "hhea", "hmtx", "loca", "maxp")
_DIRECTORY, _ENTRY = 12, struct.Struct(">4sIII")
# Jumps to itself.
_ENDLESS = b"\xb8\xff\xfd\x1c"

Originals = dict[str, bytes]
Kind = Callable[[bytes, random.Random], bytes]


def sources(folder: Path, text: str) -> dict[str, bytes]:
    """Fonts of the characters of `text` by file name: TrueType with hinting, a brush, CFF, and a collection."""
    cut = [_cut(next(folder.rglob(name)), text) for name in _FONTS]
    collection = TTCollection()
    collection.fonts = [TTFont(BytesIO(data)) for data in cut[:2]]
    made = BytesIO()
    collection.save(made)
    return dict(zip((_TRUETYPE, "brush.ttf", _CFF, _COLLECTION), [*cut, made.getvalue()], strict=True))


def _cut(path: Path, text: str) -> bytes:
    options = subset.Options(name_IDs=["*"], notdef_outline=True, layout_features=["*"])
    options.drop_tables += ["gasp", "mort"]  # broken in a font of the data
    font = TTFont(path, lazy=True, fontNumber=0)
    cutter = subset.Subsetter(options)
    cutter.populate(text=text)
    cutter.subset(font)
    return _saved(font)


def _saved(font: TTFont) -> bytes:
    made = BytesIO()
    font.save(made)
    return made.getvalue()


def mutant(originals: Originals, number: int, seed: int) -> tuple[str, bytes]:
    """The file that mutant `number` was made of, and the mutant: a function of the seed and the number alone."""
    kind = KINDS[number % len(KINDS)]
    choice = random.Random(f"{seed}/{number}")
    source = _ONLY_OF.get(kind) or choice.choice(sorted(originals))
    while (made := kind(originals[source], choice)) == originals[source]:
        pass
    return source, made


def _tables(data: bytes, choice: random.Random) -> dict[str, tuple[int, int, int]]:
    """Place in the directory, offset and length of each table that is not empty, of one face of the file."""
    start = struct.unpack(">I", data[choice.choice((12, 16)) :][:4])[0] if data[:4] == b"ttcf" else 0
    (count,) = struct.unpack(">H", data[start + 4 : start + 6])
    places = range(start + _DIRECTORY, start + _DIRECTORY + count * _ENTRY.size, _ENTRY.size)
    entries = [(place, *_ENTRY.unpack_from(data, place)) for place in places]
    return {tag.decode("latin-1"): (place, offset, length) for place, tag, _, offset, length in entries if length}


def _table(data: bytes, choice: random.Random) -> tuple[int, int]:
    """Offset and length of a table, most often of one that drawing needs."""
    tables = _tables(data, choice)
    needed = [tag for tag in tables if tag in _NEEDED]
    return tables[choice.choice(choice.choice((needed, needed, list(tables))) or list(tables))][1:]


def _put(data: bytes, place: int, content: bytes) -> bytes:
    return data[:place] + content[: len(data) - place] + data[place + len(content) :]


def flipped_bits(data: bytes, choice: random.Random) -> bytes:
    """Up to eight bits of one table."""
    offset, length = _table(data, choice)
    changed = bytearray(data)
    for _ in range(choice.randint(1, 8)):
        changed[offset + choice.randrange(length)] ^= 1 << choice.randrange(8)
    return bytes(changed)


def extreme_number(data: bytes, choice: random.Random) -> bytes:
    """The largest, the smallest or a negative number in one table, often at its beginning, where the counts are."""
    offset, length = _table(data, choice)
    place = choice.choice((choice.randrange(min(length, 64)), choice.randrange(length))) & ~1
    size, value = choice.choice((1, 2, 4)), choice.choice(_EXTREMES)
    return _put(data, offset + place, (value & (256**size - 1)).to_bytes(size, "big"))


def noise(data: bytes, choice: random.Random) -> bytes:
    """Up to 64 random bytes in one table."""
    offset, length = _table(data, choice)
    return _put(data, offset + choice.randrange(length), choice.randbytes(choice.randint(1, 64)))


def cut_off(data: bytes, choice: random.Random) -> bytes:
    """The beginning of the file."""
    return data[: choice.randrange(4, len(data))]


def swapped_tables(data: bytes, choice: random.Random) -> bytes:
    """Two tables change their places."""
    (one, *first), (other, *second) = choice.sample(list(_tables(data, choice).values()), 2)
    return _put(_put(data, one + 8, struct.pack(">II", *second)), other + 8, struct.pack(">II", *first))


def moved_table(data: bytes, choice: random.Random) -> bytes:
    """A table with another offset or length."""
    place, offset, length = choice.choice(list(_tables(data, choice).values()))
    value = choice.choice((*_EXTREMES, offset + 2, length - 2, length + 4, len(data)))
    return _put(data, place + choice.choice((8, 12)), struct.pack(">I", value & 0xFFFFFFFF))


def copied_bytes(data: bytes, choice: random.Random) -> bytes:
    """Bytes of one table in another."""
    (source, available), (offset, length) = _table(data, choice), _table(data, choice)
    start = source + choice.randrange(available)
    return _put(data, offset + choice.randrange(length), data[start : start + choice.randint(1, 200)])


def lost_table(data: bytes, choice: random.Random) -> bytes:
    """A table under another name."""
    place, _, _ = choice.choice(list(_tables(data, choice).values()))
    return _put(data, place, choice.choice((b"xxxx", b"glyf", b"CFF ", b"cmap", b"\xff\xff\xff\xff")))


def other_header(data: bytes, choice: random.Random) -> bytes:
    """Another version, number of faces or number of tables."""
    return _put(data, choice.randrange(4, 20), choice.choice(_EXTREMES).to_bytes(4, "big"))


def recursive_composites(data: bytes, choice: random.Random) -> bytes:
    """Glyphs made of themselves, or each of several times the next one."""
    font = TTFont(BytesIO(data), recalcBBoxes=False)
    glyphs, names = font["glyf"], font.getGlyphOrder()
    times, last = choice.randint(1, 12), choice.random() < 0.5
    for number, name in enumerate(names):
        if number < len(names) - 1 or last:
            glyphs[name] = _composite([names[(number + 1) % len(names)]] * times)
    font["maxp"].maxComponentDepth = choice.choice((1, 16, 0xFFFF))
    return _saved(font)


def _composite(names: list[str]) -> Glyph:
    glyph = Glyph()
    glyph.numberOfContours = -1
    glyph.xMin = glyph.yMin = 0
    glyph.xMax = glyph.yMax = 2000
    glyph.components = []
    for name in names:
        part = GlyphComponent()
        part.glyphName, part.x, part.y, part.flags = name, 1, 1, 2
        glyph.components.append(part)
    return glyph


def recursive_subroutines(data: bytes, choice: random.Random) -> bytes:
    """CFF outlines that call a subroutine which calls itself, or the next one several times."""
    font = TTFont(BytesIO(data), recalcBBoxes=False)
    cff = font["CFF "].cff
    top, shared = cff.topDictIndex[0], cff.GlobalSubrs
    while len(shared):
        del shared.items[-1]
    depth, times, bias = choice.randint(1, 30), choice.randint(1, 40), 107
    for level in range(depth):
        called = [(level + 1) % depth - bias, "callgsubr"] if level < depth - 1 or choice.random() < 0.5 else []
        shared.append(T2CharString(program=[10, 10, "rlineto", *called * times, "return"], globalSubrs=shared))
    for name in font.getGlyphOrder():
        top.CharStrings[name].program = [10, 10, "rmoveto", -bias, "callgsubr", "endchar"]
    return _saved(font)


def endless_programs(data: bytes, choice: random.Random) -> bytes:
    """Hinting programs that jump back for ever, or of random bytes."""
    font = TTFont(BytesIO(data))
    program = Program()
    program.fromBytecode(choice.choice((_ENDLESS, choice.randbytes(choice.randint(1, 60)))))
    for tag in choice.sample(("fpgm", "prep"), choice.randint(0, 2)):
        font[tag] = newTable(tag)
        font[tag].program = program
    for name in font.getGlyphOrder():
        if font["glyf"][name].numberOfContours > 0:
            font["glyf"][name].program = program
    return _saved(font)


def many_characters(data: bytes, choice: random.Random) -> bytes:
    """A map of a few bytes for millions of characters."""
    groups = choice.choice((1, 2, 1000, 100_000))
    end = choice.choice((0x9FFF, 0x10FFFF, 0xFFFFFFF0))
    table = newTable("cmap")
    table.data = struct.pack(">HHHHI", 0, 1, 3, 10, 12) + struct.pack(">HHIII", 12, 0, 16 + 12 * groups, 0, groups)
    table.data += struct.pack(">III", 0x4E00, end, 1) * groups
    font = TTFont(BytesIO(data))
    # Written as it is: the compiler would refuse such a table.
    font["cmap"] = type("Raw", (), {"tableTag": "cmap", "compile": lambda self, _: table.data})()
    return _saved(font)


def other_names(data: bytes, choice: random.Random) -> bytes:
    """Names with control characters, of great length, or of other regions."""
    font = TTFont(BytesIO(data))
    font["name"].names = [record for record in font["name"].names if record.platformID == 3]
    names = ("\x1b[2J\x07\r\nERROR", "x" * 30_000, "Test Sans SC", "", "../../a\x00b", "\u202egnirts", "🈁", "\n" * 99)
    for number in (1, 2, 3, 4, 6, 13, 14, 16):
        font["name"].setName(choice.choice(names), number, 3, 1, 0x409)
    return _saved(font)


KINDS: tuple[Kind, ...] = (
    flipped_bits,
    extreme_number,
    noise,
    flipped_bits,
    extreme_number,
    moved_table,
    copied_bytes,
    flipped_bits,
    extreme_number,
    cut_off,
    swapped_tables,
    lost_table,
    other_header,
    recursive_composites,
    recursive_subroutines,
    endless_programs,
    many_characters,
    other_names,
)
"""Mutant N is made by the kind at N modulo their number; the frequent ones occur several times."""
_ONLY_OF: dict[Kind, str] = {
    recursive_composites: _TRUETYPE,
    endless_programs: _TRUETYPE,
    many_characters: _TRUETYPE,
    other_names: _TRUETYPE,
    recursive_subroutines: _CFF,
}
