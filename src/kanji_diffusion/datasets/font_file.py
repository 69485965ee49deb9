"""Fonts in the catalog."""

from __future__ import annotations

import logging
from pathlib import Path

from kanji_diffusion.datasets.local import LocalDataset

logger = logging.getLogger(__name__)


class FontFileDataset(LocalDataset[bytes]):
    """An OpenType or TrueType file; its path is told when it is saved."""

    def save(self, data: bytes) -> None:
        """Write the file.

        Raises:
            DatasetError: If it cannot be written.
        """
        path = Path(self._get_save_path())
        super().save(data)
        logger.info("The font is in %s", path)

    def _read(self, path: Path) -> bytes:
        return path.read_bytes()

    def _write(self, data: bytes, path: Path) -> None:
        path.write_bytes(data)
