"""Pictures in the catalog."""

from __future__ import annotations

import base64
from pathlib import Path

from kedro_datasets._typing import ImagePreview
from PIL import Image

from kanji_diffusion.datasets.local import LocalDataset
from kanji_diffusion.imaging.png import write_png


def read_png(path: Path) -> Image.Image:
    """The picture in a PNG, with its texts in `info`."""
    with Image.open(path, formats=["PNG"]) as image:
        image.load()
        return image


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
