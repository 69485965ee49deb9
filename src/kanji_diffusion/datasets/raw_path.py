"""Inputs that come from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from kedro.io.core import AbstractDataset, DatasetError


class RawPathDataset(AbstractDataset[NoReturn, Path]):
    """A file or folder that no pipeline makes, handed to the nodes as a path.

    Args:
        filepath: Where it must be.
        remedy: What to do when it is not there, such as "run `make data`".
        metadata: Kept for Kedro-Viz.
    """

    def __init__(self, *, filepath: str, remedy: str, metadata: dict[str, Any] | None = None) -> None:
        self.filepath = Path(filepath)
        self.remedy = remedy
        self.metadata = metadata

    def load(self) -> Path:
        """Return the path.

        Raises:
            DatasetError: If nothing is there.
        """
        if not self._exists():
            raise DatasetError(f"{self.filepath} does not exist: {self.remedy}.")
        return self.filepath

    def save(self, data: NoReturn) -> None:
        """Refuse: raw data is never written.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError(f"{self.filepath} is raw data, which no node may write.")

    def _exists(self) -> bool:
        return self.filepath.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self.filepath.as_posix()}
