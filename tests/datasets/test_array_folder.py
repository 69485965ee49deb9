import numpy as np
import pytest
from kedro.io import DatasetError

from kanji_diffusion.datasets import ArrayFolderDataset


@pytest.fixture
def dataset(tmp_path):
    return ArrayFolderDataset(filepath=str(tmp_path / "latents"))


def test_arrays_come_back_mapped_and_read_only(dataset):
    arrays = {
        "latents": np.arange(24, dtype=np.float16).reshape(2, 3, 4),
        "index": np.array([1, 2]),
        "none": np.zeros((0, 4), dtype=np.float32),
        "names": np.array(["水", "火"]),
    }
    dataset.save(arrays)
    loaded = dataset.load()
    assert set(loaded) == set(arrays)
    for name, array in arrays.items():
        assert isinstance(loaded[name], np.memmap)
        assert loaded[name].dtype == array.dtype
        assert np.array_equal(loaded[name], array)
    with pytest.raises(ValueError, match="read-only"):
        loaded["latents"][0] = 0


@pytest.mark.parametrize("name", ["../escaped", "a/b", "", "/tmp/x"])
def test_a_name_that_leaves_the_folder_is_refused(dataset, tmp_path, name):
    with pytest.raises(DatasetError, match="An array cannot be named"):
        dataset.save({name: np.zeros(1)})
    assert list(tmp_path.iterdir()) == []


def test_objects_are_refused(dataset):
    with pytest.raises(DatasetError, match="The array `words` holds Python objects"):
        dataset.save({"words": np.array(["a", None], dtype=object)})


def test_a_pickle_is_not_read(dataset, tmp_path):
    (tmp_path / "latents").mkdir()
    np.save(tmp_path / "latents" / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DatasetError):
        dataset.load()
