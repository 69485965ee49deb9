from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kanji_diffusion.glyphs.draw import ink_of, open_font
from kanji_diffusion.glyphs.likeness import FEATURES, glyph_features, picture_unlikeness, unlikeness
from kanji_diffusion.glyphs.render import RenderSettings, render_glyphs
from kanji_diffusion.imaging.pictures import decode_images

FILES = ["ipaexg.ttf", "ipaexm.ttf", "VL-Gothic-Regular.ttf", "kiloji.ttf", "setofont.ttf", "kouzan-mouhitsu.ttf"]


def find_unlike(features: np.ndarray, fit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    excess, nearest = unlikeness(features, fit)
    return excess > 0, nearest


@pytest.fixture(scope="module")
def features(font_folder: Path, grade_one: pd.DataFrame) -> np.ndarray:
    """uint8 [6, 80, FEATURES], of FILES and the first-grade kanji."""

    def of_file(name: str) -> np.ndarray:
        font = open_font(str(next(font_folder.rglob(name))), 0, 64)
        return glyph_features([ink_of(font, character)[0] for character in grade_one["character"]])

    return np.stack([of_file(name) for name in FILES])


@pytest.fixture(scope="module")
def everywhere(features: np.ndarray) -> np.ndarray:
    return np.ones(features.shape[:2], bool)


def test_good_glyphs_of_every_style_pass(features: np.ndarray, everywhere: np.ndarray) -> None:
    unlike, _ = find_unlike(features, everywhere)
    assert unlike.sum(axis=1).tolist()[:5] == [0] * 5
    assert unlike[5].sum() <= 1


@pytest.mark.parametrize(("face", "found"), list(enumerate([1, 1, 1, 1, 0.7, 0.3])))
def test_swapped_glyphs_are_found(features: np.ndarray, everywhere: np.ndarray, face: int, found: float) -> None:
    """All of them in print; with six faces to compare, the freer a hand the more pass."""
    clean, _ = find_unlike(features, everywhere)
    pairs = np.random.default_rng(face).permutation(80)[:8].reshape(4, 2)
    swapped = features.copy()
    swapped[face, pairs] = features[face, pairs[:, ::-1]]
    unlike, nearest = find_unlike(swapped, everywhere)
    assert unlike[face, pairs].mean() >= found
    assert ((nearest[face, pairs] == pairs[:, ::-1]) >= unlike[face, pairs]).mean() > 0.8
    others = np.ones(80, bool)
    others[pairs] = False
    assert (unlike[:, others] <= clean[:, others]).all()
    assert not np.delete(unlike, face, axis=0)[:5][:, pairs].any()


def test_a_drawing_of_something_else_is_unlike_every_character(features: np.ndarray, everywhere: np.ndarray) -> None:
    strange = features[:, :40].copy()
    strange[0, :5] = features[0, 75:]
    unlike, _ = find_unlike(strange, everywhere[:, :40])
    assert unlike[0, :5].any()
    assert not unlike[0, 5:].any()


def test_a_face_of_wrong_glyphs_alone_does_not_excuse_them(features: np.ndarray, everywhere: np.ndarray) -> None:
    shifted = features.copy()
    shifted[0] = np.roll(features[0], 1, axis=0)
    unlike, _ = find_unlike(shifted, everywhere)
    assert unlike[0].mean() > 0.8
    assert unlike[1:5].sum() == 0


def test_the_sister_of_a_font_does_not_vouch_for_it(features: np.ndarray, everywhere: np.ndarray) -> None:
    swapped = features.copy()
    swapped[0, [3, 30]] = features[0, [30, 3]]
    sisters = np.concatenate([swapped[:1], swapped])
    unlike, _ = find_unlike(sisters, np.ones(sisters.shape[:2], bool))
    assert np.argwhere(unlike[:6]).tolist() == [[0, 3], [0, 30], [1, 3], [1, 30]]


def test_two_faces_cannot_be_judged(features: np.ndarray, everywhere: np.ndarray) -> None:
    swapped = features[:3].copy()
    swapped[0, [3, 30]] = features[0, [30, 3]]
    assert find_unlike(swapped, everywhere[:3])[0].sum() == 2
    assert not find_unlike(swapped[:2], everywhere[:2])[0].any()
    lacking = everywhere[:3].copy()
    lacking[2, 3] = False
    unlike, _ = find_unlike(swapped, lacking)
    assert np.argwhere(unlike).tolist() == [[0, 30]]


@pytest.mark.parametrize("shape", [(3, 1), (3, 0), (0, 5), (4, 2)])
def test_small_tables_are_no_trouble(features: np.ndarray, shape: tuple[int, int]) -> None:
    few = features[: shape[0], : shape[1]]
    assert not find_unlike(few, np.ones(shape, bool))[0].any()
    assert not find_unlike(few, np.zeros(shape, bool))[0].any()


def test_features_forget_size_and_place(font_folder: Path) -> None:
    path = str(next(font_folder.rglob("ipaexg.ttf")))
    small, large = (glyph_features([ink_of(open_font(path, 0, em), "語")[0]])[0] for em in (64, 128))
    other = glyph_features([ink_of(open_font(path, 0, 64), "話")[0]])[0]
    assert small.shape == (FEATURES,) and small.dtype == np.uint8
    distance = np.abs(small.astype(int) - large).mean()
    assert distance < 0.3 * np.abs(small.astype(int) - other).mean()
    assert glyph_features([]).shape == (0, FEATURES)


@pytest.fixture(scope="module")
def glyphs(faces: pd.DataFrame, grade_one: pd.DataFrame, audit: pd.DataFrame, font_folder: Path) -> pd.DataFrame:
    """Two views of every first-grade kanji in five faces."""
    few = grade_one.iloc[::3]
    return render_glyphs(faces, few, audit, font_folder, RenderSettings(views=2))


def judge(glyphs: pd.DataFrame, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return picture_unlikeness(images, *(glyphs[column].to_numpy() for column in ("character", "face_id", "view")))


def test_a_wrong_picture_is_found_even_in_all_views_of_a_glyph(glyphs: pd.DataFrame) -> None:
    images = decode_images(glyphs)
    first, second = glyphs["character"].unique()[[3, 11]]
    wrong, other = (
        np.flatnonzero((glyphs["face_id"] == "kiloji") & (glyphs["character"] == each)) for each in (first, second)
    )
    planted = images.copy()
    planted[wrong] = images[other]
    clean, (excess, looks_like) = judge(glyphs, images)[0], judge(glyphs, planted)
    assert not (clean > 0).any()
    assert np.flatnonzero(excess > 0).tolist() == wrong.tolist()
    assert (looks_like[wrong] == second).all()


def test_a_picture_of_one_view_is_found_by_itself_and_one_without_ink_has_no_verdict(glyphs: pd.DataFrame) -> None:
    images = decode_images(glyphs)
    images[[0, 5]] = images[[40, 41]]
    images[9] = 255
    excess, looks_like = judge(glyphs, images)
    assert np.flatnonzero(excess > 0).tolist() == [0, 5]
    assert np.flatnonzero(np.isnan(excess)).tolist() == [9]
    assert looks_like[9] == ""


def test_pictures_of_two_faces_or_of_one_character_have_no_verdict(glyphs: pd.DataFrame) -> None:
    two = glyphs[glyphs["face_id"].isin(["kiloji", "ipaexmincho"])]
    one = glyphs[glyphs["character"] == glyphs["character"].iloc[0]]
    for few in (two, one):
        assert np.isnan(judge(few, decode_images(few))[0]).all()
