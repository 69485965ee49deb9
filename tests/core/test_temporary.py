"""Arrays in temporary files."""

import os
import resource
import tempfile
from pathlib import Path

import numpy as np
import pytest

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.temporary import TemporaryArray


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder that TMPDIR names."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def mapped_files():
    return Path("/proc/self/maps").read_text()


def test_rows_come_back_from_a_file_that_has_no_name(folder):
    rows = np.arange(60, dtype=np.float32).reshape(10, 2, 3)
    stored = TemporaryArray((2, 3), np.float32)
    assert stored.read().shape == (0, 2, 3)
    stored.append(rows[::2])
    stored.append(rows[:3])
    mapped = stored.read()
    del stored
    np.testing.assert_array_equal(mapped, np.concatenate([rows[::2], rows[:3]]))
    assert not mapped.flags.writeable
    assert not list(folder.iterdir())
    assert f" {folder}/" in mapped_files()


def test_a_folder_without_room_is_named(folder):
    stored = TemporaryArray((1000,), np.uint8)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(KanjiDiffusionError, match=rf"in {folder} cannot be written \(File too large\): .* TMPDIR"):
            stored.append(np.zeros((3, 1000), np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_large_files_lie_outside_of_tmp_unless_a_folder_is_named(monkeypatch):
    monkeypatch.delenv("TMPDIR")
    stored = TemporaryArray((1,), np.uint8)
    stored.append(np.ones((1, 1), np.uint8))
    mapped = stored.read()
    assert mapped.tolist() == [[1]]
    assert (" /var/tmp/" in mapped_files()) == os.access("/var/tmp", os.W_OK)
