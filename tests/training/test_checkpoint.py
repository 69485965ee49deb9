"""A checkpoint is whole or it is not used."""

import json
import pickle
import re
import resource
import shutil

import pytest
import torch

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.files import file_sha256
from kanji_diffusion.training import checkpoint
from kanji_diffusion.training.checkpoint import Checkpoint, load_checkpoint, newest_checkpoint, save_checkpoint


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


@pytest.mark.parametrize("damage", ["truncate", "flip", "pickle"])
def test_a_damaged_file_is_refused_by_name(tmp_path, damage):
    folder = save_checkpoint(tmp_path, state(10))
    weights = folder / "module.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= damage == "flip"
    weights.write_bytes(
        pickle.dumps({"weight": 1}) if damage == "pickle" else content[: -5 if damage == "truncate" else None]
    )
    with pytest.raises(KanjiDiffusionError, match=re.escape(f"{weights} differs from its manifest's SHA-256.")):
        load_checkpoint(folder)


@pytest.mark.parametrize("damage", ["truncate", "pickle"])
def test_what_is_no_safetensors_file_is_refused_even_if_the_manifest_vouches_for_it(tmp_path, damage):
    folder = save_checkpoint(tmp_path, state(10))
    weights = folder / "module.safetensors"
    weights.write_bytes(pickle.dumps({"weight": 1}) if damage == "pickle" else weights.read_bytes()[:-5])
    edit(folder, lambda manifest: manifest["sha256"].update({weights.name: file_sha256(weights)}))
    with pytest.raises(KanjiDiffusionError, match=rf"{re.escape(str(weights))} is no safetensors file \(.*\)\.$"):
        load_checkpoint(folder)


def edit(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "name", ["../x", "../step_00000001/module.safetensors", "/etc/hostname", "./module.safetensors"]
)
def test_a_manifest_that_names_a_file_outside_its_folder_is_refused(tmp_path, name):
    folder = save_checkpoint(tmp_path, state(1))
    (tmp_path / "x").write_bytes(b"elsewhere")
    edit(folder, lambda manifest: manifest["sha256"].update({name: "0" * 64}))
    with pytest.raises(KanjiDiffusionError, match=rf"{folder.name} names '{name}', which lies outside its folder\.$"):
        load_checkpoint(folder)


def test_a_link_in_place_of_a_file_is_refused(tmp_path):
    folder = save_checkpoint(tmp_path, state(1))
    weights = folder / "module.safetensors"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KanjiDiffusionError, match=r"names 'module.safetensors', which lies outside its folder\.$"):
        load_checkpoint(folder)


