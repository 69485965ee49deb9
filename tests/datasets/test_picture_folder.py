import logging

import numpy as np
import pytest
from kedro.io import DatasetError, Version
from PIL import Image

from kanji_diffusion.datasets import FontFileDataset, PictureFolderDataset, SvgFolderDataset


@pytest.fixture
def dataset(tmp_path):
    return PictureFolderDataset(filepath=str(tmp_path / "generated"))


def picture(value):
    image = Image.fromarray(np.full((8, 8), value, dtype=np.uint8))
    image.info["Title"] = f"水 {value}"
    return image


def test_pictures_come_back_with_their_texts_and_their_paths_are_told(dataset, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        dataset.save({"0_water": picture(1), "1_fire": picture(2)})
    loaded = dataset.load()
    assert list(loaded) == ["0_water", "1_fire"]
    assert np.asarray(loaded["1_fire"]).tolist() == np.asarray(picture(2)).tolist()
    assert loaded["0_water"].info["Title"] == "水 1"
    assert f"'水 1': {tmp_path}/generated/0_water.png" in caplog.messages


def test_every_version_is_a_folder_of_its_own(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for number, version in enumerate(("a", "b")):
        dataset = PictureFolderDataset(filepath=str(tmp_path / "generated"), version=Version(None, version))
        dataset.save({"0_water": picture(number)})
        assert f"'水 {number}': {tmp_path}/generated/{version}/generated/0_water.png" in caplog.messages
    newest = PictureFolderDataset(filepath=str(tmp_path / "generated"), version=Version(None, None))
    assert newest.load()["0_water"].info["Title"] == "水 1"


@pytest.mark.parametrize("name", ["../water", "a/b", "", "/tmp/water"])
def test_a_name_that_climbs_out_of_the_folder_is_refused_and_nothing_is_left(dataset, tmp_path, name):
    with pytest.raises(DatasetError, match="cannot be named"):
        dataset.save({"good": picture(1), name: picture(2)})
    assert list(tmp_path.iterdir()) == []


def test_svgs_and_fonts_come_back_and_their_paths_are_told(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    svgs = SvgFolderDataset(filepath=str(tmp_path / "svgs"))
    svgs.save({"0_water": "<svg>水</svg>"})
    assert svgs.load() == {"0_water": "<svg>水</svg>"}
    assert f"'0_water': {tmp_path}/svgs/0_water.svg" in caplog.messages
    with pytest.raises(DatasetError, match=r"cannot be named '\.\./x'"):
        SvgFolderDataset(filepath=str(tmp_path / "others")).save({"../x": ""})
    font = FontFileDataset(filepath=str(tmp_path / "font.otf"))
    font.save(b"OTTO")
    assert font.load() == b"OTTO"
    assert f"The font is in {tmp_path}/font.otf" in caplog.messages
