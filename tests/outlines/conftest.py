"""Pictures of real glyphs, and fonts of their outlines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from kanji_diffusion.glyphs.draw import Placement, draw_glyph
from kanji_diffusion.outlines.font import FontGlyph, FontNames, build_font, glyph_name
from kanji_diffusion.outlines.trace import trace

FACES = ("NotoSansCJK-Regular.ttc", "NotoSerifCJK-Regular.ttc", "kouzan-mouhitsu.ttf", "kiloji.ttf")
CHARACTERS = "一口水火海森語機警鬱"
NAMES = FontNames("Kanji Test", "a model", "Drawn for a test", "Do as you like.\nReally.", "https://example.org/")

Pictures = Callable[[str, int], np.ndarray]


@pytest.fixture(scope="session")
def pictures(raw_data: Path) -> Pictures:
    """Pictures of `CHARACTERS` in a face, uint8 `[N, size, size]`, as training glyphs are drawn."""
    placement = Placement(extent=0.93, centre_x=0.5, centre_y=-0.38)

    def draw(face: str, size: int) -> np.ndarray:
        path = str(next((raw_data / "fonts").rglob(face)))
        drawn = (draw_glyph(path, 0, placement, character, size, 0.88) for character in CHARACTERS)
        return np.stack([255 - np.asarray(picture) for picture in drawn])

    return draw


@pytest.fixture(scope="session")
def fonts(pictures: Pictures) -> dict[str, bytes]:
    """The characters in a brush face as OTF and TTF, one of them once more as an invention, and one beyond the BMP."""
    outlines = dict(zip(CHARACTERS, map(trace, pictures("kouzan-mouhitsu.ttf", 128)), strict=True))
    glyphs = [FontGlyph(glyph_name(ord(each)), ord(each), outline) for each, outline in outlines.items()]
    glyphs += [FontGlyph(glyph_name(0xE000, "vampire = blood beside ghost"), 0xE000, outlines["海"])]
    glyphs += [FontGlyph(glyph_name(0x20B9F), 0x20B9F, outlines["口"])]
    return {"otf": build_font(glyphs, NAMES, "otf"), "ttf": build_font(glyphs, NAMES, "ttf")}
