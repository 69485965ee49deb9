"""What a font looks like: its glyphs as FreeType draws them, and a page set in it."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kanji_diffusion.imaging.grid import sheet
from kanji_diffusion.outlines.trace import ASCENT, EM

# Drawn so much larger, since FreeType moves the edges of small glyphs to whole pixels.
_FINE = 8
_WIDTH, _MARGIN, _LEADING = 1200, 20, 1.25
# Pixels of an em, and how many lines of it are set.
_LINES = {96: 2, 48: 2, 32: 2, 24: 2, 16: 3}
_INVENTED, _MOST_INVENTED, _COLUMNS = 96, 55, 11


def draw_characters(font: bytes, characters: Sequence[str], side: int) -> np.ndarray:
    """Characters as a font has them, each in its em square, uint8 `[N, side, side]`, 0 ink and 255 paper."""
    face = _face(font, side * _FINE)
    drawn = np.empty((len(characters), side, side), np.uint8)
    for picture, character in zip(drawn, characters, strict=True):
        page = Image.new("L", (side * _FINE, side * _FINE), 255)
        ImageDraw.Draw(page).text((0, side * _FINE * ASCENT / EM), character, fill=0, font=face, anchor="ls")
        picture[:] = np.asarray(page.reduce(_FINE))
    return drawn


def specimen(font: bytes, characters: str, invented: str, labels: Sequence[str], heading: Sequence[str]) -> Image.Image:
    """A page set in a font.

    Args:
        font: Its file.
        characters: What is set in lines of several sizes, from the beginning; none are left out.
        invented: What is set large with a label below, 55 at most.
        labels: For each of these, in Latin letters.
        heading: Lines above.
    """
    lines = [(size, line) for size, count in _LINES.items() for line in _set(characters, size, count)]
    grid = None
    if invented:
        pictures = draw_characters(font, invented[:_MOST_INVENTED], _INVENTED)
        grid = sheet(pictures, _COLUMNS, labels=labels[:_MOST_INVENTED])
    above = _MARGIN * (len(heading) + 2)
    below = grid.height + _MARGIN if grid else 0
    page = Image.new("RGB", (_WIDTH, above + round(_LEADING * sum(size for size, _ in lines)) + below), "white")
    pen = ImageDraw.Draw(page)
    for number, line in enumerate(heading):
        pen.text((_MARGIN, _MARGIN * (number + 1)), line, fill=0, font=ImageFont.load_default(14))
    top = float(above)
    for size, line in lines:
        pen.text((_MARGIN, top + size), line, fill=0, font=_face(font, size), anchor="ls")
        top += _LEADING * size
    if grid:
        page.paste(grid, (_MARGIN, round(top)))
    return page


def _set(characters: str, size: int, count: int) -> list[str]:
    """Lines of an em of `size` pixels, as many as there are characters for."""
    wide = (_WIDTH - 2 * _MARGIN) // size
    lines = (characters[first : first + wide] for first in range(0, count * wide, wide))
    return [line for line in lines if line]


def _face(font: bytes, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(io.BytesIO(font), size, layout_engine=ImageFont.Layout.BASIC)
