"""Old versions go, and nothing that is needed."""

import os
import shutil
import time

import click.testing
import numpy as np
import pytest
import torch
from kedro.framework.session import KedroSession
from kedro.io import Version

from kanji_diffusion import cli, prune
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.datasets import PictureFolderDataset, ReportDataset
from kanji_diffusion.sampling.lineage import Lineage, describe_environment
from kanji_diffusion.sampling.sampler import DrawingSettings
from kanji_diffusion.training.checkpoint import Checkpoint, save_checkpoint

VERSIONS = [f"2026-01-0{day}T00.00.00.000Z" for day in range(1, 6)]
OLDEST = VERSIONS[0]
REPORTS = ("glyphs", "text_to_kanji", "samples", "vae", "vae_gate", "requests")
CATALOG = """
checkpoints: {type: kanji_diffusion.datasets.WorkFolderDataset, filepath: data/06_models/checkpoints}
generated: {type: kanji_diffusion.datasets.PictureFolderDataset, filepath: data/generated, versioned: true}
"""
ENTRY = "{0}: {{type: kanji_diffusion.datasets.ReportDataset, filepath: data/{0}, versioned: true}}\n"


def store(folder, version):
    ReportDataset(filepath=str(folder), version=Version(None, version)).save({"version": version})


def train(folder, step, **counters):
    checkpoint = Checkpoint(step, {"module": {"weight": torch.full((8, 8), float(step))}}, counters)
    return save_checkpoint(folder, checkpoint)


@pytest.fixture
def project(toy_project):
    """A project with five versions of some datasets, of which one belongs to a stage of the past."""
    catalog = toy_project / "conf/base/catalog.yml"
    text = catalog.read_text().replace("\nglyphs:", "\n_glyphs:")
    catalog.write_text(text + CATALOG + "".join(map(ENTRY.format, REPORTS)))
    for version in VERSIONS:
        for name in (*REPORTS, "08_reporting/huge/report.json"):
            store(toy_project / "data" / name, version)
    return toy_project


def survey(keep=2):
    return prune.survey(KedroSession.create().load_context(), keep)


def reasons(keep=2):
    """(name, version or training) -> why it stays."""
    return {(each.name, each.folder.name): each.why for each in survey(keep)}


def told(function):
    with pytest.raises(KanjiDiffusionError) as error:
        function()
    return str(error.value)


def versions(project, name):
    return ReportDataset(filepath=str(project / "data" / name), version=Version(None, None)).list_versions(False)


def test_the_newest_stay_and_what_generate_drew(project):
    why = reasons(keep=2)
    for name in ("glyphs", "text_to_kanji", "huge.report"):
        assert [why[name, version] for version in VERSIONS] == ["", "", "", "among the newest", "among the newest"]
    assert all(why["requests", version] for version in VERSIONS)


def in_the_configuration(project, store):
    (project / "conf/test/parameters.yml").write_text(f"unet: {{start: 'glyphs:{OLDEST}'}}\n")


def in_a_picture(project, store):
    settings = DrawingSettings(sampler="euler")
    lineage = Lineage(
        model_version=OLDEST, model_fingerprint="0", word="water", style="brush", prompt="water", negative_prompt="",
        seed=0, sampling=settings, environment=describe_environment(torch.device("cpu")),
    )  # fmt: skip
    pictures = PictureFolderDataset(filepath=str(project / "data/generated"), version=Version(None, VERSIONS[1]))
    pictures.save({"0000_water": lineage.embed(np.zeros((8, 8), np.uint8))})


def run_with(store, tags, params=None, start=None):
    run = store.create_run(store.get_experiment_by_name("kanji-diffusion").experiment_id, start)
    for key, value in tags.items():
        store.set_tag(run.info.run_id, key, value)
    for key, value in (params or {}).items():
        store.log_param(run.info.run_id, key, value)
    return run.info.run_id


