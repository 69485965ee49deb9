"""Outlines overlap with their pictures, and are what type designers expect."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw
from tests.outlines.conftest import CHARACTERS, FACES, Pictures

from kanji_diffusion.imaging.ink import stroke_overlap
from kanji_diffusion.outlines.curves import Segment
from kanji_diffusion.outlines.font import FontGlyph, FontNames, build_font
from kanji_diffusion.outlines.specimen import draw_characters
from kanji_diffusion.outlines.trace import ASCENT, EM, Outline, trace


def area(contour: list[Segment]) -> float:
    """Of the polygon of the points on the curve."""
    x, y = np.array([segment[0] for segment in contour]).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def overlaps(outlines: list[Outline], images: np.ndarray) -> np.ndarray:
    """Overlap of pictures with their outlines, as a font draws these."""
    names = FontNames("Test", "", "", "")
    glyphs = [FontGlyph(f"g{number}", 0xE000 + number, outline) for number, outline in enumerate(outlines)]
    font = build_font(glyphs, names, "otf")
    return stroke_overlap(draw_characters(font, [chr(each.code_point) for each in glyphs], images.shape[-1]), images)


@pytest.mark.parametrize(("size", "least", "points"), [(64, 0.93, 140), (128, 0.95, 170), (256, 0.97, 230)])
@pytest.mark.parametrize("face", FACES)
def test_outlines_overlap_with_real_glyphs_in_few_points(
    pictures: Pictures, face: str, size: int, least: float, points: int
) -> None:
    images = pictures(face, size)
    outlines = [trace(image) for image in images]
    assert overlaps(outlines, images).mean() >= least
    assert np.mean([outline.points for outline in outlines]) <= points


@pytest.mark.parametrize("face", FACES)
def test_curves_are_closed_and_have_their_extrema_at_their_ends(pictures: Pictures, face: str) -> None:
    for image in pictures(face, 128):
        for contour in trace(image).contours:
            for segment, following in zip(contour, [*contour[1:], contour[0]], strict=True):
                assert (segment[-1] == following[0]).all()
                assert (segment[0] != segment[-1]).any()
                low, high = segment[[0, -1]].min(axis=0), segment[[0, -1]].max(axis=0)
                assert (segment >= low).all() and (segment <= high).all()


def test_curves_meet_without_a_bend_where_the_glyph_has_no_corner() -> None:
    disc = Image.new("L", (1024, 1024), 255)
    ImageDraw.Draw(disc).ellipse((160, 160, 863, 863), fill=0)
    (contour,) = trace(np.asarray(disc.reduce(8))).contours
    # A point at each extremum, and none elsewhere.
    ends = np.array([segment[0] for segment in contour])
    radius = EM * 352 / 1024
    assert len(contour) == 4
    assert np.allclose([ends.min(axis=0), ends.max(axis=0)], np.add.outer([-radius, radius], [500, 380]), atol=1)
    assert np.allclose(np.abs(ends - (500, 380)).min(axis=1), 0, atol=5)
    for segment, following in zip(contour, [*contour[1:], contour[0]], strict=True):
        into, out = segment[-1] - segment[-2], following[1] - following[0]
        assert into @ out == pytest.approx(np.hypot(*into) * np.hypot(*out), rel=0.001)


def test_outer_contours_run_counter_clockwise_and_holes_clockwise(pictures: Pictures) -> None:
    images = dict(zip(CHARACTERS, pictures("NotoSansCJK-Regular.ttc", 128), strict=True))
    for character, holes in (("一", 0), ("口", 1), ("火", 0)):
        areas = sorted(area(contour) for contour in trace(images[character]).contours)
        assert [each < 0 for each in areas] == [True] * holes + [False] * (len(areas) - holes)


def test_the_picture_is_the_em_square() -> None:
    picture = np.full((64, 64), 255, np.uint8)
    picture[:16, :32] = 0
    (contour,) = trace(picture).contours
    box = np.vstack(contour)
    assert np.allclose([box.min(axis=0), box.max(axis=0)], [(0, ASCENT - EM / 4), (EM / 2, ASCENT)], atol=2)
    assert len(contour) <= 12


def test_specks_are_left_out_and_hairlines_are_not() -> None:
    picture = np.full((64, 64), 255, np.uint8)
    assert trace(picture).contours == []
    picture[10, 10] = 0
    assert trace(picture).contours == []
    picture[32, 8:56] = 155  # ink of 0.4 pixels
    assert trace(picture).contours == []
    picture[30:35, 8:12] = 0
    (contour,) = trace(picture).contours
    assert np.ptp(np.vstack(contour), axis=0)[0] == pytest.approx(48 * EM / 64, abs=20)
    picture[50:53, 20:22] = 0
    assert len(trace(picture).contours) == 2
    assert trace(np.zeros((64, 64), np.uint8)).points <= 12


def test_noise_makes_valid_outlines() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (4, 48, 48), dtype=np.uint8)
    assert overlaps([trace(image) for image in noise], noise).shape == (4,)
