"""Versioned artifacts in the local file system, written completely or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar

from kedro.io.core import AbstractVersionedDataset, DatasetError, Version

from kanji_diffusion.core.files import sync

Data = TypeVar("Data")


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give a sibling of `target` to write a file or folder to; move it to `target` once it is on the disk.

    A process that is killed, or a disk that is full, leaves `target` as it was.

    Raises:
        DatasetError: If the operating system refuses to write.
    """
    staging = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield staging
        for path in (staging, *staging.rglob("*")):
            sync(path)
        staging.rename(target)
        sync(target.parent)
    except OSError as error:
        remedy = "free some space and" if error.errno == errno.ENOSPC else "correct that and"
        raise DatasetError(
            f"{target} cannot be written ({error.strerror or error}): {remedy} run the same command again."
        ) from error
    finally:
        if staging.is_dir():
            shutil.rmtree(staging, ignore_errors=True)
        else:
            staging.unlink(missing_ok=True)


class LocalDataset(AbstractVersionedDataset[Data, Data], Generic[Data]):
    """The base of the project's artifacts: a file or folder that is versioned and written atomically.

    Subclasses say how to `_read` from a path that exists and how to `_write` to one that does not.

    Args:
        filepath: Where the versions are kept, a file or folder name in the local file system.
        version: Which version to load and under which to save; None for an artifact without versions.
        metadata: Kept for Kedro-Viz (`kedro-viz`) and MLflow (`mlflow`).

    Raises:
        DatasetError: If `filepath` is an address (`s3://...`) in place of a path.
    """

    def __init__(
        self, *, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        if "://" in str(filepath):
            raise DatasetError(f"{filepath} is not a local path, which {type(self).__name__} needs.")
        super().__init__(PurePosixPath(filepath), version)
        self.metadata = metadata

    def load(self) -> Data:
        """Read the artifact.

        Raises:
            DatasetError: If this version does not exist or cannot be read.
        """
        path = Path(self._get_load_path())
        if not path.exists():
            raise DatasetError(f"{path} does not exist.")
        return self._read(path)

    def save(self, data: Data) -> None:
        """Write the artifact.

        Raises:
            DatasetError: If it cannot be written; nothing is left behind then.
        """
        with atomic_path(Path(self._get_save_path())) as path:
            self._write(data, path)

    @abstractmethod
    def _read(self, path: Path) -> Data: ...

    @abstractmethod
    def _write(self, data: Data, path: Path) -> None: ...

    def _exists(self) -> bool:
        return Path(self._get_load_path()).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "version": self._version}
