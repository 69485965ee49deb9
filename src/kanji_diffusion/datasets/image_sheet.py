"""Pictures in the catalog."""

from __future__ import annotations

import base64
from pathlib import Path

from kedro_datasets._typing import ImagePreview
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from kanji_diffusion.datasets.local import LocalDataset


def read_png(path: Path) -> Image.Image:
    """The picture in a PNG, with its texts in `info`."""
    with Image.open(path, formats=["PNG"]) as image:
        image.load()
        return image


def write_png(image: Image.Image, path: Path) -> None:
    """Write `image` with the texts in its `info`."""
    texts = PngInfo()
    for key, value in image.info.items():
        if isinstance(value, str):
            texts.add_itxt(str(key), value)
    image.save(path, format="PNG", pnginfo=texts)


class ImageSheetDataset(LocalDataset[Image.Image]):
    """A Pillow image kept as PNG and shown by Kedro-Viz.

    Text in `image.info` (a prompt, a seed) is kept in the file, so that a picture carries its own lineage.
    """

    def _read(self, path: Path) -> Image.Image:
        return read_png(path)

    def _write(self, data: Image.Image, path: Path) -> None:
        write_png(data, path)

    def preview(self) -> ImagePreview:
        """Give the picture to Kedro-Viz, encoded in base64."""
        return ImagePreview(base64.b64encode(Path(self._get_load_path()).read_bytes()).decode())
