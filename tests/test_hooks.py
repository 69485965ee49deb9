import shutil
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from kedro.framework import project as kedro_project
from kedro.framework.session import KedroSession
from kedro.io import DataCatalog

from kanji_diffusion import hooks
from kanji_diffusion.core.errors import KanjiDiffusionError

GLYPHS = {"type": "kanji_diffusion.datasets.TableDataset", "versioned": True}


def only_run(store):
    (run,) = store.search_runs([mlflow.get_experiment_by_name("kanji-diffusion").experiment_id])
    return run


def datasets(run):
    """Name, version and use of each dataset that MLflow shows with the run."""
    return [(one.dataset.name, one.dataset.digest, one.tags[0].value) for one in run.inputs.dataset_inputs]


@pytest.fixture
def session(toy_project):
    def make(**options):
        return KedroSession.create(toy_project, **options)

    return make


def test_one_kedro_run_is_one_mlflow_run_with_flat_parameters(kedro_run, mlflow_store):
    long_note = "x" * 7000
    assert kedro_run(f"--params=stages.small.training.note={long_note}").exit_code == 0
    run = only_run(mlflow_store)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == f"__default__ {run.data.tags['run_id']}"
    assert run.data.params["stages.large.training.optimizer.learning_rate"] == "0.01"
    assert run.data.params["stages.small.training.steps"] == "2"
    assert run.data.params["stages.small.training.note"] == long_note[:6000]
    assert run.data.params["count"] == "3"
    assert run.data.metrics["small/loss"] == 0.5
    assert run.data.metrics["large/loss"] == pytest.approx(1 / 3)


def test_reports_and_lineage_are_kept_with_the_run(kedro_run, mlflow_store, toy_project):
    assert kedro_run("--pipeline=drawing").exit_code == 0
    (version,) = [path.name for path in (toy_project / "data/03_primary/glyphs.parquet").iterdir()]
    drawing = only_run(mlflow_store)
    assert drawing.data.tags["written.glyphs"] == version
    assert drawing.data.tags["runner"] == "SequentialRunner"
    assert datasets(drawing) == [("glyphs", version, "written")]
    assert kedro_run("--pipeline=training").exit_code == 0
    experiment = mlflow.get_experiment_by_name("kanji-diffusion").experiment_id
    training = mlflow_store.search_runs([experiment], order_by=["start_time DESC"])[0]
    assert training.data.tags["read.glyphs"] == version
    assert datasets(training) == [("glyphs", version, "read")]
    assert training.data.tags["written.small.report"] == training.data.tags["run_id"]
    assert training.data.metrics["small.report/brush _thick_"] == 0.5
    artifacts = {
        item.path
        for where in (None, "reports/small")
        for item in mlflow_store.list_artifacts(training.info.run_id, where)
    }
    assert {"environment.txt", "images", "reports/small/report.json"} <= artifacts


@pytest.mark.parametrize(
    ("trouble", "status"),
    [("mistake", "FAILED"), ("bug", "FAILED"), ("stop", "KILLED"), ("interrupt", "KILLED")],
)
def test_a_run_that_ends_early_says_so(kedro_run, mlflow_store, trouble, status):
    kedro_run(f"--params=stages.small.training.trouble={trouble}")
    run = only_run(mlflow_store)
    assert run.info.status == status
    assert mlflow.active_run() is None
    if trouble == "mistake":
        assert run.data.tags["error"] == "KanjiDiffusionError: The ink is dry: buy some."


def test_a_run_that_cannot_start_leaves_no_trace(kedro_run, mlflow_store):
    assert kedro_run("--pipeline=training").exit_code == 1
    experiment = mlflow.get_experiment_by_name("kanji-diffusion").experiment_id
    assert mlflow_store.search_runs([experiment]) == []


def test_nodes_in_threads_report_to_the_same_run(kedro_run, mlflow_store):
    assert kedro_run("--async").exit_code == 0
    assert only_run(mlflow_store).data.metrics["small/loss"] == 0.5


@pytest.mark.parametrize(
    ("pipeline", "name", "why"),
    [("drawing", "glyphs", "does not read but makes it"), ("drawing", "large.report", "does not read: leave it out")],
)
def test_a_version_of_what_is_not_read_is_refused(kedro_run, mlflow_store, pipeline, name, why):
    result = kedro_run(f"--pipeline={pipeline}", f"--load-versions={name}:2020-01-01T00.00.00.000Z")
    assert result.exit_code != 0
    assert f"`--load-versions` names a version of `{name}`, which this run {why}" in result.output
    experiment = mlflow.get_experiment_by_name("kanji-diffusion").experiment_id
    assert mlflow_store.search_runs([experiment]) == []


def test_only_missing_outputs_are_made(kedro_run, toy_project):
    assert kedro_run("--pipeline=drawing").exit_code == 0
    assert kedro_run("--only-missing-outputs").exit_code == 0
    assert len(list((toy_project / "data/03_primary/glyphs.parquet").iterdir())) == 1
    assert len(list((toy_project / "data/08_reporting/large/report.json").iterdir())) == 1


def test_stages_follow_environment_and_runtime_parameters(session, monkeypatch):
    assert hooks.configured_stages() == ("small", "large")
    monkeypatch.setenv("KEDRO_ENV", "test")
    assert hooks.configured_stages() == ("small",)
    monkeypatch.delenv("KEDRO_ENV")
    session(env="test").load_context()
    assert hooks.configured_stages() == ("small",)
    assert {node.name for node in kedro_project.pipelines["training"].nodes} == {"train_small"}
    session(runtime_params={"stages": {"small": None}}).load_context()
    assert hooks.configured_stages() == ("large",)
    assert {node.name for node in kedro_project.pipelines["training"].nodes} == {"train_large"}


