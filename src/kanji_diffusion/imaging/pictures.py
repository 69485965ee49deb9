"""The column of pictures of a table: row numbers into an Arrow table, whose pictures are read when they are needed."""

from __future__ import annotations

import builtins
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from pandas.api.extensions import ExtensionArray, ExtensionDtype, register_extension_dtype, take
from pandas.api.indexers import check_array_indexer

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.imaging.pgm import pgm_files, pgm_header

IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
"""The arrow type of Hugging Face's `Image` feature, to the letter: anything else is not recognised as one."""

_ROWS_PER_CHUNK = 512  # an arrow array of bytes ends at two gigabytes, and chunks are copied one at a time


@register_extension_dtype
class PictureDtype(ExtensionDtype):
    """The pandas type of `PictureArray`."""

    name = "picture"
    type = dict
    na_value = None

    @classmethod
    def construct_array_type(cls) -> builtins.type[PictureArray]:
        """Tell pandas which array has this type."""
        return PictureArray

    def __from_arrow__(self, stored: pa.Array | pa.ChunkedArray) -> PictureArray:
        return PictureArray(stored if isinstance(stored, pa.ChunkedArray) else pa.chunked_array([stored], IMAGE))


class PictureArray(ExtensionArray):
    """A pandas column of `{"bytes": a file, "path": None}` that is selected, sorted and joined without being read.

    A column of Python objects holds every picture, and pandas' own arrow column copies all of them at each
    selection. This one moves row numbers; `Pictures` copies what is asked for out of the memory-mapped table.

    Args:
        stored: Pictures of the arrow type `IMAGE`.
        rows: Which of them, in order, int64, -1 for none; all of them by default.
        path: The Arrow file in whose column `image` they are memory-mapped. A column of a file is pickled as its path,
            and is opened anew where it is unpickled; one without is pickled with its pictures.
    """

    def __init__(self, stored: pa.ChunkedArray, rows: np.ndarray | None = None, path: Path | None = None) -> None:
        self._stored, self._path = stored, path
        self._rows = np.where(stored.is_valid(), np.arange(len(stored)), -1) if rows is None else rows

    @classmethod
    def open(cls, path: Path, rows: np.ndarray) -> Self:
        """Map the column `image` of an Arrow file into memory.

        Raises:
            KanjiDiffusionError: The file is not there.
        """
        try:
            table = pa.ipc.open_file(pa.memory_map(os.fspath(path))).read_all()
        except FileNotFoundError as error:
            raise KanjiDiffusionError(
                f"The pictures in {path} are not there: keep the project's data on storage that all machines share."
            ) from error
        return cls(table["image"], rows, path)

    @classmethod
    def from_files(cls, blobs: Iterable[bytes | np.ndarray], length: int) -> Self:
        """Wrap files of equal length without copying them.

        Args:
            blobs: Whole files one after the other, below two gigabytes each.
            length: Bytes of one file.
        """
        return cls(pa.chunked_array([_files_chunk(pa.py_buffer(blob), length) for blob in blobs], IMAGE))

    @classmethod
    def from_pixels(cls, pixels: np.ndarray) -> Self:
        """Make binary PGM files.

        Args:
            pixels: uint8 [N, H, W] with H = W, 0 = ink, 255 = paper.
        """
        length = len(pgm_header(pixels.shape[-1])) + pixels.shape[-1] ** 2
        starts = range(0, len(pixels), _ROWS_PER_CHUNK)
        return cls.from_files((pgm_files(pixels[i : i + _ROWS_PER_CHUNK]) for i in starts), length)

    def chunks(self) -> list[pa.Array]:
        """Give the pictures in arrays of the arrow type `IMAGE`, each of moderate size."""
        if np.array_equal(self._rows, np.arange(len(self._stored))):
            return self._stored.chunks
        starts = range(0, len(self), _ROWS_PER_CHUNK)
        return [pa.array(list(self[i : i + _ROWS_PER_CHUNK]), IMAGE) for i in starts]

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.ChunkedArray:
        return pa.chunked_array(self.chunks(), IMAGE)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._path:
            return PictureArray.open, (self._path, self._rows)
        # Without the pictures of the table that were not selected.
        return PictureArray, (self.__arrow_array__(),)

    @classmethod
    def _from_sequence(cls, scalars: Iterable[Any], *, dtype: Any = None, copy: bool = False) -> Self:
        pictures = list(scalars)
        starts = range(0, len(pictures), _ROWS_PER_CHUNK)
        return cls(pa.chunked_array([pa.array(pictures[i : i + _ROWS_PER_CHUNK], IMAGE) for i in starts], IMAGE))

    @classmethod
    def _concat_same_type(cls, to_concat: Sequence[Self]) -> Self:
        stored = pa.chunked_array([chunk for part in to_concat for chunk in part._stored.chunks], IMAGE)
        starts = np.cumsum([0, *(len(part._stored) for part in to_concat[:-1])])
        rows = [np.where(part._rows < 0, -1, part._rows + at) for part, at in zip(to_concat, starts, strict=True)]
        return cls(stored, np.concatenate(rows))

    @property
    def dtype(self) -> PictureDtype:
        """The pandas type."""
        return PictureDtype()

    @property
    def nbytes(self) -> int:
        """Bytes of the row numbers; the pictures are the table's."""
        return self._rows.nbytes

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, item: Any) -> Any:
        if pd.api.types.is_integer(item):
            row = self._rows[item]
            return None if row < 0 else self._stored[int(row)].as_py()
        return self._selected(self._rows[check_array_indexer(self, item)])

    def isna(self) -> np.ndarray:
        """Which rows have no picture, bool [N]."""
        return self._rows < 0

    def take(self, indices: Any, *, allow_fill: bool = False, fill_value: Any = None) -> Self:
        """Select by position; with `allow_fill`, -1 is no picture."""
        rows = take(self._rows, np.asarray(indices), allow_fill=allow_fill, fill_value=-1)
        return self._selected(np.asarray(rows))

    def copy(self) -> Self:
        """Copy the row numbers; the pictures cannot change."""
        return self._selected(self._rows.copy())

    def _selected(self, rows: np.ndarray) -> Self:
        return type(self)(self._stored, rows, self._path)