def in_the_registry(project, store):
    run_id = run_with(store, {"read.text_to_kanji": OLDEST, "written.samples": OLDEST, "written.glyphs": OLDEST})
    store.set_terminated(run_id)
    store.create_registered_model("kanji-diffusion")
    store.create_model_version("kanji-diffusion", f"{store.get_run(run_id).info.artifact_uri}/model", run_id)


def in_a_run_that_goes_on(project, store):
    run_with(store, {"read.glyphs": OLDEST, "written.samples": OLDEST})


def in_a_stopped_training(project, store):
    run_id = run_with(store, {"read.glyphs": OLDEST, "written.samples": OLDEST}, {"unet.start": f"vae:{OLDEST}"})
    store.set_terminated(run_id, "KILLED")
    train(project / "data/06_models/checkpoints/unet/one", 3, steps=4)


def in_a_pair(project, store):
    for version in VERSIONS[1:]:
        folder = project / "data/vae_gate" / version
        (folder / "vae_gate").unlink()
        folder.rmdir()


@pytest.mark.parametrize(
    ("named", "stay"),
    [
        (in_the_configuration, {"glyphs", "text_to_kanji", "samples", "vae"}),
        (in_a_picture, {"text_to_kanji"}),
        (in_the_registry, {"text_to_kanji", "samples"}),
        (in_a_run_that_goes_on, {"glyphs", "samples"}),
        (in_a_stopped_training, {"glyphs", "vae", "text_to_kanji", "samples"}),
        (in_a_pair, {"vae", "vae_gate"}),
    ],
)
def test_what_is_needed_stays(project, mlflow_store, named, stay):
    named(project, mlflow_store)
    why = reasons()
    assert stay <= {name for name, version in why if version == OLDEST and why[name, version]}
    if named in (in_a_picture, in_the_registry, in_a_run_that_goes_on):
        assert {name for name in REPORTS if why[name, OLDEST]} == {*stay, "requests"}
    assert not why["glyphs", VERSIONS[2]]


def test_an_adapted_model_that_drew_a_picture_stays(project, mlflow_store):
    catalog = project / "conf/base/catalog.yml"
    catalog.write_text(catalog.read_text() + ENTRY.format("adapted_model"))
    for version in VERSIONS:
        store(project / "data/adapted_model", version)
    assert not reasons()["adapted_model", OLDEST]
    in_a_picture(project, mlflow_store)
    assert reasons()["adapted_model", OLDEST] == "drew a picture"


def test_a_run_that_was_stopped_needs_nothing_once_no_training_is_open(project, mlflow_store):
    in_a_stopped_training(project, mlflow_store)
    train(project / "data/06_models/checkpoints/unet/one", 4, steps=4)
    assert not reasons()["glyphs", OLDEST]


def used(trainings, *hours_ago, **counters):
    """Trainings that were last used some hours ago, from that on called by the hours."""
    for hours in hours_ago:
        train(trainings / str(hours), 4, **counters)
        os.utime(trainings / str(hours), (time.time() - 3600 * hours,) * 2)


def test_finished_trainings_go_but_those_used_last(project):
    trainings = project / "data/06_models/checkpoints/unet"
    used(trainings, 9, 3, 5, 7, steps=4)
    used(trainings.with_name("vae"), 8, 10, steps=4)
    prune.remove(survey(keep=2))
    assert {path.name for path in trainings.iterdir()} == {"3", "5"}
    assert {path.name for path in trainings.with_name("vae").iterdir()} == {"8", "10"}


