"""Arrays in temporary files, in place of memory."""

from __future__ import annotations

import os
import tempfile

import numpy as np

from kanji_diffusion.core.errors import KanjiDiffusionError

# Where the file system standard puts large temporary files; the usual /tmp may be in memory.
_LARGE_TEMPORARY = "/var/tmp"


class TemporaryArray:
    """An array that is written row by row to a temporary file, for what need not fit in memory.

    The file lies in the folder that the environment variable TMPDIR names, by default in /var/tmp. It has no name and
    takes no room once nobody reads it.

    Args:
        row: Shape of a row.
        dtype: Of the elements.
    """

    def __init__(self, row: tuple[int, ...], dtype: type[np.generic]) -> None:
        self._row, self._dtype, self._count = row, dtype, 0
        large = "TMPDIR" not in os.environ and os.access(_LARGE_TEMPORARY, os.W_OK)
        self._folder = _LARGE_TEMPORARY if large else tempfile.gettempdir()
        self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115 - it outlives this call

    def append(self, rows: np.ndarray) -> None:
        """Write further rows `[n, *row]`.

        Raises:
            KanjiDiffusionError: If there is no room for them.
        """
        assert rows.shape[1:] == self._row and rows.dtype == self._dtype
        try:
            self._file.write(np.ascontiguousarray(rows).data)
            self._file.flush()
        except OSError as error:
            raise KanjiDiffusionError(
                f"A temporary file in {self._folder} cannot be written ({error.strerror}): free some space, or set the "
                "environment variable TMPDIR to a folder that has more."
            ) from error
        self._count += len(rows)

    def read(self) -> np.ndarray:
        """All rows `[N, *row]`, memory-mapped and read-only."""
        shape = (self._count, *self._row)
        if not self._count:
            return np.empty(shape, self._dtype)
        return np.asarray(np.memmap(self._file, self._dtype, "r", shape=shape))
