"""A store that cannot be used is told at the start, and a new one is made by one process."""

import multiprocessing
import re
import shutil
import socket
import sqlite3
from contextlib import closing

import mlflow
import pytest

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.tracking import store


@pytest.fixture(autouse=True)
def _a_second_is_enough(monkeypatch):
    monkeypatch.setattr(store, "SECONDS_TO_ANSWER", 1)


@pytest.fixture
def told(kedro_run, toy_project):
    """Runs the toy project with this `tracking_uri` and gives the only line of the error."""

    def run(tracking_uri=None):
        if tracking_uri:
            (toy_project / "conf/local/globals.yml").write_text(f"tracking_uri: {tracking_uri}\n")
        done = kedro_run()
        assert done.exit_code == 1
        assert not (toy_project / "data/03_primary").exists()
        assert not list(toy_project.glob("mlflow.db.new"))
        (line,) = done.stderr.splitlines()
        return line

    return run


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def test_a_server_that_is_not_there(told):
    address = f"http://127.0.0.1:{free_port()}"
    assert told(address) == (
        f"Error: MLflow's tracking store at {address} cannot be used (connection refused): start its server, or change "
        "`tracking_uri` in the globals.yml of conf/base or of the environment."
    )


def test_a_server_that_never_answers(told):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "cannot be used (no answer in time): start its server" in told(
            f"http://127.0.0.1:{silent.getsockname()[1]}"
        )


def test_no_password_is_told(told):
    line = told(f"http://me:secret@127.0.0.1:{free_port()}")
    assert "http://***@127.0.0.1" in line
    assert "secret" not in line


def test_a_locked_database(told, toy_project):
    with closing(sqlite3.connect(toy_project / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert told().startswith(
            f"Error: MLflow's database {toy_project}/mlflow.db cannot be used (database is locked): end the program "
            "that holds it, or wait for it, or set another `tracking_uri` in "
        )


def test_a_damaged_database(told, toy_project):
    (toy_project / "mlflow.db").write_bytes(b"no database" * 1000)
    assert "(file is not a database): move the file away, and the next run makes a new one" in told()


@pytest.mark.parametrize(
    ("revision", "sentence"),
    [
        ("f" * 12, "but of a newer one.: install the MLflow that it was made with"),
        (
            "451aebb31d03",
            "its schema is not that of MLflow [0-9.]+.: run `mlflow db upgrade sqlite:////.*` after a backup",
        ),
    ],
)
def test_a_database_of_another_schema(told, toy_project, revision, sentence):
    other = shutil.copy(toy_project / "mlflow.db", toy_project / "other.db")
    with closing(sqlite3.connect(other)) as database, database:
        database.execute("UPDATE alembic_version SET version_num = ?", [revision])
    line = told(f"sqlite:///{other}")
    assert f"MLflow's database {other} cannot be used" in line
    assert re.search(sentence, line), line


@pytest.mark.parametrize("stale", ["0" * 32, "deleted", "elsewhere"])
def test_a_run_that_cannot_be_continued(told, mlflow_store, monkeypatch, stale):
    if stale == "deleted":
        stale = mlflow_store.create_run(mlflow.get_experiment_by_name("kanji-diffusion").experiment_id).info.run_id
        mlflow_store.delete_run(stale)
    elif stale == "elsewhere":
        stale = mlflow_store.create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", stale)
    line = told()
    assert line.startswith(
        f"Error: The MLflow run {stale}, which MLFLOW_RUN_ID or `tracking.run.id` in mlflow.yml names"
    )
    assert "unset it, and a run of its own is opened" in line


def test_a_run_is_continued(kedro_run, mlflow_store, monkeypatch):
    run = mlflow_store.create_run(mlflow.get_experiment_by_name("kanji-diffusion").experiment_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", run.info.run_id)
    assert kedro_run().exit_code == 0
    assert mlflow_store.get_run(run.info.run_id).data.metrics["small/loss"] == 0.5


def test_what_the_user_sets_of_requests_stays(monkeypatch):
    timeout, retries = store.HTTP
    monkeypatch.setenv(timeout, "77")
    monkeypatch.delenv(retries, raising=False)
    with store.http_requests(1, 0):
        assert mlflow.environment_variables.MLFLOW_HTTP_REQUEST_TIMEOUT.get() == 77
        assert mlflow.environment_variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == 0
    assert mlflow.environment_variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES.get() == 1


def _open(start, uri, answers):
    start.wait()
    try:
        with store.opening(uri):
            client = mlflow.MlflowClient(uri)
            if client.get_experiment_by_name("new") is None:
                client.create_experiment("new")
            answers.put(len(client.search_experiments()))
    except KanjiDiffusionError as error:
        answers.put(str(error))


def test_two_processes_open_a_new_database_at_the_same_moment(tmp_path):
    # A process that died as it made one has left these.
    (tmp_path / "mlflow.db.lock").touch()
    (tmp_path / "mlflow.db.new").write_bytes(b"half a database")
    context = multiprocessing.get_context("spawn")
    start, answers = context.Barrier(2), context.Queue()
    processes = [
        context.Process(target=_open, args=(start, f"sqlite:///{tmp_path}/mlflow.db", answers)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    assert [answers.get(timeout=120) for _ in range(2)] == [2, 2]
    for process in processes:
        process.join()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]
