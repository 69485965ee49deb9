"""What a collection of pictures is taken away as."""

from __future__ import annotations

import base64
import io
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.outlines.font import PRIVATE_USE, FontGlyph, FontNames, build_font, glyph_name
from kanji_diffusion.outlines.svg import svg
from kanji_diffusion.outlines.trace import trace
from kanji_diffusion.sampling.lineage import LINEAGE, Lineage, read_picture
from kanji_diffusion.sampling.typeface import TypefaceSettings

_LARGEST_SIDE = 1024
_FIRST_KANJI = 0x2E80  # the radicals, and all that is behind them
_FAMILY = "Kanji Diffusion Collection"


@dataclass(frozen=True)
class Collected:
    """A picture that a visitor has kept.

    Attributes:
        name: Of its file, without the ending.
        png: The file, with its lineage.
        pixels: uint8 `[H, W]`.
        lineage: How it was drawn.
    """

    name: str
    png: bytes
    pixels: np.ndarray
    lineage: Lineage


def read_collection(sent: Any, most: int) -> list[Collected]:
    """The pictures that a visitor has sent back, each checked to be as it was drawn.

    Args:
        sent: A list of PNGs in base64.
        most: How many there may be.

    Raises:
        KanjiDiffusionError: If it is no such list, or a picture is none of ours.
    """
    if not isinstance(sent, list) or not 1 <= len(sent) <= most:
        raise KanjiDiffusionError(f"The collection must be a list of 1 to {most} pictures: collect some.")
    return [_read(each, f"Picture {number}") for number, each in enumerate(sent, start=1)]


def _read(sent: Any, called: str) -> Collected:
    try:
        png = base64.b64decode(sent, validate=True)
    except (TypeError, ValueError) as error:
        raise KanjiDiffusionError(f"{called} is no PNG in base64: collect it anew.") from error
    # Of the header, before anything is unpacked.
    if max(int.from_bytes(png[16:20]), int.from_bytes(png[20:24])) > _LARGEST_SIDE:
        raise KanjiDiffusionError(f"{called} has more than {_LARGEST_SIDE} pixels a side: collect what was drawn here.")
    pixels, lineage = read_picture(Path(called), png)
    name = re.sub(r"\W+", "_", lineage.prompt).strip("_")[:50]
    return Collected(f"{name}_{lineage.seed}", png, pixels, lineage)


@dataclass(frozen=True)
class Export:
    """A form in which pictures are taken away.

    Attributes:
        label: On its button.
        file: Name of the download.
        media_type: Of the download.
        write: Makes the file.
        of_one: Whether it is made of one picture, not of a collection.
    """

    label: str
    file: str
    media_type: str
    write: Callable[[Sequence[Collected]], bytes]
    of_one: bool = False


def zip_pngs(pictures: Sequence[Collected]) -> bytes:
    """The PNGs as they are, in a ZIP file."""
    return _zipped({f"{_numbered(number, each)}.png": each.png for number, each in enumerate(pictures, start=1)})


def svg_of_first(pictures: Sequence[Collected]) -> bytes:
    """The SVG that `generate` writes of a picture."""
    with Image.open(io.BytesIO(pictures[0].png)) as png:
        return svg(trace(pictures[0].pixels), png.info["Title"], png.info[LINEAGE]).encode()


def zip_svgs(pictures: Sequence[Collected]) -> bytes:
    """An SVG of each picture, in a ZIP file."""
    return _zipped(
        {f"{_numbered(number, each)}.svg": svg_of_first([each]) for number, each in enumerate(pictures, start=1)}
    )


def zip_font(pictures: Sequence[Collected]) -> bytes:
    """An OpenType font of the pictures, and a table of where they are in it, in a ZIP file.

    A picture of an existing character takes its code point, an invention, or a second picture of a character, the next
    one of the private use area.
    """
    glyphs: dict[int, FontGlyph] = {}
    free, rows = iter(PRIVATE_USE), ["code point\tcharacter\tasked\tplan\tstyle\tseed"]
    for each in pictures:
        plan, lineage = each.lineage.plan or {}, each.lineage
        character = str(plan.get("character") or lineage.word)
        known = len(character) == 1 and ord(character) >= _FIRST_KANJI and ord(character) not in {*PRIVATE_USE, *glyphs}
        code_point = ord(character) if known else next(free)
        built = str(plan.get("label") or lineage.word).rpartition(" = ")[2]
        name = glyph_name(code_point, "" if known else built)
        glyphs[code_point] = FontGlyph(name, code_point, trace(each.pixels))
        placed = (f"U+{code_point:04X}", chr(code_point), lineage.word, str(plan.get("ids", "")))
        rows.append("\t".join([*placed, lineage.style, str(lineage.seed)]))
    models = ", ".join(sorted({each.lineage.model_fingerprint for each in pictures}))
    told = f"{len(glyphs)} glyphs that a text-to-kanji diffusion model drew."
    names = FontNames(_FAMILY, f"model {models}", told, TypefaceSettings().license)
    font = build_font(list(glyphs.values()), names, "otf")
    return _zipped({"kanji-collection.otf": font, "kanji-collection.txt": "\n".join([*rows, ""]).encode()})


def _numbered(number: int, picture: Collected) -> str:
    return f"{number:03d}_{picture.name}"


def _zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


EXPORTS = {
    "svg": Export("SVG", "kanji.svg", "image/svg+xml", svg_of_first, of_one=True),
    "png": Export("PNG (ZIP)", "kanji-png.zip", "application/zip", zip_pngs),
    "svgs": Export("SVG (ZIP)", "kanji-svg.zip", "application/zip", zip_svgs),
    "font": Export("font (ZIP)", "kanji-font.zip", "application/zip", zip_font),
}
"""By the last part of their address; the page shows a button for each."""
