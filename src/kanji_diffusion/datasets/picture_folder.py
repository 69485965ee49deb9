"""Sets of single pictures in the catalog."""

from __future__ import annotations

import logging
from pathlib import Path, PurePath

from kedro.io.core import DatasetError
from PIL import Image

from kanji_diffusion.datasets.image_sheet import read_png, write_png
from kanji_diffusion.datasets.local import LocalDataset

logger = logging.getLogger(__name__)


class PictureFolderDataset(LocalDataset[dict[str, Image.Image]]):
    """A folder of PNGs, one for each named Pillow image; the path of each is told when it is saved.

    Text in `image.info` (a title, the lineage) is kept in the files.
    """

    def save(self, data: dict[str, Image.Image]) -> None:
        """Write the pictures, all or none.

        Raises:
            DatasetError: If a name is not that of a plain file, or the folder cannot be written.
        """
        folder = Path(self._get_save_path())
        super().save(data)
        for name, image in data.items():
            logger.info("'%s': %s", image.info.get("Title", name), folder / f"{name}.png")

    def _read(self, path: Path) -> dict[str, Image.Image]:
        return {file.stem: read_png(file) for file in sorted(path.glob("*.png"))}

    def _write(self, data: dict[str, Image.Image], path: Path) -> None:
        path.mkdir()
        for name, image in data.items():
            if not name or PurePath(name).name != name:
                raise DatasetError(f"A picture cannot be named '{name}': give it the name of a plain file.")
            write_png(image, path / f"{name}.png")
