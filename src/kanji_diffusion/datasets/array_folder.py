"""Named arrays that are read without being loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from kedro.io.core import DatasetError

from kanji_diffusion.datasets.local import LocalDataset


class ArrayFolderDataset(LocalDataset[dict[str, np.ndarray]]):
    """A folder of `.npy` files, one for each named array, memory-mapped read-only when loaded."""

    def _read(self, path: Path) -> dict[str, np.ndarray]:
        return {file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in sorted(path.glob("*.npy"))}

    def _write(self, data: dict[str, np.ndarray], path: Path) -> None:
        path.mkdir()
        for name, array in data.items():
            if not name or PurePath(name).name != name:
                raise DatasetError(f"An array cannot be named '{name}': give it the name of a plain file.")
            if array.dtype.hasobject:
                raise DatasetError(f"The array `{name}` holds Python objects: keep numbers or text.")
            with (path / f"{name}.npy").open("wb") as file:
                np.save(_Stream(file.write), array, allow_pickle=False)


@dataclass(frozen=True)
class _Stream:
    """What numpy cannot write to by itself: it would not say why the operating system refused."""

    write: Callable[[bytes], Any]
