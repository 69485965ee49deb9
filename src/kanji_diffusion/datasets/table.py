"""Tables, with or without pictures in them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from kedro_datasets._typing import TablePreview
from pyarrow.dataset import dataset

from kanji_diffusion.datasets.local import LocalDataset
from kanji_diffusion.imaging.pictures import IMAGE, PictureArray, PictureDtype

_FEATURES = json.dumps({"info": {"features": {"image": {"_type": "Image"}}}})
_FORMATS = {".arrow": "ipc", ".csv": "csv"}
# Small enough to be read one by one, large enough to compress well.
_ROWS_PER_GROUP = 4096


class TableDataset(LocalDataset[pd.DataFrame]):
    """A pandas table kept as Parquet, as Arrow if the file is named `.arrow`, or as text if `.csv`; without its index.

    Arrow is not compressed and is memory-mapped, so that a table of pictures opens at once, takes no memory for
    pictures that nobody looks at, and is shared by all processes that read it.

    A column named `image` of `{"bytes": ..., "path": ...}` comes back as a `PictureArray`, and is an image feature
    of Hugging Face `datasets`, which decodes it without being told (`load_dataset("arrow", data_files=...)`).
    """

    def _read(self, path: Path) -> pd.DataFrame:
        if path.suffix == ".csv":
            # The meaning "null" is no missing one.
            return pd.read_csv(path, keep_default_na=False, na_values=[""])
        mapped = path.absolute() if path.suffix == ".arrow" else None
        if mapped:
            table = pa.ipc.open_file(pa.memory_map(os.fspath(path))).read_all()
        else:
            table = pq.read_table(path, partitioning=None)
        if "image" not in table.column_names:
            return table.to_pandas()
        data = table.drop_columns("image").to_pandas()
        data.insert(table.column_names.index("image"), "image", PictureArray(table["image"], path=mapped))
        return data

    def _write(self, data: pd.DataFrame, path: Path) -> None:
        if path.suffix == ".csv":
            data.to_csv(path, index=False)
            return
        table = pa.Table.from_pandas(data.drop(columns="image", errors="ignore"), preserve_index=False)
        if "image" in data:
            images = pa.chunked_array(data["image"].astype(PictureDtype()).array.chunks(), IMAGE)
            table = table.add_column(data.columns.get_loc("image"), "image", images)
            table = table.replace_schema_metadata({**table.schema.metadata, "huggingface": _FEATURES})
        if self._filepath.suffix == ".arrow":
            with pa.ipc.new_file(path, table.schema) as file:
                file.write_table(table)
        else:
            pq.write_table(table, path, compression="zstd", row_group_size=_ROWS_PER_GROUP)

    def preview(self, nrows: int = 20) -> TablePreview:
        """Give the first `nrows` rows to Kedro-Viz, without the pictures."""
        path = Path(self._get_load_path())
        table = dataset(path, format=_FORMATS.get(path.suffix, "parquet"))
        columns = [field.name for field in table.schema if not _is_picture(field.type)]
        rows = table.head(nrows, columns=columns).to_pylist()
        data = [[_plain(row[column]) for column in columns] for row in rows]
        return TablePreview({"index": list(range(len(data))), "columns": columns, "data": data})


def _is_picture(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _plain(value: Any) -> Any:
    # Kedro-Viz draws a cell as text and cannot draw a list.
    return ", ".join(map(str, value)) if isinstance(value, list) else value
