"""A checkpoint is whole or it is not used."""

import json
import pickle

import pytest
import torch

from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)


def state(step):
    return Checkpoint(step, {"module": {"weight": torch.full((4, 4), float(step))}}, {"skipped": step})


def test_what_is_saved_is_loaded(tmp_path):
    save_checkpoint(tmp_path, state(7))
    found = newest_checkpoint(tmp_path)
    assert found.step == 7
    assert found.counters == {"skipped": 7}
    assert torch.equal(found.tensors["module"]["weight"], torch.full((4, 4), 7.0))


def test_only_the_newest_are_kept(tmp_path):
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, state(step), keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000020", "step_00000030"]


@pytest.mark.parametrize("damage", ["truncate", "flip", "pickle", "manifest", "missing"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(tmp_path, caplog, damage):
    save_checkpoint(tmp_path, state(10))
    broken = save_checkpoint(tmp_path, state(20))
    weights = broken / "module.safetensors"
    content = bytearray(weights.read_bytes())
    if damage == "truncate":
        weights.write_bytes(content[:-5])
    elif damage == "flip":
        content[-1] ^= 1
        weights.write_bytes(content)
    elif damage == "pickle":
        weights.write_bytes(pickle.dumps({"weight": 1}))
    elif damage == "manifest":
        (broken / "manifest.json").write_text('{"step": 2')
    else:
        weights.unlink()
    assert newest_checkpoint(tmp_path).step == 10
    assert "step_00000020" in caplog.text


def test_a_manifest_that_climbs_out_of_its_folder_is_refused(tmp_path):
    folder = save_checkpoint(tmp_path / "run", state(1))
    (tmp_path / "x").write_bytes(b"elsewhere")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["../../x"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(KanjiDiffusionError, match="outside its folder"):
        load_checkpoint(folder)


def test_remains_of_a_killed_save_are_not_taken_for_a_checkpoint(tmp_path):
    save_checkpoint(tmp_path, state(10))
    remains = tmp_path / ".partial_step_00000020_1"
    remains.mkdir()
    (remains / "module.safetensors").write_bytes(b"half")
    assert newest_checkpoint(tmp_path).step == 10
    save_checkpoint(tmp_path, state(20))
    assert not remains.exists()


def test_a_save_that_fails_keeps_the_last_good_one_and_says_so(tmp_path):
    save_checkpoint(tmp_path, state(10))
    unwritable = Checkpoint(20, {"no/such/folder/module": {"weight": torch.ones(1)}})
    with pytest.raises(KanjiDiffusionError, match=r"step 20 could not be written.*last good one is step_00000010"):
        save_checkpoint(tmp_path, unwritable)
    assert newest_checkpoint(tmp_path).step == 10
