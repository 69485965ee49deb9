"""Drawing of glyphs onto the square; what the child processes of `render` run, with few imports."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageFont

from kanji_diffusion.glyphs.augment import MARGIN, Ranges, augment_views
from kanji_diffusion.imaging.pgm import pgm_files, pgm_header

_SMALLEST_DRAWING = 64  # at fewer pixels hinting drops whole strokes of thin faces: 王 turns into 土

_SHARP_DRAWING = 256  # an affine map softens strokes, so with fewer pixels it starts from twice as many


@dataclass(frozen=True)
class Placement:
    """How the glyphs of a face sit on the em square, in em: measured once, the same for all its glyphs."""

    extent: float
    """The larger side of a typical large glyph (75th percentile)."""
    centre_x: float
    """Centre of the typical glyph, right of the origin."""
    centre_y: float
    """Centre of the typical glyph, below the baseline (negative: above)."""


@lru_cache(maxsize=16)
def open_font(path: str, face_index: int, em: float, axes: tuple[float, ...] = ()) -> ImageFont.FreeTypeFont:
    """Open a face for drawing with `em` pixels per em and without any glyph substitution.

    Args:
        path: The font file.
        face_index: Which face of the file.
        em: Pixels.
        axes: Of a variable font, the value on each of its axes; its default if none is given.
    """
    font = ImageFont.truetype(path, em, index=face_index, layout_engine=ImageFont.Layout.BASIC)
    if axes:
        font.set_variation_by_axes(list(axes))
    return font


def ink_of(font: ImageFont.FreeTypeFont, character: str) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """Draw a character with its origin on a pixel corner.

    Returns:
        The ink cut out along its box (mode "L", 255 = ink), and the box (left, top, right, bottom) in pixels
        from the origin; an empty box when nothing was drawn.
    """
    mask, (left, top) = font.getmask2(character, "L", anchor="ls")
    drawn = Image.new("L", mask.size)
    drawn.im.paste(255, (0, 0, *mask.size), mask)
    box = drawn.getbbox()
    if box is None:
        return Image.new("L", (0, 0)), (0, 0, 0, 0)
    return drawn.crop(box), (left + box[0], top + box[1], left + box[2], top + box[3])


def draw_block(
    path: str,
    face_index: int,
    axes: list[float],
    placement: dict[str, float],
    glyph_keys: list[str],
    characters: str,
    size: int,
    fill: float,
    views: int,
    augment: dict[str, Any],
) -> tuple[Any, bytes]:
    """Draw some characters of one face.

    Args:
        path: The font file.
        face_index: Which face of the file.
        axes: Of a variable font, the value on each of its axes; empty for its default.
        placement: Fields of `Placement`.
        glyph_keys: What the random draws of each character are a function of, beside the number of the view.
        characters: As many characters.
        size: Side of the pictures in pixels.
        fill: Share of the square that a typical large glyph takes.
        views: Pictures per character; the first is not augmented.
        augment: Fields of `Ranges`.

    Returns:
        None, and a binary PGM file for each character and view, 0 = ink, 255 = paper.
    """
    face_placement, place = Placement(**placement), tuple(axes)
    ranges = Ranges(**augment)
    strip = Image.new("L", (size, size * views * len(characters)))
    top = 0
    for key, character in zip(glyph_keys, characters, strict=True):
        pictures = [draw_glyph(path, face_index, face_placement, character, size, fill, place)]
        if views > 1:
            large_size = size if size >= _SHARP_DRAWING else 2 * size
            large = draw_glyph(path, face_index, face_placement, character, large_size, fill, place)
            view_keys = [f"{key}/{view}" for view in range(1, views)]
            pictures += augment_views(large, size, ranges, view_keys)
        for picture in pictures:
            strip.paste(picture, (0, top))
            top += size
    files = pgm_files(np.asarray(strip).reshape(-1, size, size))
    pixels = files[:, len(pgm_header(size)) :]
    np.bitwise_not(pixels, out=pixels)
    return None, files.tobytes()


def draw_glyph(
    path: str,
    face_index: int,
    placement: Placement,
    character: str,
    size: int,
    fill: float,
    axes: tuple[float, ...] = (),
) -> Image.Image:
    """Draw one character with its face's placement.

    Args:
        path: The font file.
        face_index: Which face of the file.
        placement: How the face sits on the em square.
        character: What to draw.
        size: Side of the square in pixels.
        fill: Share of the square that a typical large glyph takes.
        axes: Of a variable font, the value on each of its axes.

    Returns:
        `size` x `size`, mode "L", 0 = paper, 255 = ink. A glyph that would leave the square is moved back,
        and made smaller if it does not fit at all.
    """
    if size < _SMALLEST_DRAWING:
        factor = math.ceil(_SMALLEST_DRAWING / size)
        return draw_glyph(path, face_index, placement, character, factor * size, fill, axes).reduce(factor)
    em, corner, whole, part = _pose(placement, size, fill)
    # `ImageDraw.text` takes half as long again for the same pixels.
    mask, offset = open_font(path, face_index, em, axes).getmask2(character, "L", anchor="ls", start=part)
    left, top = whole[0] + offset[0], whole[1] + offset[1]
    box = (left, top, left + mask.size[0], top + mask.size[1])
    picture = Image.new("L", (size, size))
    picture.im.paste(255, box, mask)
    # The mask spans the advance too, so that it may be wider than the ink.
    if _inside(box, size) or _inside(picture.getbbox(), size):
        return picture
    return _draw_fitted(path, face_index, axes, character, em, corner, size)


@lru_cache(maxsize=16)
def _pose(
    placement: Placement, size: int, fill: float
) -> tuple[float, tuple[float, float], tuple[int, int], tuple[float, float]]:
    """Pixels per em, and where the origin of a face's glyphs lies in the square: in all, whole pixels, parts."""
    em = fill * size / placement.extent
    corner = (size / 2 - placement.centre_x * em, size / 2 - placement.centre_y * em)
    return em, corner, (int(corner[0]), int(corner[1])), (math.modf(corner[0])[0], math.modf(corner[1])[0])


def _inside(box: tuple[int, int, int, int] | None, size: int) -> bool:
    margin = round(MARGIN * size)
    return box is not None and min(box) >= margin and max(box) <= size - margin


def _draw_fitted(
    path: str,
    face_index: int,
    axes: tuple[float, ...],
    character: str,
    em: float,
    corner: tuple[float, float],
    size: int,
) -> Image.Image:
    margin = round(MARGIN * size)
    room = size - 2 * margin
    ink, box = ink_of(open_font(path, face_index, em, axes), character)
    for _ in range(3):  # hinting may round a smaller drawing up again
        if max(ink.size) <= room:
            break
        em *= (room - 0.5) / max(ink.size)
        ink, box = ink_of(open_font(path, face_index, em, axes), character)
    left, top = (
        min(max(round(origin) + low, margin), max(margin, size - margin - length))
        for origin, low, length in zip(corner, box[:2], ink.size, strict=True)
    )
    picture = Image.new("L", (size, size))
    picture.paste(ink, (left, top))
    return picture
