"""Fonts are whole, pass the OpenType sanitizer, and draw what was traced."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import ots
import pytest
import uharfbuzz
from fontTools.ttLib import TTFont
from PIL import Image
from tests.outlines.conftest import CHARACTERS, NAMES, Pictures

from kanji_diffusion.imaging.ink import stroke_overlap
from kanji_diffusion.outlines.font import FontGlyph, build_font, glyph_name
from kanji_diffusion.outlines.specimen import draw_characters, specimen
from kanji_diffusion.outlines.trace import Outline

KINDS = ("otf", "ttf")
INVENTED = "\ue000"


@pytest.mark.parametrize("kind", KINDS)
def test_the_sanitizer_of_browsers_takes_it(fonts: dict[str, bytes], kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"font.{kind}"
    path.write_bytes(fonts[kind])
    done = ots.sanitize(str(path), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stdout + done.stderr


@pytest.mark.parametrize("kind", KINDS)
def test_freetype_draws_what_was_traced(fonts: dict[str, bytes], pictures: Pictures, kind: str) -> None:
    images = pictures("kouzan-mouhitsu.ttf", 128)
    drawn = draw_characters(fonts[kind], CHARACTERS, 128)
    assert stroke_overlap(drawn, images).min() >= 0.93
    shown = draw_characters(fonts[kind], [INVENTED, "海", "\U00020b9f", "口", "龍"], 64)
    assert (shown[0] == shown[1]).all() and (shown[2] == shown[3]).all()
    # What it lacks is a frame.
    assert (shown[4] < 128).sum() > 100 and (shown[4, 20:44, 20:44] == 255).all()


@pytest.mark.parametrize("kind", KINDS)
def test_harfbuzz_sets_it_in_both_directions(fonts: dict[str, bytes], kind: str) -> None:
    font = uharfbuzz.Font(uharfbuzz.Face(fonts[kind]))
    for direction, advance in (("ltr", (1000, 0)), ("ttb", (0, -1000))):
        buffer = uharfbuzz.Buffer()
        buffer.add_str(f"海{INVENTED}水")
        buffer.guess_segment_properties()
        buffer.direction = direction
        uharfbuzz.shape(font, buffer)
        names = [font.glyph_to_string(each.codepoint) for each in buffer.glyph_infos]
        assert names == ["uni6D77", "uniE000.vampire_blood_beside_ghost", "uni6C34"]
        assert [(each.x_advance, each.y_advance) for each in buffer.glyph_positions] == [advance] * 3
    assert font.get_glyph_v_origin(font.get_nominal_glyph(ord("海"))) == (500, 880)


@pytest.mark.parametrize("kind", KINDS)
def test_its_tables_say_what_it_is(fonts: dict[str, bytes], kind: str) -> None:
    font = TTFont(io.BytesIO(fonts[kind]))
    assert font.sfntVersion == ("OTTO" if kind == "otf" else "\0\1\0\0")
    names = {number: font["name"].getDebugName(number) for number in (0, 1, 2, 4, 5, 6, 13, 14)}
    assert names == {
        0: "Do as you like.",
        1: "Kanji Test",
        2: "Regular",
        4: "Kanji Test Regular",
        5: "Version 1.000;a model",
        6: "KanjiTest-Regular",
        13: "Do as you like.\nReally.",
        14: "https://example.org/",
    }
    assert font["head"].unitsPerEm == 1000
    assert (font["hhea"].ascent, font["hhea"].descent) == (880, -120)
    assert {font["vmtx"][name][0] for name in font.getGlyphOrder()} == {1000}
    assert font["hmtx"]["space"] == (500, 0) and font["hmtx"]["uni3000"] == (1000, 0)
    # Of CJK ideographs, their extension B, and the private use area; of the Japanese code page alone.
    assert {59, 57, 60} <= font["OS/2"].getUnicodeRanges()
    assert font["OS/2"].getCodePageRanges() == {17}
    assert font["OS/2"].fsType == 0
    cmap = font.getBestCmap()
    assert set(cmap) == {0x20, 0x3000, 0xE000, 0x20B9F, *map(ord, CHARACTERS)}
    glyphs = font.getGlyphSet()
    assert glyphs[cmap[0xE000]].width == 1000 and font.getGlyphOrder()[0] == ".notdef"


def test_truetype_curves_are_quadratic_with_ink_on_the_right(fonts: dict[str, bytes]) -> None:
    table = TTFont(io.BytesIO(fonts["ttf"]))["glyf"]
    coordinates, ends, _ = table["uni53E3"].getCoordinates(table)
    outer = np.array(coordinates[: ends[0] + 1])
    x, y = outer.T
    areas = [float(x @ np.roll(y, -1) - y @ np.roll(x, -1))]
    inner = np.array(coordinates[ends[0] + 1 : ends[1] + 1])
    x, y = inner.T
    areas.append(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))
    assert max(areas, key=abs) < 0 < min(areas, key=abs)


def test_the_same_glyphs_make_the_same_file() -> None:
    box = Outline.of_polygons([[(0, 0), (500, 0), (500, 500), (0, 500)]])
    glyphs = [FontGlyph("uni4E8C", 0x4E8C, Outline([])), FontGlyph("uni4E00", 0x4E00, box)]
    for kind in ("otf", "ttf"):
        assert build_font(glyphs, NAMES, kind) == build_font(glyphs[::-1], NAMES, kind)


def test_names_of_glyphs_tell_the_character_and_the_plan() -> None:
    assert glyph_name(0x6D77) == "uni6D77"
    assert glyph_name(0x20B9F) == "u20B9F"
    assert glyph_name(0xE001, "koala = bag over bear") == "uniE001.koala_bag_over_bear"
    assert glyph_name(0xE001, "⿰魚雷") == "uniE001"
    long = glyph_name(0xE002, "very " * 40)
    assert len(long) <= 63 and long[-1] != "_"


def test_a_specimen_is_set_in_the_font(fonts: dict[str, bytes]) -> None:
    page = specimen(fonts["otf"], CHARACTERS, INVENTED, ["vampire"], ["Kanji Test", "10 kanji"])
    assert isinstance(page, Image.Image)
    ink = np.asarray(page.convert("L")) < 128
    # The heading, the line at 96 pixels, the invention below.
    assert ink[:60].any() and ink[80:190].mean() > 0.02 and ink[-120:-20].any()
    assert specimen(fonts["otf"], "", "", [], ["nothing"]).height < 100
