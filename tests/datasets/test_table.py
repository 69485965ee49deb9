import json
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.encoders import jsonable_encoder
from kedro_viz.api.rest.responses.utils import EnhancedORJSONResponse

import datasets
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.datasets import TableDataset
from kanji_diffusion.imaging.pictures import decode_images, encode_images, open_images

ROWS = 5000


@pytest.fixture(scope="module")
def pixels():
    return (np.arange(ROWS * 16).reshape(ROWS, 4, 4) * 37 % 251).astype(np.uint8)


@pytest.fixture
def glyphs(pixels):
    return pd.DataFrame(
        {
            "glyph_id": [f"glyph-{i}" for i in range(ROWS)],
            "image": encode_images(pixels),
            "grade": pd.array([1, None] * (ROWS // 2), dtype="Int64"),
            "score": [float("nan"), 0.5] * (ROWS // 2),
            "meanings": [["water", "fluid"]] * ROWS,
        }
    )


@pytest.fixture(params=["arrow", "parquet"])
def dataset(request, tmp_path):
    return TableDataset(filepath=str(tmp_path / f"glyphs.{request.param}"))


def read_plainly(path):
    """As a user of pandas without this project does."""
    return pd.read_feather(path) if path.suffix == ".arrow" else pd.read_parquet(path)


def test_a_table_comes_back(dataset, glyphs, pixels):
    dataset.save(glyphs.iloc[::-1])
    loaded = dataset.load()
    assert list(loaded.columns) == list(glyphs.columns)
    assert loaded["glyph_id"].tolist() == glyphs["glyph_id"].tolist()[::-1]
    np.testing.assert_array_equal(decode_images(loaded), pixels[::-1])
    assert loaded["grade"].dtype == "Int64"
    assert list(loaded["meanings"][0]) == ["water", "fluid"]


def test_a_table_without_pictures_comes_back(dataset, glyphs):
    plain = glyphs.drop(columns="image")
    dataset.save(plain)
    pd.testing.assert_frame_equal(dataset.load().drop(columns="meanings"), plain.drop(columns="meanings"))


def test_plain_pandas_reads_the_same_pictures(dataset, glyphs, pixels, tmp_path):
    dataset.save(glyphs)
    (path,) = tmp_path.glob("glyphs.*")
    table = read_plainly(path)
    assert table["image"][3] == {"bytes": b"P5\n4 4\n255\n" + pixels[3].tobytes(), "path": None}
    np.testing.assert_array_equal(decode_images(table), pixels)


def test_hugging_face_datasets_decodes_the_same_pictures(dataset, glyphs, pixels, tmp_path):
    dataset.save(glyphs)
    (path,) = tmp_path.glob("glyphs.*")
    table = datasets.load_dataset(
        path.suffix[1:], data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert isinstance(table.features["image"], datasets.Image)
    assert table[4321]["glyph_id"] == "glyph-4321"
    assert table[4321]["image"].mode == "L"
    shown = np.stack([np.asarray(picture) for picture in table[:100]["image"]])
    np.testing.assert_array_equal(shown, pixels[:100])


def test_opening_and_selecting_reads_no_picture(glyphs, pixels, tmp_path):
    large = np.kron(pixels, np.ones((1, 16, 16), dtype=np.uint8))
    dataset = TableDataset(filepath=str(tmp_path / "glyphs.arrow"))
    dataset.save(glyphs.assign(image=encode_images(large)))
    allocated = pa.total_allocated_bytes()
    loaded = dataset.load()
    chosen = loaded[loaded["grade"].notna()].set_index("glyph_id")
    assert pa.total_allocated_bytes() - allocated < large.nbytes / 20
    np.testing.assert_array_equal(decode_images(chosen), large[::2])


def test_pictures_of_a_file_go_to_another_process_by_its_path(glyphs, pixels, tmp_path):
    dataset = TableDataset(filepath=str(tmp_path / "glyphs.arrow"))
    dataset.save(glyphs)
    chosen = dataset.load().iloc[::-2]
    sent = pickle.dumps(open_images(chosen))
    assert len(sent) < 9 * len(chosen)
    np.testing.assert_array_equal(pickle.loads(sent)[:], pixels[::-2])
    # Joined with other pictures, they are sent themselves.
    joined = pickle.loads(pickle.dumps(pd.concat([chosen, glyphs.head(2)])))
    np.testing.assert_array_equal(decode_images(joined), np.concatenate([pixels[::-2], pixels[:2]]))
    (tmp_path / "glyphs.arrow").unlink()
    with pytest.raises(KanjiDiffusionError, match=r"arrow are not there: keep .* on storage that all machines share"):
        pickle.loads(sent)


def test_the_schema_says_that_it_holds_images(tmp_path, glyphs):
    TableDataset(filepath=str(tmp_path / "glyphs.parquet")).save(glyphs)
    schema = pq.read_schema(tmp_path / "glyphs.parquet")
    # What `datasets.Features.from_arrow_schema` compares: the metadata and the exact arrow type.
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features == {"image": {"_type": "Image"}}
    assert schema.field("image") == pa.field("image", pa.struct({"bytes": pa.binary(), "path": pa.string()}))


def test_rows_can_be_read_in_groups(tmp_path, glyphs):
    TableDataset(filepath=str(tmp_path / "glyphs.parquet")).save(glyphs)
    assert pq.ParquetFile(tmp_path / "glyphs.parquet").num_row_groups == 2
    TableDataset(filepath=str(tmp_path / "glyphs.arrow")).save(glyphs)
    assert pa.ipc.open_file(tmp_path / "glyphs.arrow").num_record_batches == 10


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


def test_a_table_of_text_is_read_by_others_and_shown(tmp_path):
    dataset = TableDataset(filepath=str(tmp_path / "glyphs.csv"))
    table = pd.DataFrame(
        {"character": ["海", "\ue000"], "word": ['a "null", b', "null"], "read": [1.0, np.nan], "points": [3, 40]}
    )
    dataset.save(table)
    pd.testing.assert_frame_equal(dataset.load(), table)
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "glyphs.csv")[["character", "points"]], table[["character", "points"]]
    )
    assert dataset.preview()["columns"] == list(table)
    assert dataset.preview()["data"][1] == ["\ue000", "null", None, 40]
