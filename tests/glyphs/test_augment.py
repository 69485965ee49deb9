from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from kanji_diffusion.glyphs.augment import Ranges, _many_uniforms, augment_views, change_weight
from kanji_diffusion.glyphs.render import AugmentSettings


def ranges(**given: Any) -> Ranges:
    return Ranges(**AugmentSettings(**given).model_dump())


STRONG = ranges(rotation=20, shift=0.25, scale=(0.7, 1.5), aspect=0.3, shear=15, weight=(-1 / 64, 1 / 64), elastic=0.04)
KEYS = [str(n) for n in range(50)]


def glyph(side: int = 128) -> Image.Image:
    """An F, which no rotation turns into its mirror image, as large as drawing allows."""
    ink = np.zeros((side, side), dtype=np.uint8)
    low, high, stroke = side // 64, side - side // 64, side // 10
    ink[low:high, low : low + stroke] = 255
    ink[low : low + stroke, low:high] = 255
    ink[side // 2 : side // 2 + stroke, low : side // 2] = 255
    return Image.fromarray(ink)


def mass(view: Image.Image) -> float:
    return float(np.asarray(view, dtype=np.float64).sum() / 255)


def test_no_change_halves_the_drawing() -> None:
    (view,) = augment_views(glyph(), 64, ranges(), ["key"])
    difference = np.abs(np.asarray(view, int) - np.asarray(glyph().reduce(2), int))
    assert difference.mean() < 1


def test_views_depend_on_the_key_alone() -> None:
    first, second = augment_views(glyph(), 64, STRONG, ["a", "b"])
    again, _ = augment_views(glyph(), 64, STRONG, ["a", "c"])
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != second.tobytes()


@pytest.mark.parametrize("size", [32, 64, 200])
def test_no_ink_leaves_the_square(size: int) -> None:
    grown_scale = (STRONG.scale[1],) * 2
    for strong in (STRONG, replace(STRONG, scale=grown_scale)):
        for view in augment_views(glyph(2 * size), size, strong, KEYS):
            pixels = np.asarray(view)
            edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
            assert edges.max() == 0


def test_a_small_glyph_keeps_all_its_ink_when_shifted() -> None:
    small = Image.new("L", (128, 128))
    small.paste(255, (40, 60, 90, 70))
    settings = ranges(shift=0.25, rotation=10)
    for view in augment_views(small, 64, settings, KEYS):
        assert mass(view) == pytest.approx(mass(small) / 4, rel=0.02)


@pytest.mark.parametrize("size", [32, 64, 256])
def test_elastic_moves_ink_by_no_more_than_asked(size: int) -> None:
    page = np.zeros((2 * size, 2 * size), dtype=np.uint8)
    page[size - 1 : size + 1, size - 1 : size + 1] = 255
    moved = []
    for view in augment_views(Image.fromarray(page), size, ranges(elastic=0.04), KEYS):
        rows, columns = np.nonzero(np.asarray(view))
        moved.append(max(abs(rows.mean() + 0.5 - size / 2), abs(columns.mean() + 0.5 - size / 2)) / size)
    assert max(moved) < 0.04 + 1 / size
    assert max(moved) > 0.015


def test_elastic_bends_and_neither_tears_nor_folds() -> None:
    bar = Image.new("L", (128, 128))
    bar.paste(255, (20, 60, 108, 68))
    tilted = 0
    for view in augment_views(bar, 64, ranges(elastic=0.04), KEYS):
        ink = np.asarray(view, dtype=np.float64) / 255
        thickness = ink[:, 16:48].sum(axis=0)
        assert thickness.min() > 2 and thickness.max() < 7
        height = (ink * np.arange(64)[:, None]).sum(axis=0)[16:48] / thickness
        assert np.abs(np.diff(height)).max() < 0.5
        tilted += np.ptp(height) > 0.5
    assert tilted > 25


def test_ink_texture_thins_ink_alone_and_paper_texture_paper_alone() -> None:
    (plain,) = (np.asarray(view) for view in augment_views(glyph(), 64, ranges(), ["key"]))
    for view in augment_views(glyph(), 64, ranges(ink_texture=0.5), KEYS):
        pixels = np.asarray(view)
        assert (pixels[plain == 0] == 0).all()
        assert (pixels <= plain).all()
        assert pixels[plain == 255].min() >= 127
    papers = []
    for view in augment_views(glyph(), 64, ranges(paper_texture=0.4), KEYS):
        pixels = np.asarray(view)
        assert (pixels[plain == 255] == 255).all()
        assert pixels[plain == 0].max() <= round(0.4 * 255)
        papers.append(pixels[plain == 0])
    assert np.mean([paper.std() for paper in papers]) > 3
    assert np.mean([paper.mean() for paper in papers]) < 0.2 * 255


def test_textures_are_alike_at_every_size() -> None:
    settings = ranges(ink_texture=0.5, paper_texture=0.4, elastic=0.04, rotation=10)
    small, large = (augment_views(glyph(2 * size), size, settings, KEYS) for size in (64, 256))
    for view, other in zip(small, large, strict=True):
        difference = np.asarray(view, int) - np.asarray(other.reduce(4), int)
        assert np.abs(difference).mean() < 8


def test_the_draws_of_a_view_are_the_same_on_every_platform() -> None:
    numbers = _many_uniforms("0/ipaexmincho/6c34/1", 3)
    expected = [0.08780515193939209, 0.8390763401985168, 0.2438792586326599]
    assert numbers.tolist() == expected


def test_a_glyph_is_never_mirrored() -> None:
    upright = np.asarray(glyph().reduce(2), dtype=np.float64)
    for view in augment_views(glyph(), 64, STRONG, KEYS):
        pixels = np.asarray(view, dtype=np.float64)
        rows, columns = np.nonzero(pixels)
        cut = Image.fromarray(pixels[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].astype("u1"))
        spread = np.asarray(cut.resize((64, 64)), dtype=np.float64)
        assert np.abs(spread - upright).mean() < np.abs(spread - upright[:, ::-1]).mean()
        assert np.abs(spread - upright).mean() < np.abs(spread - upright[::-1]).mean()


def test_weight_moves_edges_by_pixels() -> None:
    ink = np.zeros((40, 40), dtype=np.uint8)
    ink[10:30, 10:30] = 255
    assert [int((change_weight(ink, step) > 0).any(axis=0).sum()) for step in (-2, -1, 0, 1, 2)] == [
        16,
        18,
        20,
        22,
        24,
    ]
    half = change_weight(ink, 0.5)
    assert half[9, 20] == 128
    assert half[20, 20] == 255


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": (1.1, 0.9)},
        {"scale": (-1, 1)},
        {"weight": (0, 0.5)},
        {"rotation": 180},
        {"elastic": 0.2},
        {"ink_texture": 1},
        {"paper_texture": -0.1},
        {"flip": True},
    ],
)
def test_wrong_ranges_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AugmentSettings.model_validate(wrong)
