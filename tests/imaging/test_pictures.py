from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.imaging.pictures import PictureArray, blocks, decode_images, encode_images, open_images
from kanji_diffusion.imaging.resize import resize_all, resize_bilinear

ROWS = 1200  # more than one chunk


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return (np.arange(ROWS * 64).reshape(ROWS, 8, 8) * 131 % 251).astype(np.uint8)


@pytest.fixture
def table(pixels: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"glyph_id": [f"{n:04d}" for n in range(ROWS)], "image": encode_images(pixels)})


def assert_shows(table: pd.DataFrame, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(decode_images(table), expected)


def test_what_pandas_does_with_rows_it_does_with_pictures(table: pd.DataFrame, pixels: np.ndarray) -> None:
    odd = np.arange(ROWS) % 2 == 1
    assert_shows(table, pixels)
    assert_shows(table[odd], pixels[odd])
    assert_shows(table.iloc[5:700:3], pixels[5:700:3])
    assert_shows(table.set_index("glyph_id").loc[["1100", "0007", "0600"]], pixels[[1100, 7, 600]])
    assert_shows(table.sort_values("glyph_id", ascending=False), pixels[::-1])
    assert_shows(table[odd].merge(pd.DataFrame({"glyph_id": ["0003", "0901"]}), on="glyph_id"), pixels[[3, 901]])
    assert_shows(pd.concat([table[odd], table.tail(2)], ignore_index=True), np.concatenate([pixels[odd], pixels[-2:]]))
    assert_shows(table.assign(split="train").query("glyph_id > '1190'"), pixels[1191:])
    assert decode_images(table.head(0)).size == 0


def test_a_picture_is_a_file(table: pd.DataFrame, pixels: np.ndarray) -> None:
    expected = {"bytes": b"P5\n8 8\n255\n" + pixels[700].tobytes(), "path": None}
    assert table["image"].iloc[700] == expected
    assert table["image"].tolist()[700] == expected
    assert "P5" in repr(table)


def test_pictures_of_python_objects_are_read_too(table: pd.DataFrame, pixels: np.ndarray) -> None:
    assert_shows(table.astype({"image": object}), pixels)


def test_a_join_may_leave_rows_without_a_picture(table: pd.DataFrame) -> None:
    joined = pd.DataFrame({"glyph_id": ["0001", "x"]}).merge(table, on="glyph_id", how="left")
    assert joined["image"].isna().tolist() == [False, True]
    assert joined["image"].iloc[1] is None
    with pytest.raises(KanjiDiffusionError, match="render the glyphs anew"):
        decode_images(joined)
    again = PictureArray._from_sequence(joined["image"].tolist())
    assert again.isna().tolist() == [False, True]


def test_a_selection_takes_only_itself_to_another_process(table: pd.DataFrame, pixels: np.ndarray) -> None:
    few = pickle.dumps(table.iloc[[900, 3]])
    assert len(few) < 10_000
    assert_shows(pickle.loads(few), pixels[[900, 3]])


def test_pictures_are_read_where_they_are_indexed_in_any_order(table: pd.DataFrame, pixels: np.ndarray) -> None:
    odd = np.arange(ROWS) % 2 == 1
    images = open_images(table[odd].sort_values("glyph_id", ascending=False))
    expected = pixels[odd][::-1]
    assert (len(images), images.shape) == (ROWS // 2, (ROWS // 2, 8, 8))
    for index in (slice(3, 400, 7), np.array([599, 0, 0, 300]), expected[:, 0, 0] > 100, np.zeros(0, np.int64)):
        np.testing.assert_array_equal(images[index], expected[index])
    read = list(blocks(images, 250))
    assert [len(block) for block in read] == [250, 250, 100]
    np.testing.assert_array_equal(np.concatenate(read), expected)


def test_resizing_all_block_by_block_changes_no_pixel(table: pd.DataFrame, pixels: np.ndarray) -> None:
    images = open_images(table)
    assert resize_all(images, 8) is images
    np.testing.assert_array_equal(resize_all(images, 5), resize_bilinear(pixels, 5))


def test_pixels_can_be_changed_without_changing_the_table(table: pd.DataFrame, pixels: np.ndarray) -> None:
    read = decode_images(table)
    read[:] = 0
    assert_shows(table, pixels)


@pytest.mark.parametrize(
    "file", [b"P5\n1 1\n255\n\x00", b"P5 8 8 255\n" + bytes(66), b"\x89PNG" + bytes(71), b"P5", b""]
)
@pytest.mark.parametrize("place", [0, 1])
def test_other_pictures_are_refused(table: pd.DataFrame, file: bytes, place: int) -> None:
    pictures = [table["image"].iloc[0], {"bytes": file, "path": None}]
    with pytest.raises(KanjiDiffusionError, match="one size"):
        decode_images(pd.DataFrame({"image": pictures[:: -1 if place == 0 else 1]}))
