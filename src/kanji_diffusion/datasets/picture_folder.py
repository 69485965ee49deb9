"""Sets of single pictures in the catalog."""

from __future__ import annotations

import logging
from abc import abstractmethod
from pathlib import Path, PurePath
from typing import Generic, TypeVar

from kedro.io.core import DatasetError
from PIL import Image

from kanji_diffusion.datasets.image_sheet import read_png, write_png
from kanji_diffusion.datasets.local import LocalDataset

logger = logging.getLogger(__name__)

Picture = TypeVar("Picture")


class _FilesDataset(LocalDataset[dict[str, Picture]], Generic[Picture]):
    """A folder with a file for each named picture; the path of each is told when it is saved."""

    suffix: str

    def save(self, data: dict[str, Picture]) -> None:
        """Write the pictures, all or none.

        Raises:
            DatasetError: If a name is not that of a plain file, or the folder cannot be written.
        """
        folder = Path(self._get_save_path())
        super().save(data)
        for name, picture in data.items():
            logger.info("'%s': %s", self._title(name, picture), folder / f"{name}{self.suffix}")

    def _read(self, path: Path) -> dict[str, Picture]:
        return {file.stem: self._read_file(file) for file in sorted(path.glob(f"*{self.suffix}"))}

    def _write(self, data: dict[str, Picture], path: Path) -> None:
        path.mkdir()
        for name, picture in data.items():
            if not name or PurePath(name).name != name:
                raise DatasetError(f"A picture cannot be named '{name}': give it the name of a plain file.")
            self._write_file(picture, path / f"{name}{self.suffix}")

    def _title(self, name: str, picture: Picture) -> str:
        return name

    @abstractmethod
    def _read_file(self, path: Path) -> Picture: ...

    @abstractmethod
    def _write_file(self, picture: Picture, path: Path) -> None: ...


class PictureFolderDataset(_FilesDataset[Image.Image]):
    """A folder of PNGs, one for each named Pillow image; the path of each is told when it is saved.

    Text in `image.info` (a title, the lineage) is kept in the files.
    """

    suffix = ".png"

    def _title(self, name: str, picture: Image.Image) -> str:
        return str(picture.info.get("Title", name))

    def _read_file(self, path: Path) -> Image.Image:
        return read_png(path)

    def _write_file(self, picture: Image.Image, path: Path) -> None:
        write_png(picture, path)


class SvgFolderDataset(_FilesDataset[str]):
    """A folder of SVGs, one for each named text; the path of each is told when it is saved."""

    suffix = ".svg"

    def _read_file(self, path: Path) -> str:
        return path.read_text(encoding="utf-8")

    def _write_file(self, picture: str, path: Path) -> None:
        path.write_text(picture, encoding="utf-8")