def test_what_continues_a_stopped_training_stays(project, mlflow_store):
    trainings = project / "data/06_models/checkpoints/unet"
    used(trainings, 1, 2, 5, 8, steps=4)
    used(trainings, 4, steps=9)
    assert str(trainings / "4") in told(survey)
    stopped = run_with(mlflow_store, {}, start=round(1000 * (time.time() - 3600 * 6)))
    mlflow_store.set_terminated(stopped, "KILLED", round(1000 * (time.time() - 3600 * 3)))
    prune.remove(survey(keep=1))
    assert {path.name for path in trainings.iterdir()} == {"1", "2", "5", "4"}
    shutil.rmtree(trainings / "4")
    used(trainings, 4, steps=4)
    prune.remove(survey(keep=1))
    assert {path.name for path in trainings.iterdir()} == {"1"}


def test_what_mlflow_was_not_told_yet_is_sent_first(project):
    waiting = project / "data/09_tracking/0123-4567.jsonl"
    waiting.parent.mkdir()
    waiting.write_text("{}\n")
    assert f"Reports of runs wait in {waiting.parent}" in told(survey)


@pytest.mark.parametrize(("status", "stays"), [("FINISHED", False), ("KILLED", True)])
def test_what_a_checkpoint_does_not_say_its_run_says(project, mlflow_store, status, stays):
    trainings = project / "data/06_models/checkpoints/unet"
    used(trainings, 1, steps=4)
    used(trainings, 4)
    run = run_with(mlflow_store, {}, start=round(1000 * (time.time() - 3600 * 6)))
    mlflow_store.set_terminated(run, status, round(1000 * (time.time() - 3600 * 3)))
    assert bool(reasons(keep=1)["checkpoints of unet", "4"]) == stays


def test_nothing_goes_unless_told_to(project):
    call = click.testing.CliRunner().invoke
    shown = call(cli.cli, ["prune", "--keep=4"])
    assert shown.exit_code == 0, shown.output
    assert "glyphs" in shown.stdout
    assert shown.stdout.splitlines()[-1].startswith("Nothing was removed")
    assert versions(project, "glyphs") == VERSIONS[::-1]
    done = call(cli.cli, ["prune", "--keep=4", "--yes"])
    assert done.exit_code == 0, done.output
    assert versions(project, "glyphs") == versions(project, "08_reporting/huge/report.json") == VERSIONS[:0:-1]
    assert versions(project, "requests") == VERSIONS[::-1]
    assert not (project / "data/glyphs" / OLDEST).exists()
    again = call(cli.cli, ["prune", "--keep=4", "--yes"])
    assert again.stdout.startswith("There is nothing to remove.")
    assert call(cli.cli, ["prune", "--keep=0"]).exit_code == 2


def test_what_was_half_removed_counts_no_more_and_goes_the_next_time(project, monkeypatch):
    training = project / "data/06_models/checkpoints/unet/one"
    for name in ("one", "two"):
        train(training.with_name(name), 4, steps=4)
    os.utime(training, (0, 0))
    killed = os.fork()
    if not killed:
        # Dies with the first file of what it removes.
        monkeypatch.setattr(os, "unlink", lambda *given, **options: os._exit(9))
        prune.remove(each for each in survey(keep=1) if each.name.startswith("checkpoints"))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(killed, 0)[1]) == 9
    killed = os.fork()
    if not killed:
        monkeypatch.setattr(os, "unlink", lambda *given, **options: os._exit(9))
        prune.remove(survey(keep=4))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(killed, 0)[1]) == 9
    assert not training.exists()
    halves = list((project / "data").rglob(".pruned.*"))
    assert {path.name for path in halves} == {".pruned.one", ".pruned.glyphs"}
    assert versions(project, "glyphs") == VERSIONS[:0:-1]
    prune.remove(survey(keep=5))
    assert not any(path.exists() for path in halves)
    assert not (project / "data/glyphs" / OLDEST).exists()
    assert versions(project, "glyphs") == VERSIONS[:0:-1]


def test_what_cannot_be_removed_is_told(project, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(prune, "sync", refuse)
    with pytest.raises(KanjiDiffusionError, match=rf"data/glyphs/{OLDEST} cannot be removed \(Permission denied\)"):
        prune.remove(survey(keep=4))