def test_a_folder_in_place_of_a_file_is_refused(tmp_path):
    folder = save_checkpoint(tmp_path, state(1))
    (folder / "module.safetensors").unlink()
    (folder / "module.safetensors").mkdir()
    with pytest.raises(KanjiDiffusionError, match=r"cannot be read \(.*[Ii]s a directory.*\)\.$"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ('{"step": 1, "step": 1, "counters": {}, "sha256": {}}', "names something twice"),
        ('{"step": 99999999, "counters": {}, "sha256": {}}', "is of step 99999999"),
        ('{"step": "1", "counters": {}, "sha256": {}}', "cannot be read"),
        ('{"step": 1, "counters": {}, "sha256": {}}', "lacks module"),
        ('{"step": 1, "counters": {"skipped": "many"}, "sha256": {"module.safetensors": "SHA"}}', "many"),
        (
            '{"step": 1, "counters": {}, "sha256": {"manifest.json": "SHA", "module.safetensors": "SHA"}}',
            "no safetensors",
        ),
        ('{"step": 1, "counters": {}, "sha256": ["module.safetensors"]}', "cannot be read"),
        ("[]", "cannot be read"),
        ("", "cannot be read"),
        ("\x00\ud800", "cannot be read"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused_in_a_sentence(tmp_path, manifest, reason):
    folder = save_checkpoint(tmp_path, state(1))
    text = manifest.replace("SHA", file_sha256(folder / "module.safetensors"))
    (folder / "manifest.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(KanjiDiffusionError, match=rf"^The checkpoint .*{reason}.*\.$"):
        load_checkpoint(folder, {"module"})


def test_damage_that_calls_itself_newer_costs_no_good_checkpoint(tmp_path):
    broken = save_checkpoint(tmp_path, state(99))
    (broken / "manifest.json").unlink()
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, state(step), keep=1)
    assert newest_checkpoint(tmp_path).step == 30
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step_00000030", "step_00000099"]
    shutil.rmtree(tmp_path / "step_00000030")
    assert newest_checkpoint(tmp_path) is None


def test_remains_of_a_killed_save_are_not_taken_for_a_checkpoint(tmp_path):
    save_checkpoint(tmp_path, state(10))
    remains = tmp_path / ".partial_step_00000020_1"
    remains.mkdir()
    (remains / "module.safetensors").write_bytes(b"half")
    assert newest_checkpoint(tmp_path).step == 10
    save_checkpoint(tmp_path, state(20))
    assert not remains.exists()


def test_a_step_that_another_process_has_saved_is_kept(tmp_path):
    theirs = save_checkpoint(tmp_path, state(10)) / "module.safetensors"
    made = theirs.stat().st_ino
    save_checkpoint(tmp_path, state(10))
    assert theirs.stat().st_ino == made
    (theirs.parent / "manifest.json").unlink()
    save_checkpoint(tmp_path, state(10))
    assert newest_checkpoint(tmp_path).step == 10


def test_one_that_another_process_saves_meanwhile_counts(tmp_path, monkeypatch):
    write = checkpoint._write

    def overtaken(given, folder):
        write(given, folder)
        monkeypatch.setattr(checkpoint, "_write", write)
        save_checkpoint(tmp_path, given)

    monkeypatch.setattr(checkpoint, "_write", overtaken)
    save_checkpoint(tmp_path, state(10))
    assert newest_checkpoint(tmp_path).step == 10
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000010"]


def test_one_that_another_process_removes_meanwhile_is_not_called_damaged(tmp_path, monkeypatch, caplog):
    save_checkpoint(tmp_path, state(10))
    load = checkpoint.load_checkpoint

    def overtaken(folder, groups=()):
        if folder.name == "step_00000010":
            save_checkpoint(tmp_path, state(20), keep=1)
        return load(folder, groups)

    monkeypatch.setattr(checkpoint, "load_checkpoint", overtaken)
    assert newest_checkpoint(tmp_path).step == 20
    assert caplog.records == []


def test_a_save_that_fails_keeps_the_last_good_one_and_says_so(tmp_path):
    save_checkpoint(tmp_path, state(10))
    unwritable = Checkpoint(20, {"no/such/folder/module": {"weight": torch.ones(1)}})
    with pytest.raises(KanjiDiffusionError, match=r"step 20 could not be written.*last good one is step_00000010"):
        save_checkpoint(tmp_path, unwritable)
    assert newest_checkpoint(tmp_path).step == 10


def test_a_disk_that_fills_up_during_a_save_keeps_the_last_good_one_and_says_so(tmp_path):
    save_checkpoint(tmp_path, state(10))
    large = Checkpoint(20, {"module": {"weight": torch.zeros(1_000_000)}})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    try:
        with pytest.raises(KanjiDiffusionError) as told:
            save_checkpoint(tmp_path, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert re.fullmatch(
        r"The checkpoint of step 20 could not be written to \S+ \(.*File too large.*\); the last good one is "
        r"step_00000010: make room or grant write permission and run the same command again to continue\.",
        str(told.value),
    )
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000010"]
    assert newest_checkpoint(tmp_path).step == 10


def test_a_folder_that_cannot_be_written_is_told_in_a_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        KanjiDiffusionError, match=r"could not be written to .*/file/run \(.*\); there is none before it: .*\.$"
    ):
        save_checkpoint(tmp_path / "file" / "run", state(1))
