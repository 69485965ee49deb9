from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from kanji_diffusion.glyphs.augment import AugmentSettings, augment_views, change_weight

STRONG = AugmentSettings(rotation=20, shift=0.25, scale=(0.7, 1.5), aspect=0.3, shear=15, weight=(-1 / 64, 1 / 64))


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
    (view,) = augment_views(glyph(), 64, AugmentSettings(), ["key"])
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
    for settings in (STRONG, STRONG.model_copy(update={"scale": grown_scale})):
        for view in augment_views(glyph(2 * size), size, settings, [str(n) for n in range(50)]):
            pixels = np.asarray(view)
            edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
            assert edges.max() == 0


def test_a_small_glyph_keeps_all_its_ink_when_shifted() -> None:
    small = Image.new("L", (128, 128))
    small.paste(255, (40, 60, 90, 70))
    settings = AugmentSettings(shift=0.25, rotation=10)
    for view in augment_views(small, 64, settings, [str(n) for n in range(50)]):
        assert mass(view) == pytest.approx(mass(small) / 4, rel=0.02)


def test_a_glyph_is_never_mirrored() -> None:
    upright = np.asarray(glyph().reduce(2), dtype=np.float64)
    for view in augment_views(glyph(), 64, STRONG, [str(n) for n in range(50)]):
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
    [{"scale": (1.1, 0.9)}, {"scale": (-1, 1)}, {"weight": (0, 0.5)}, {"rotation": 180}, {"flip": True}],
)
def test_wrong_ranges_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AugmentSettings.model_validate(wrong)
