import base64
import inspect
import io

import numpy as np
import pytest
from kedro.io import DatasetError
from PIL import Image

from kanji_diffusion.datasets import ImageSheetDataset


@pytest.fixture
def sheet():
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    image = Image.fromarray(pixels)
    image.info["prompt"] = "水, brush calligraphy"
    return image


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pixels_and_lineage_come_back(tmp_path, sheet, mode):
    dataset = ImageSheetDataset(filepath=str(tmp_path / "sheet.png"))
    saved = sheet.convert(mode)
    dataset.save(saved)
    loaded = dataset.load()
    assert loaded.mode == mode
    assert np.array_equal(np.asarray(loaded), np.asarray(saved))
    assert loaded.info["prompt"] == "水, brush calligraphy"


def test_kedro_viz_gets_the_picture(tmp_path, sheet):
    dataset = ImageSheetDataset(filepath=str(tmp_path / "sheet.png"))
    dataset.save(sheet)
    shown = Image.open(io.BytesIO(base64.b64decode(dataset.preview())))
    assert np.array_equal(np.asarray(shown), np.asarray(sheet))
    # The name of the return type is what Kedro-Viz chooses the viewer by.
    assert inspect.signature(dataset.preview).return_annotation == "ImagePreview"


def test_another_format_under_the_name_is_refused(tmp_path, sheet):
    path = tmp_path / "sheet.png"
    sheet.save(path, format="TIFF")
    with pytest.raises(DatasetError, match="cannot identify image file"):
        ImageSheetDataset(filepath=str(path)).load()
