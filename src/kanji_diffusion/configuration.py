"""How Kedro finds the project's configuration, whatever the folders above it are called."""

from __future__ import annotations

import copy
import os
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import yaml
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from kedro.config import OmegaConfigLoader
from kedro.framework.project import configure_logging

from kanji_diffusion.core.errors import KanjiDiffusionError


class ProjectConfigLoader(OmegaConfigLoader):
    """Kedro's loader, for which the folders above the configuration may have any name.

    Each part of the configuration is read and merged once, which takes a tenth of a second: Kedro, its plugins and the
    hooks ask for the parameters a dozen times.

    Raises:
        KanjiDiffusionError: If `conf_source` is an archive that cannot be read, or a file that is none.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._merged: dict[str, dict[str, Any]] = {}
        super().__init__(*args, **kwargs)

    def __getitem__(self, key: str) -> dict[str, Any]:
        """A copy of what the files, the environment and the command line say of `key`."""
        if key not in self._merged:
            self._merged[key] = super().__getitem__(key)
        return copy.deepcopy(self._merged[key])

    def __setitem__(self, key: str, value: Any) -> None:
        """Put `value` in the place of what the files say."""
        self._merged.pop(key, None)
        super().__setitem__(key, value)

    @staticmethod
    def _initialise_filesystem_and_protocol(conf_source: str) -> tuple[AbstractFileSystem, str]:
        try:
            files, protocol = OmegaConfigLoader._initialise_filesystem_and_protocol(conf_source)
        except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zlib.error) as error:
            raise KanjiDiffusionError(
                f"The configuration {conf_source} cannot be read ({error}): give a folder, or an archive as "
                "`kedro package` makes it."
            ) from error
        if protocol != "file":
            return files, protocol
        if Path(conf_source).is_file():
            raise KanjiDiffusionError(
                f"The configuration {conf_source} is a file, but no archive: give a folder, or a .tar.gz as "
                "`kedro package` makes it."
            )
        return _ConfigurationFiles(conf_source), protocol


class _ConfigurationFiles(LocalFileSystem):
    """Reads patterns below the folder of the configuration alone, so that this may be called `[v2]`."""

    cachable = False

    def __init__(self, conf_source: str) -> None:
        super().__init__()
        self._folder = Path(conf_source)

    def glob(self, path: str, maxdepth: int | None = None, **kwargs: Any) -> list[str]:
        if not Path(path).is_relative_to(self._folder):
            return []  # of an environment that is an absolute path, which the hooks refuse
        pattern = Path(path).relative_to(self._folder).as_posix()
        # pathlib gives folders alone for `**` at the end.
        return sorted(map(os.fspath, self._folder.glob(f"{pattern}/*" if pattern.endswith("**") else pattern)))


def configure_project_logging(project: Path) -> None:
    """Log as the project's `conf/logging.yml` says; Kedro looks for it below the working directory alone."""
    path = project / "conf" / "logging.yml"
    if "KEDRO_LOGGING_CONFIG" not in os.environ and Path.cwd() != project and path.is_file():
        configure_logging(yaml.safe_load(path.read_text(encoding="utf-8")))