class Pictures:
    """The pixels of a column of pictures, in use like an array uint8 `[N, H, W]`, but read only when they are indexed.

    Args:
        column: The pictures; 0 = ink, 255 = paper.

    Attributes:
        shape: N, H and W; H and W are 0 without pictures.

    Raises:
        KanjiDiffusionError: They are not square binary PGM files of one size. Only the first one is looked at before
            they are indexed.
    """

    def __init__(self, column: PictureArray) -> None:
        self._column = column
        size = _side_of(column[0]) if len(column) else 0
        self.shape = (len(column), size, size)
        self._starts = np.cumsum([0, *map(len, column._stored.chunks)])

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._column)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        """Read some of the pictures, uint8 `[n, H, W]`."""
        rows = self._column._rows[index]
        if (rows < 0).any():
            raise _unlike_pictures()
        size = self.shape[-1]
        header = np.frombuffer(pgm_header(size), dtype=np.uint8)
        pixels = np.empty((len(rows), size, size), dtype=np.uint8)
        chunks = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(chunks, kind="stable")
        numbers, firsts = np.unique(chunks[order], return_index=True)
        for number, here in zip(numbers.tolist(), np.split(order, firsts)[1:], strict=True):
            files = _files(self._column._stored.chunk(number), len(header) + size**2)
            found = files[rows[here] - self._starts[number]]
            if (found[:, : len(header)] != header).any():
                raise _unlike_pictures()
            pixels[here] = found[:, len(header) :].reshape(-1, size, size)
        return pixels

    def __reduce__(self) -> tuple[Any, ...]:
        return Pictures, (self._column,)


Images = np.ndarray | Pictures
"""Pictures uint8 `[N, H, W]`, in memory or not."""


def blocks(images: Images, size: int = 256) -> Iterator[np.ndarray]:
    """Read pictures in order, `size` at a time: uint8 `[n, H, W]`."""
    return (images[first : first + size] for first in range(0, len(images), size))


def _files_chunk(blob: pa.Buffer, length: int) -> pa.Array:
    count = blob.size // length
    offsets = pa.py_buffer(np.arange(0, blob.size + 1, length, dtype=np.int32))
    files = pa.Array.from_buffers(pa.binary(), count, [None, offsets, blob])
    return pa.StructArray.from_arrays([files, pa.nulls(count, pa.string())], fields=list(IMAGE))


def _files(chunk: pa.StructArray, length: int) -> np.ndarray:
    """The files of a chunk, uint8 [N, length], without copying them."""
    files = chunk.field("bytes")
    offsets = np.frombuffer(files.buffers()[1], dtype=np.int32)[files.offset :][: len(files) + 1]
    if (np.diff(offsets) != length).any():
        raise _unlike_pictures()
    data = np.frombuffer(files.buffers()[2], dtype=np.uint8)
    return data[offsets[0] : offsets[-1]].reshape(-1, length)


def _side_of(picture: dict[str, Any] | None) -> int:
    file = (picture or {}).get("bytes") or b""
    header = re.match(rb"P5\n(\d{1,5}) ", file)
    if not header or len(file) != len(pgm_header(int(header[1]))) + int(header[1]) ** 2:
        raise _unlike_pictures()
    return int(header[1])


def _unlike_pictures() -> KanjiDiffusionError:
    return KanjiDiffusionError("The glyph pictures are not square PGM files of one size: render the glyphs anew.")


def decode_images(glyphs: pd.DataFrame) -> np.ndarray:
    """Read the pixels of a glyph table.

    Args:
        glyphs: Rows with image, all of one size: as `render_glyphs` made them, or as pandas reads a saved table.

    Returns:
        uint8 [N, H, W], 0 = ink, 255 = paper.

    Raises:
        KanjiDiffusionError: The pictures differ in size or are not those that `render_glyphs` made.
    """
    return open_images(glyphs)[:]


def open_images(glyphs: pd.DataFrame) -> Pictures:
    """As `decode_images`, but pictures are read only when they are indexed."""
    column = glyphs["image"].astype(PictureDtype()).array
    assert isinstance(column, PictureArray)
    return Pictures(column)


def encode_images(pixels: np.ndarray) -> PictureArray:
    """Make the column `image` of a table.

    Args:
        pixels: uint8 [N, H, W] with H = W, 0 = ink, 255 = paper.

    Returns:
        N binary PGM files, which `decode_images` reads.
    """
    return PictureArray.from_pixels(pixels)
