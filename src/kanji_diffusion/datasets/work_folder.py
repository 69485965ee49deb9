"""Folders that the project works in."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from kedro.io.core import AbstractDataset, DatasetError


class WorkFolderDataset(AbstractDataset[NoReturn, Path]):
    """A folder that is made when it is first asked for, handed to the nodes as a path.

    Args:
        filepath: Where it is.
        metadata: Kept for Kedro-Viz.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self.filepath = Path(filepath)
        self.metadata = metadata

    def load(self) -> Path:
        """Return the path of the folder, which exists.

        Raises:
            DatasetError: If it cannot be made.
        """
        try:
            self.filepath.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatasetError(
                f"The folder {self.filepath} cannot be made ({error.strerror}): correct that and run again."
            ) from error
        return self.filepath

    def save(self, data: NoReturn) -> None:
        """Refuse: nodes write into the folder themselves.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError(f"{self.filepath} is a working folder: name it among a node's inputs only.")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self.filepath.as_posix()}
