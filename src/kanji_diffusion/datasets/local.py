"""Versioned artifacts in the local file system, written completely or not at all."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path, PurePosixPath
from typing import Any, Generic, TypeVar

from kedro.io import CatalogProtocol
from kedro.io.core import AbstractVersionedDataset, DatasetError, Version, generate_timestamp
from kedro.pipeline import Pipeline

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.files import WriteError, refuse_unwritable, written_whole
from kanji_diffusion.datasets.work_folder import WorkFolderDataset

Data = TypeVar("Data")


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
        # Kedro's own would read the whole path as a pattern.
        super().__init__(PurePosixPath(filepath), version, glob_function=self._glob)
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
        path = Path(self._get_save_path())
        # A version appears with its folder, as a whole, and cannot take the place of another.
        target = path.parent if self._version else path
        try:
            with written_whole(target) as staging:
                if self._version:
                    staging.mkdir()
                    staging /= path.name
                self._write(data, staging)
        except WriteError as error:
            raise DatasetError(str(error)) from error

    @abstractmethod
    def _read(self, path: Path) -> Data: ...

    @abstractmethod
    def _write(self, data: Data, path: Path) -> None: ...

    def _glob(self, pattern: str) -> list[str]:
        return [str(path) for path in Path(self._filepath).glob(f"*/{self._filepath.name}")]

    def _exists(self) -> bool:
        return Path(self._get_load_path()).exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath, "version": self._version}


def refuse_unsavable(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Refuse a run whose artifacts could not be written, or would not be the newest ones.

    Versions are the times at which runs began, and the last in order is read. If the clock has gone back since one was
    made, later runs would read that one. A later name for the new version would be no time any more, and two runs at
    once could choose the same.

    Raises:
        KanjiDiffusionError: If a folder is not writable, or an artifact has a version that is later than now.
    """
    now, outputs = generate_timestamp(), pipeline.all_outputs()
    for name in sorted(pipeline.datasets()):
        dataset = catalog.get(name)
        if isinstance(dataset, WorkFolderDataset):
            refuse_unwritable(dataset.filepath)
        if not isinstance(dataset, LocalDataset) or name not in outputs:
            continue
        folder = Path(dataset._filepath)
        refuse_unwritable(folder if dataset._version else folder.parent)
        newest = next(iter(dataset.list_versions(full_path=False)), "") if dataset._version else ""
        if newest > now:
            raise KanjiDiffusionError(
                f"`{name}` has the version {newest}, and it is {now} now: set the clock of this machine right or move "
                f"that version out of {folder}, since it would be read in place of what this run makes."
            )