def test_an_environment_changes_only_what_it_states(session):
    loader = session(env="test", runtime_params={"threads": 2}).load_context().config_loader
    assert loader["parameters"]["stages"]["small"]["training"] == {"steps": 2, "note": "quick"}
    assert (loader["parameters"]["count"], loader["parameters"]["threads"]) == (3, 2)


def test_the_configuration_is_read_once_and_every_asker_gets_a_copy(session, toy_project):
    loader = session().load_context().config_loader
    loader["parameters"]["count"] = "spoilt"
    path = toy_project / "conf/base/parameters.yml"
    path.write_text(path.read_text().replace("count: 3", "count: 4"))
    assert loader["parameters"]["count"] == 3
    assert session().load_context().config_loader["parameters"]["count"] == 4
    loader["parameters"] = {"count": 7}
    assert loader["parameters"] == {"count": 7}


def test_tracking_lies_in_the_project_whatever_the_working_directory(session, toy_project, monkeypatch, tmp_path):
    monkeypatch.chdir("/")
    context = session().load_context()
    assert context.mlflow.server.mlflow_tracking_uri == f"sqlite:///{toy_project}/mlflow.db"
    location = context.mlflow.tracking.experiment.create_experiment_kwargs.artifact_location
    assert location == (toy_project / "mlartifacts").as_uri()


@pytest.mark.parametrize("name", ["pct%20sp", "[v2]", "a?b#c", 'it\'s "q" & $HOME ', "漢字*"])
def test_the_folders_above_the_project_may_have_any_name(toy_project, empty_store, tmp_path_factory, monkeypatch, name):
    above = tmp_path_factory.mktemp("any")
    root = above / name / "kd"
    shutil.copytree(toy_project, root)
    shutil.copy(empty_store, root / "mlflow.db")
    monkeypatch.chdir(root / "conf")
    monkeypatch.setattr(hooks, "_context", None)
    assert hooks.configured_stages() == ("small", "large")
    for pipeline in ("drawing", "training"):
        with KedroSession.create() as session:
            session.run(pipeline_name=pipeline)
    store = mlflow.MlflowClient(mlflow.get_tracking_uri())
    (experiment,) = store.search_experiments(filter_string="name = 'kanji-diffusion'")
    training, _ = store.search_runs([experiment.experiment_id])
    (version,) = [path.name for path in (root / "data/03_primary/glyphs.parquet").iterdir()]
    assert training.data.tags["read.glyphs"] == version
    assert len(list((root / "mlartifacts").rglob("report.json"))) == 2
    # MLflow makes folders for addresses that it does not decode.
    assert [path.name for path in above.iterdir()] == [name]


def test_braces_above_the_project_are_refused(toy_project, tmp_path):
    root = tmp_path / "{v2}" / "kd"
    shutil.copytree(toy_project, root, ignore=shutil.ignore_patterns("{v2}"))
    with pytest.raises(KanjiDiffusionError, match=r"lies in .*/\{v2\}/kd, and Kedro's catalog reads braces"):
        KedroSession.create(root).load_context()


def test_a_database_that_cannot_be_used_is_told_at_once(session, toy_project):
    for damage in (lambda path: path.write_text("no database at all"), Path.mkdir):
        path = toy_project / "mlflow.db"
        path.unlink()
        damage(path)
        with pytest.raises(KanjiDiffusionError, match=f"MLflow's database {path} cannot be used"):
            session().load_context()


def test_a_tracking_server_is_one_setting(session, toy_project):
    shutil.copy(toy_project / "mlflow.db", toy_project / "other.db")
    (toy_project / "conf/local/globals.yml").write_text(f"tracking_uri: sqlite:///{toy_project}/other.db\n")
    context = session().load_context()
    assert context.mlflow.server.mlflow_tracking_uri == f"sqlite:///{toy_project}/other.db"
    assert hooks.local_artifacts("http://tracking.example") is None


def test_another_run_cannot_change_what_a_run_reads(tmp_path: Path):
    def catalog(version):
        entry = {**GLYPHS, "filepath": str(tmp_path / "glyphs.parquet")}
        return DataCatalog.from_config({"glyphs": entry}, save_version=version)

    early, late = catalog("2026-01-01T00.00.00.000Z"), catalog("2026-01-02T00.00.00.000Z")
    ours = hooks.ProjectHooks()
    ours._catalog = early
    late.save("glyphs", pd.DataFrame({"run": ["late"]}))
    ours.before_dataset_saved("glyphs")
    early.save("glyphs", pd.DataFrame({"run": ["early"]}))
    assert early.load("glyphs")["run"].tolist() == ["early"]

    reader = catalog("2026-01-03T00.00.00.000Z")
    assert hooks._pin("glyphs", reader) == "2026-01-02T00.00.00.000Z"
    catalog("2026-01-04T00.00.00.000Z").save("glyphs", pd.DataFrame({"run": ["later"]}))
    reader.release("glyphs")
    assert reader.load("glyphs")["run"].tolist() == ["late"]


def test_a_parameter_inside_a_model_that_is_not_in_the_files_can_be_set(kedro_run, mlflow_store):
    assert kedro_run("--params=stages.small.training.optimizer.learning_rate=0.5").exit_code == 0
    assert only_run(mlflow_store).data.params["stages.small.training.optimizer.learning_rate"] == "0.5"
