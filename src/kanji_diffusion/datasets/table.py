"""Tables, with or without pictures in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from kedro_datasets._typing import TablePreview

from kanji_diffusion.datasets.local import LocalDataset

# The arrow type of Hugging Face's `Image` feature, to the letter: anything else is not recognised as one.
_IMAGE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
_FEATURES = json.dumps({"info": {"features": {"image": {"_type": "Image"}}}})
# Small enough to be read one by one, large enough to compress well.
_ROWS_PER_GROUP = 4096


class TableDataset(LocalDataset[pd.DataFrame]):
    """A pandas table kept as Parquet; the index is not kept.

    A column named `image` of `{"bytes": ..., "path": ...}` becomes an image feature of Hugging Face
    `datasets`, which decodes it without being told (`load_dataset("parquet", data_files=...)`).
    """

    def _read(self, path: Path) -> pd.DataFrame:
        return pq.read_table(path, partitioning=None).to_pandas()

    def _write(self, data: pd.DataFrame, path: Path) -> None:
        table = pa.Table.from_pandas(data.drop(columns="image", errors="ignore"), preserve_index=False)
        if "image" in data:
            table = table.add_column(data.columns.get_loc("image"), "image", _image_column(data["image"]))
            table = table.replace_schema_metadata({**table.schema.metadata, "huggingface": _FEATURES})
        pq.write_table(table, path, compression="zstd", row_group_size=_ROWS_PER_GROUP)

    def preview(self, nrows: int = 20) -> TablePreview:
        """Give the first `nrows` rows to Kedro-Viz, without the pictures."""
        with pq.ParquetFile(Path(self._get_load_path())) as file:
            columns = [field.name for field in file.schema_arrow if not _is_picture(field.type)]
            rows = next(file.iter_batches(nrows, columns=columns), pa.record_batch({})).to_pylist()
        data = [[_plain(row[column]) for column in columns] for row in rows]
        return TablePreview({"index": list(range(len(data))), "columns": columns, "data": data})


def _image_column(images: pd.Series) -> pa.ChunkedArray:
    # In chunks, because one arrow array of bytes ends at two gigabytes.
    starts = range(0, len(images), _ROWS_PER_GROUP)
    chunks = [pa.array(images.iloc[i : i + _ROWS_PER_GROUP].tolist(), _IMAGE) for i in starts]
    return pa.chunked_array(chunks, _IMAGE)


def _is_picture(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _plain(value: Any) -> Any:
    # Kedro-Viz draws a cell as text and cannot draw a list.
    return ", ".join(map(str, value)) if isinstance(value, list) else value
