import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.encoders import jsonable_encoder
from kedro_viz.api.rest.responses.utils import EnhancedORJSONResponse

from kanji_diffusion.datasets import TableDataset

PGM = b"P5 2 2 255\n\x00\x7f\x80\xff"


@pytest.fixture
def glyphs():
    rows = 5000
    return pd.DataFrame(
        {
            "glyph_id": [f"glyph-{i}" for i in range(rows)],
            "image": [{"bytes": PGM, "path": None}] * rows,
            "grade": pd.array([1, None] * (rows // 2), dtype="Int64"),
            "score": [float("nan"), 0.5] * (rows // 2),
            "meanings": [["water", "fluid"]] * rows,
        }
    )


@pytest.fixture
def dataset(tmp_path):
    return TableDataset(filepath=str(tmp_path / "glyphs.parquet"))


def test_a_table_comes_back(dataset, glyphs):
    dataset.save(glyphs.iloc[::-1])
    loaded = dataset.load()
    assert list(loaded.columns) == list(glyphs.columns)
    assert loaded["glyph_id"].tolist() == glyphs["glyph_id"].tolist()[::-1]
    assert loaded["image"][0] == {"bytes": PGM, "path": None}
    assert loaded["grade"].dtype == "Int64"
    assert list(loaded["meanings"][0]) == ["water", "fluid"]


def test_pictures_are_an_image_feature_for_hugging_face(dataset, glyphs, tmp_path):
    dataset.save(glyphs)
    schema = pq.read_schema(tmp_path / "glyphs.parquet")
    # What `datasets.Features.from_arrow_schema` compares: the metadata and the exact arrow type.
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {"image": {"_type": "Image"}}
    assert schema.field("image") == pa.field("image", pa.struct({"bytes": pa.binary(), "path": pa.string()}))


def test_rows_can_be_read_in_groups(dataset, glyphs, tmp_path):
    dataset.save(glyphs)
    assert pq.ParquetFile(tmp_path / "glyphs.parquet").num_row_groups == 2


def test_kedro_viz_can_show_it_without_the_pictures(dataset, glyphs):
    dataset.save(glyphs)
    preview = dataset.preview(nrows=2)
    shown = json.loads(EnhancedORJSONResponse(jsonable_encoder(preview)).body)
    assert shown == {
        "index": [0, 1],
        "columns": ["glyph_id", "grade", "score", "meanings"],
        "data": [["glyph-0", 1, None, "water, fluid"], ["glyph-1", None, 0.5, "water, fluid"]],
    }


def test_an_empty_table_can_be_kept_and_shown(dataset, glyphs):
    dataset.save(glyphs.head(0))
    assert len(dataset.load()) == 0
    assert dataset.preview()["data"] == []
