import os
import resource
import signal

import pytest
from kedro.io import DatasetError, Version

from kanji_diffusion.datasets import ArrayFolderDataset, ReportDataset
from kanji_diffusion.datasets.local import atomic_path


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


def test_a_full_disk_is_one_sentence_and_leaves_nothing_behind(tmp_path, report):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(DatasetError) as told:
            report.save({"long": "x" * 10_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    target = tmp_path / "report.json/v1/report.json"
    expected = f"{target} cannot be written (File too large): correct that and run the same command again."
    assert str(told.value) == expected
    assert files_in(tmp_path) == []


def test_a_killed_writer_leaves_no_version(tmp_path):
    writer = os.fork()
    if writer == 0:
        with atomic_path(tmp_path / "latents" / "v1" / "latents") as path:
            path.mkdir()
            (path / "train.npy").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(writer, 0)[1]) == -signal.SIGKILL
    assert files_in(tmp_path)
    dataset = ArrayFolderDataset(filepath=str(tmp_path / "latents"), version=Version(None, None))
    assert not dataset.exists()


def test_a_folder_appears_complete_or_not_at_all(tmp_path):
    target = tmp_path / "model"
    with atomic_path(target) as path:
        path.mkdir()
        (path / "part").mkdir()
        (path / "part" / "weights").write_text("w")
        assert not target.exists()
    assert files_in(tmp_path) == ["model/part/weights"]


def test_an_address_is_refused():
    with pytest.raises(DatasetError, match=r"s3://bucket/report\.json is not a local path"):
        ReportDataset(filepath="s3://bucket/report.json")


def test_what_is_missing_is_named(tmp_path):
    dataset = ReportDataset(filepath=str(tmp_path / "report.json"), version=Version("v9", None))
    with pytest.raises(DatasetError, match=r"report.json/v9/report.json does not exist\.$"):
        dataset.load()
