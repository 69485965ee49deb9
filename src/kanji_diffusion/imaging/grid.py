"""Image grids."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_GAP = 2
_LABEL, _LARGE, _LINE = 9, 12, 16
_RIGHT, _WRONG, _NEUTRAL = (46, 160, 67), (215, 58, 73), (225, 225, 225)


def sheet(
    images: np.ndarray,
    columns: int,
    right: Sequence[bool] | None = None,
    zoom: int = 1,
    labels: Sequence[str] | None = None,
    heading: Sequence[str] = (),
) -> Image.Image:
    """A contact sheet, row by row.

    Args:
        images: uint8 `[N, H, W]`.
        columns: Pictures in a row.
        right: Whether each picture is what was asked for; frames it green or red.
        zoom: Whole-number magnification.
        labels: What is written under each picture, in Latin letters, in as many lines as it needs.
        heading: Lines above all pictures.
    """
    count, height, width = images.shape
    height, width = height * zoom, width * zoom
    rows = -(-count // columns)
    font = ImageFont.load_default(_LABEL)
    written = [_wrapped(label, font, width) for label in labels or ()]
    below = max((len(lines) for lines in written), default=0) * (_LABEL + _GAP)
    above = len(heading) * _LINE
    page = Image.new("RGB", (columns * (width + 2 * _GAP), above + rows * (height + 2 * _GAP + below)), "white")
    pen = ImageDraw.Draw(page)
    for number, line in enumerate(heading):
        pen.text((_GAP, number * _LINE), line, fill=0, font=ImageFont.load_default(_LARGE))
    for number, pixels in enumerate(images):
        row, column = divmod(number, columns)
        left, top = column * (width + 2 * _GAP), above + row * (height + 2 * _GAP + below)
        if written:
            place = (left + _GAP, top + height + 2 * _GAP)
            pen.multiline_text(place, "\n".join(written[number]), fill=0, font=font, spacing=_GAP)
        colour = _NEUTRAL if right is None else _RIGHT if right[number] else _WRONG
        page.paste(colour, (left, top, left + width + 2 * _GAP, top + height + 2 * _GAP))
        glyph = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
        page.paste(glyph, (left + _GAP, top + _GAP))
    return page


def _wrapped(label: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """The label in lines that are no wider than `width`; of a word that is wider, as much as fits."""
    lines = [""]
    for word in label.encode("ascii", "replace").decode().split():
        if lines[-1] and font.getlength(f"{lines[-1]} {word}") > width:
            lines.append("")
        while font.getlength(word) > width:
            word = word[:-1]
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def labelled_sheet(
    rows: Mapping[str, np.ndarray], right: Mapping[str, Sequence[bool]] | None = None, largest: int = 64
) -> Image.Image:
    """A sheet with a label before each row.

    Args:
        rows: Label -> pictures uint8 `[N, H, W]`; N may differ, a row of none keeps its label.
        right: Label -> whether each picture is as it should be; frames it green or red.
        largest: Side to which larger pictures are reduced.
    """
    side = min(largest, max(images.shape[-1] for images in rows.values()))
    cell = side + 2 * _GAP
    font = ImageFont.load_default(_LARGE)
    left = math.ceil(max(font.getlength(label) for label in rows)) + 8
    page = Image.new("RGB", (left + cell * max(map(len, rows.values())), cell * len(rows)), "white")
    draw = ImageDraw.Draw(page)
    for number, (label, images) in enumerate(rows.items()):
        draw.text((4, (number + 0.5) * cell), label, fill=0, font=font, anchor="lm")
        if len(images):
            strip = sheet(_reduced(images, side), len(images), right[label] if right else None)
            page.paste(strip, (left, number * cell))
    return page


def _reduced(images: np.ndarray, side: int) -> np.ndarray:
    pictures = (Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS) for pixels in images)
    return np.stack([np.asarray(picture) for picture in pictures])
