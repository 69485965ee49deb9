import mlflow
import pytest
from PIL import Image

from kanji_diffusion.tracking import reports
from kanji_diffusion.tracking.journal import Journal
from kanji_diffusion.tracking.reports import MlflowTracker


@pytest.fixture
def run_id(mlflow_store):
    return mlflow_store.create_run(mlflow.get_experiment_by_name("kanji-diffusion").experiment_id).info.run_id


@pytest.fixture
def journal(run_id, tmp_path):
    return Journal(run_id, tmp_path / "waiting.jsonl")


def test_metrics_have_their_steps_and_prefix(mlflow_store, run_id, journal):
    tracker = MlflowTracker(journal, "stage_32")
    for step in (10, 20):
        tracker.metrics({"loss": 1 / step, "loss/noisy": step}, step)
    history = mlflow_store.get_metric_history(run_id, "stage_32/loss")
    assert [(metric.step, metric.value) for metric in history] == [(10, 0.1), (20, 0.05)]
    assert mlflow_store.get_run(run_id).data.metrics["stage_32/loss/noisy"] == 20


def test_the_curves_that_are_asked_for_are_reported_under_their_names(mlflow_store, run_id, journal):
    curves = {r"(unet_.+|vae)/loss": r"1_loss/\1", r"(unet_.+)/(learning_rate)": r"\1/\2"}
    values = {"unet_32/loss": 1, "unet_32/learning_rate": 2, "unet_32/input_wait": 3, "clip/loss": 4, "old_vae/loss": 5}
    MlflowTracker(journal, curves=curves).metrics(values, 0)
    assert mlflow_store.get_run(run_id).data.metrics == {"1_loss/unet_32": 1, "unet_32/learning_rate": 2}


def test_a_name_that_mlflow_refuses_does_not_lose_the_others(mlflow_store, run_id, journal):
    MlflowTracker(journal).metrics({"read, top-1 (%)": 90, "loss": 1}, 0)
    assert mlflow_store.get_run(run_id).data.metrics == {"read_ top-1 ___": 90, "loss": 1}


def test_a_picture_is_shown_by_step(mlflow_store, run_id, journal):
    MlflowTracker(journal, "stage_32").image("sheet", Image.new("L", (8, 8), 7), 30)
    names = [artifact.path for artifact in mlflow_store.list_artifacts(run_id, "images")]
    (png,) = [name for name in names if name.endswith(".png")]
    assert png.startswith("images/stage_32~sheet+step+30+")
    path = mlflow_store.download_artifacts(run_id, png)
    assert Image.open(path).getpixel((0, 0)) == 7


def test_more_metrics_than_mlflow_takes_at_once_all_arrive(mlflow_store, run_id, journal):
    MlflowTracker(journal).metrics({f"loss_{i}": i for i in range(2100)}, 0)
    assert len(mlflow_store.get_run(run_id).data.metrics) == 2100


def test_parameters_are_flat_and_cut_to_what_mlflow_takes(mlflow_store, run_id, journal):
    reports.log_parameters(
        journal, {"unet": {"heads": 4, "widths": [8, 16], "note": "x" * 7000, "empty": {}}, "n:1": 2}
    )
    expected = {"unet.heads": "4", "unet.widths": "[8, 16]", "unet.note": "x" * 6000, "n_1": "2"}
    assert mlflow_store.get_run(run_id).data.params == expected


def test_more_parameters_than_mlflow_takes_at_once_all_arrive(mlflow_store, run_id, journal):
    reports.log_parameters(journal, {f"part_{i}": i for i in range(250)})
    assert len(mlflow_store.get_run(run_id).data.params) == 250


def test_a_parameter_that_has_changed_does_not_lose_the_others(mlflow_store, run_id, journal, caplog):
    reports.log_parameters(journal, {"steps": 10})
    reports.log_parameters(journal, {"steps": 20, "heads": 4})
    assert mlflow_store.get_run(run_id).data.params == {"steps": "10", "heads": "4"}
    assert len([record for record in caplog.records if "MLflow refuses a report of params" in record.message]) == 1


def test_the_finite_figures_that_are_asked_for_become_metrics(mlflow_store, run_id, journal):
    report = {"top": {"1": 0.5, "5": float("nan")}, "word": "水", "passed": True, "count": 80, "other": 1}
    names = {place: f"reading/{place}" for place in ("top.1", "top.5", "word", "passed", "count", "top.2", "word.1")}
    reports.log_figures(journal, names, report)
    assert mlflow_store.get_run(run_id).data.metrics == {"reading/top.1": 0.5, "reading/count": 80}


def test_a_version_of_a_table_is_a_dataset_of_the_run(mlflow_store, run_id, journal, tmp_path):
    reports.log_dataset(journal, "glyphs", "2026-01-01T00.00.00.000Z", tmp_path / "glyphs.arrow", "read")
    (used,) = mlflow_store.get_run(run_id).inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("glyphs", "2026-01-01T00.00.00.000Z")
    assert [tag.value for tag in used.tags] == ["read"]
    assert mlflow.data.get_source(used).uri == str(tmp_path / "glyphs.arrow")


def test_sheets_are_rows_of_one_table(mlflow_store, run_id, journal):
    for number, name in enumerate(("sample_sheet", "zero_shot_grid")):
        reports.log_sheet(journal, name, Image.new("L", (8, 8), 50 * number))
    table = mlflow_store.load_table(mlflow_store.get_run(run_id).info.experiment_id, "sheets.json", [run_id])
    assert table["sheet"].tolist() == ["sample_sheet", "zero_shot_grid"]
    path = mlflow_store.download_artifacts(run_id, table["picture"][1]["filepath"])
    assert Image.open(path).getpixel((0, 0)) == 50


def test_files_and_folders_become_artifacts(mlflow_store, run_id, journal, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    reports.log_artifact(journal, folder, "model")
    reports.log_artifact(journal, folder / "config.json", "report")
    artifacts = {item.path for where in ("model", "report") for item in mlflow_store.list_artifacts(run_id, where)}
    assert artifacts == {"model/config.json", "report/config.json"}


def test_an_artifact_that_is_gone_is_left_out(journal, tmp_path, caplog):
    reports.log_artifact(journal, tmp_path / "nothing", "report")
    assert f"MLflow refuses a report of artifact ({tmp_path}/nothing is gone): it is left out" in caplog.text
    assert journal.waiting == 0


def test_the_environment_names_packages_and_commit(tmp_path):
    assert "git.commit" not in reports.describe_environment(tmp_path)
    git = ["git", "-C", str(tmp_path)]
    reports.subprocess.run([*git, "init", "-q"], check=True)
    identity = ["-c", "user.name=n", "-c", "user.email=e"]
    reports.subprocess.run([*git, *identity, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    clean = reports.describe_environment(tmp_path)
    (tmp_path / "new").write_text("")
    dirty = reports.describe_environment(tmp_path)
    assert len(clean["git.commit"]) == 40
    assert (clean["git.dirty"], dirty["git.dirty"]) == ("False", "True")
    assert clean["version.mlflow"] == mlflow.__version__
