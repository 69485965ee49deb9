"""Scans become what a font of the same hand would have drawn."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.adaptation.conftest import CHARACTERS, drawn, pencil_scan

from kanji_diffusion.adaptation import scans
from kanji_diffusion.glyphs.draw import Placement, draw_glyph
from kanji_diffusion.glyphs.face import inspect_file
from kanji_diffusion.imaging.ink import stroke_overlap
from kanji_diffusion.imaging.png import named_character, read_on_white


@pytest.mark.parametrize(
    ("name", "character"),
    [
        ("海.png", "海"),
        ("uni6D77.png", "海"),
        ("U+6D77.PNG", "海"),
        ("u20b9f.png", "𠮟"),
        ("が.png", "が"),  # in two code points, as macOS writes it
        ("sea.png", None),
        ("海2.png", None),
        ("uni110000.png", None),
    ],
)
def test_a_scan_is_named_by_its_character(name, character):
    assert named_character(Path(name).stem) == character


def cleaned(picture: Image.Image) -> np.ndarray:
    return scans.clean_scan(picture, 1.0)


def test_a_set_of_pencil_scans_is_what_its_font_draws(font_folder):
    font = next(font_folder.rglob("BIZUDMincho-Regular.ttf"))
    inks = [cleaned(pencil_scan(drawn(font, each), seed, tilt=3)) for seed, each in enumerate(CHARACTERS)]
    assert not any(map(scans.scan_fault, inks))
    assert scans.common_tilt(inks) == pytest.approx(3, abs=0.5)
    upright = [scans.rotate(ink, 3) for ink in inks]
    placement = scans.measure(upright)
    (face,) = inspect_file(str(font), CHARACTERS, 0)[0]["faces"]
    own = Placement(face["extent"], face["centre_x"], face["centre_y"])
    ours = [255 - np.asarray(scans.place(ink, placement, 96, 0.88)) for ink in upright]
    theirs = [255 - np.asarray(draw_glyph(str(font), 0, own, each, 96, 0.88)) for each in CHARACTERS]
    assert stroke_overlap(np.stack(ours), np.stack(theirs)).mean() > 0.75
    others = np.roll(np.stack(theirs), 1, axis=0)
    assert stroke_overlap(np.stack(ours), others).mean() < 0.4


def test_strokes_that_rise_are_the_hand_and_not_the_paper():
    across = Image.new("L", (128, 128))
    for row in (30, 60, 90):
        across.paste(255, (20, row, 108, row + 6))
    across = across.rotate(4, Image.Resampling.BICUBIC)
    across.paste(255, (60, 15, 66, 115))  # upright
    assert scans.common_tilt([np.asarray(across)]) == 0


def scan_of(ink: np.ndarray) -> np.ndarray:
    return cleaned(Image.fromarray(np.uint8(255 * (1 - ink))))


def test_what_is_no_glyph_is_told(handwriting):
    ink = drawn(handwriting, "海")
    rows, columns = np.flatnonzero(ink.max(axis=1) > 0.5), np.flatnonzero(ink.max(axis=0) > 0.5)
    tight = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert scans.scan_fault(scan_of(ink)) == scans.scan_fault(scan_of(tight)) == ""
    grain = np.random.default_rng(0).normal(0.1, 0.02, ink.shape)
    assert scans.scan_fault(scan_of(np.zeros_like(ink))) == "shows no stroke"
    assert scans.scan_fault(scan_of(grain)) == "shows no stroke"
    assert scans.scan_fault(scan_of(ink[:, columns[0] + 20 :])) == "is clipped: strokes run over its edge"
    assert scans.scan_fault(scan_of(1 - 0.8 * ink)) != ""


def test_a_transparent_picture_is_on_white_paper(handwriting, tmp_path):
    ink = np.uint8(255 * drawn(handwriting, "海"))
    Image.merge("LA", [Image.new("L", ink.shape), Image.fromarray(ink)]).save(tmp_path / "海.png")
    assert np.array_equal(np.asarray(read_on_white(tmp_path / "海.png")), 255 - ink)
    Image.fromarray(255 - ink).save(tmp_path / "海.jpg")
    with pytest.raises((OSError, ValueError)):
        read_on_white(tmp_path / "海.jpg")


def test_glyphs_keep_their_sizes_and_stay_in_the_square():
    small, large = np.zeros((100, 100), np.uint8), np.zeros((100, 100), np.uint8)
    small[40:60, 40:60], large[5:95, 5:95] = 255, 255
    placement = scans.measure([small, large, large])
    one, other = (np.asarray(scans.place(ink, placement, 64, 0.88)) > 127 for ink in (small, large))
    assert np.sqrt(other.sum() / one.sum()) == pytest.approx(90 / 20, rel=0.05)
    wide = np.zeros((100, 300), np.uint8)
    wide[50:55, 5:295] = 255
    box = Image.fromarray(np.asarray(scans.place(wide, placement, 64, 0.88))).getbbox()
    assert min(box[0], 64 - box[2]) >= 1
