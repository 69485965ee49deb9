import os
import re
import resource
import signal
from functools import partial

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from kedro.io import DatasetError, Version
from PIL import Image
from safetensors.torch import save_file

from kanji_diffusion.datasets import (
    ArrayFolderDataset,
    ImageSheetDataset,
    ModelFolderDataset,
    PictureFolderDataset,
    ReportDataset,
    TableDataset,
)

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (100, 100), dtype=np.uint8))


class Weights:
    """Saved as models are, with an error of another kind when that fails."""

    def save_pretrained(self, folder):
        folder.mkdir()
        save_file({"weight": torch.ones(10_000)}, folder / "model.safetensors")


@pytest.fixture
def report(tmp_path):
    return ReportDataset(filepath=str(tmp_path / "report.json"), version=Version(None, "v1"))


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_each_version_stays_in_place(tmp_path):
    for version in ("v1", "v2"):
        dataset = ReportDataset(filepath=str(tmp_path / "report.json"), version=Version(None, version))
        dataset.save({"version": version})
    assert files_in(tmp_path) == ["report.json/v1/report.json", "report.json/v2/report.json"]
    assert dataset.load() == {"version": "v2"}
    old = ReportDataset(filepath=str(tmp_path / "report.json"), version=Version("v1", None))
    assert old.load() == {"version": "v1"}


def test_a_folder_may_be_named_like_a_pattern(tmp_path):
    for version in ("v1", "v2"):
        dataset = ReportDataset(filepath=str(tmp_path / "[v]*?" / "report.json"), version=Version(None, version))
        dataset.save({"version": version})
    newest = ReportDataset(filepath=str(tmp_path / "[v]*?" / "report.json"), version=Version(None, None))
    assert newest.list_versions(full_path=False) == ["v2", "v1"]
    assert newest.load() == {"version": "v2"}


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path, report):
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"report.json/v1 cannot be written \(File exists\)"):
        report.save({"first": 1})
    assert files_in(tmp_path) == ["report.json"]


def test_a_version_is_never_overwritten(report):
    report.save({"first": 1})
    with pytest.raises(DatasetError, match="must not exist"):
        report.save({"second": 2})
    assert report.load() == {"first": 1}


def test_a_failure_leaves_nothing_behind(tmp_path, report):
    with pytest.raises(DatasetError):
        report.save({"unwritable": object()})
    assert files_in(tmp_path) == []
    assert not report.exists()


@pytest.mark.parametrize(
    ("dataset", "data"),
    [
        (ReportDataset, {"long": "x" * 10_000}),
        (ArrayFolderDataset, {"latents": np.ones(10_000)}),
        (ImageSheetDataset, NOISE),
        (PictureFolderDataset, {"first": NOISE, "second": NOISE}),
        (TableDataset, pd.DataFrame({"number": np.random.default_rng(0).random(10_000)})),
        (partial(ModelFolderDataset, class_path="torch.nn.Linear"), Weights()),
    ],
    ids=["report", "arrays", "sheet", "pictures", "table", "model"],
)
def test_a_disk_that_fills_up_is_one_sentence_and_leaves_nothing_behind(tmp_path, dataset, data):
    dataset = dataset(filepath=str(tmp_path / "made"), version=Version(None, "v1"))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(DatasetError) as told:
            dataset.save(data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    target = tmp_path / "made/v1"
    expected = f"{target} cannot be written (File too large): correct that and run the same command again."
    assert str(told.value) == expected
    assert list(target.parent.iterdir()) == []
    assert not dataset.exists()
    dataset.save(data)
    assert dataset.exists()


def test_a_killed_writer_leaves_no_version(tmp_path):
    filepath = str(tmp_path / "latents")
    writer = os.fork()
    if writer == 0:
        dataset = ArrayFolderDataset(filepath=filepath, version=Version(None, "v1"))
        dataset._write = lambda data, path: (path.mkdir(), os.kill(os.getpid(), signal.SIGKILL))
        dataset.save({})
    assert os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]) == -signal.SIGKILL
    assert list((tmp_path / "latents").iterdir())
    dataset = ArrayFolderDataset(filepath=filepath, version=Version(None, "v2"))
    assert not dataset.exists()
    dataset.save({"train": np.ones(3)})
    assert files_in(tmp_path) == ["latents/v2/latents/train.npy"]
    assert [path.name for path in (tmp_path / "latents").iterdir()] == ["v2"]


def test_a_version_without_content_is_not_the_newest(tmp_path, report):
    report.save({"first": 1})
    (tmp_path / "report.json" / "v2").mkdir()
    newest = ReportDataset(filepath=str(tmp_path / "report.json"), version=Version(None, None))
    assert newest.resolve_load_version() == "v1"
    assert newest.load() == {"first": 1}


def test_what_would_not_be_the_newest_version_is_not_begun(kedro_run, mlflow_store, toy_project):
    later = toy_project / "data/03_primary/glyphs.parquet/2222-01-01T00.00.00.000Z/glyphs.parquet"
    later.parent.mkdir(parents=True)
    later.touch()
    refused = kedro_run("--pipeline=drawing")
    assert refused.exit_code == 1
    sentence = (
        r"Error: `glyphs` has the version 2222-01-01T00\.00\.00\.000Z, and it is 20\S+Z now: set the clock of this "
        r"machine right or move that version out of \S+/glyphs\.parquet, since it would be read in place of what"
    )
    assert re.search(sentence, refused.output)
    assert mlflow_store.search_runs([mlflow.get_experiment_by_name("kanji-diffusion").experiment_id]) == []
    later.parent.rename(toy_project / "elsewhere")
    assert kedro_run("--pipeline=drawing").exit_code == 0


def test_a_run_that_could_not_save_is_not_begun(kedro_run, toy_project):
    # As a folder that is read-only, but so for every user.
    (toy_project / "data" / "03_primary").touch()
    refused = kedro_run("--pipeline=drawing")
    assert refused.exit_code == 1
    assert re.search(
        r"Error: \S+/data/03_primary/\S+ cannot be written \(Not a directory\): correct that", refused.output
    )
    assert "Running node" not in refused.output


def test_an_address_is_refused():
    with pytest.raises(DatasetError, match=r"s3://bucket/report\.json is not a local path"):
        ReportDataset(filepath="s3://bucket/report.json")


def test_what_is_missing_is_named(tmp_path):
    dataset = ReportDataset(filepath=str(tmp_path / "report.json"), version=Version("v9", None))
    with pytest.raises(DatasetError, match=r"report.json/v9/report.json does not exist\.$"):
        dataset.load()
