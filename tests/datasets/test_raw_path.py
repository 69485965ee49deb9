import pytest
from kedro.io import DatasetError

from kanji_diffusion.datasets import RawPathDataset


def test_what_is_there_is_a_path(raw_data):
    dataset = RawPathDataset(filepath=str(raw_data / "fonts"), remedy="run `make data`")
    assert dataset.exists()
    assert dataset.load() == raw_data / "fonts"


def test_what_is_missing_is_told_with_its_remedy(tmp_path):
    dataset = RawPathDataset(filepath=str(tmp_path / "fonts"), remedy="run `make data`")
    assert not dataset.exists()
    with pytest.raises(DatasetError) as told:
        dataset.load()
    assert str(told.value) == f"{tmp_path}/fonts does not exist: run `make data`."


def test_raw_data_is_never_written(tmp_path):
    dataset = RawPathDataset(filepath=str(tmp_path / "fonts"), remedy="run `make data`")
    with pytest.raises(DatasetError, match="raw data, which no node may write"):
        dataset.save("anything")
