"""An outage of MLflow costs a run nothing: what it reports arrives later, once."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing

import click.testing
import mlflow
import pytest
from PIL import Image

from kanji_diffusion import cli
from kanji_diffusion.tracking import journal as journals
from kanji_diffusion.tracking import reports, store
from kanji_diffusion.tracking.journal import Journal, replay
from kanji_diffusion.tracking.reports import MlflowTracker

_SECONDS_TO_START = 120


class Server:
    """A tracking server in a process group of its own, which can be held and killed."""

    def __init__(self, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder, self.address = folder, f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        store = ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        files = ["--artifacts-destination", f"{self.folder}/artifacts", "--workers", "1"]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        log = self.folder / "server.log"
        with log.open("a") as output:
            self.process = subprocess.Popen(
                command + store + files, env=environment, stdout=output, stderr=output, start_new_session=True
            )
        end = time.monotonic() + _SECONDS_TO_START
        while time.monotonic() < end and self.process.poll() is None:
            try:
                urllib.request.urlopen(f"{self.address}/health", timeout=5)
                return
            except OSError:
                time.sleep(0.1)
        pytest.fail(f"The server did not start:\n{log.read_text()[-3000:]}")

    def signal(self, number):
        os.killpg(self.process.pid, number)

    def kill(self):
        self.signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def one_server(tmp_path_factory, empty_store):
    folder = tmp_path_factory.mktemp("server")
    shutil.copy(empty_store, folder / "mlflow.db")
    running = Server(folder)
    yield running
    if running.process.poll() is None:
        running.kill()


@pytest.fixture
def server(one_server):
    before = mlflow.get_tracking_uri()
    if one_server.process.poll() is not None:
        one_server.start()
    mlflow.set_tracking_uri(one_server.address)
    yield one_server
    mlflow.set_tracking_uri(before)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(store, "SECONDS_TO_ANSWER", 1)
    monkeypatch.setattr(journals, "_FIRST_PAUSE", 3600.0)
    monkeypatch.setitem(os.environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def run_id(mlflow_store):
    return mlflow_store.create_run(mlflow.get_experiment_by_name("kanji-diffusion").experiment_id).info.run_id


@pytest.fixture
def locked(mlflow_store, tmp_path, monkeypatch):
    """Locks the database, as a program does in a long transaction; calling it again lets go."""
    monkeypatch.setattr(store, "SECONDS_TO_ANSWER", 0.1)
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as other:
        yield lambda: other.execute("ROLLBACK" if other.in_transaction else "BEGIN EXCLUSIVE")


def warnings(caplog):
    return [record.message for record in caplog.records if record.levelname == "WARNING"]


def all_of(client, run_id):
    """What MLflow has of a run, and how often."""
    run = client.get_run(run_id)
    images = [file.path for file in client.list_artifacts(run_id, "images")]
    losses = [(metric.step, metric.value) for metric in client.get_metric_history(run_id, "small/loss")]
    reports = [file.path for file in client.list_artifacts(run_id, "reports/small")]
    return run.info.status, run.info.end_time, run.data.params, run.data.tags, sorted(images), losses, reports


def test_a_run_ends_well_while_the_server_is_away(kedro_run, toy_project, server, monkeypatch, caplog):
    (toy_project / "conf/local/globals.yml").write_text(f"tracking_uri: {server.address}\n")
    draw = MlflowTracker.image

    def hold_first(*arguments):
        server.signal(signal.SIGSTOP)
        draw(*arguments)

    monkeypatch.setattr(MlflowTracker, "image", hold_first)
    try:
        done = kedro_run()
        assert done.exit_code == 0, done.output
        assert len(list(toy_project.glob("data/08_reporting/*/report.json/*/report.json"))) == 2
        (waiting,) = (toy_project / "data/09_tracking").iterdir()
        one, rest = warnings(caplog)
        assert one == (
            f"MLflow does not take what this run reports (no answer in time): it waits in {waiting}, and is sent when "
            "MLflow answers."
        )
        assert rest.endswith(
            f"reports of this run wait in {waiting}: `kedro mlflow-replay` sends them once MLflow answers."
        )
    finally:
        server.signal(signal.SIGCONT)

    copy = shutil.copy(waiting, toy_project)
    replayed = click.testing.CliRunner().invoke(cli.cli, ["mlflow-replay"])
    assert replayed.exit_code == 0, replayed.output
    run_id = waiting.name.rpartition("-")[0]
    count = rest.split()[0]
    assert f"Run {run_id}: {count} reports were sent, 0 wait." in replayed.output
    assert not waiting.exists()
    client = mlflow.MlflowClient(server.address)
    sent = all_of(client, run_id)
    status, _, params, tags, images, losses, files = sent
    assert (status, losses, files) == ("FINISHED", [(0, 1.0), (1, 0.5)], ["reports/small/report.json"])
    assert params["stages.large.training.optimizer.learning_rate"] == "0.01"
    assert {"written.glyphs", "written.small.report", "written.large.report"} <= set(tags)
    assert len([path for path in images if path.endswith(".png")]) == 2

    shutil.move(copy, waiting)
    assert [(name, waiting) for name, _, waiting in replay(waiting.parent)] == [(run_id, 0)]
    assert all_of(client, run_id) == sent


def test_a_server_that_comes_back_gets_what_waited(server, tmp_path, caplog):
    client = mlflow.MlflowClient()
    run_id = client.create_run("0").info.run_id
    journal = Journal(run_id, tmp_path / f"{run_id}-0.jsonl")
    tracker = MlflowTracker(journal)
    server.signal(signal.SIGSTOP)
    try:
        for step in range(3):
            tracker.metrics({"loss": 3 - step}, step)
            tracker.image("sheet", Image.new("L", (8, 8), step), step)
        reports.log_sheet(journal, "sheet", Image.new("L", (8, 8), 9))
        reports.log_dataset(journal, "glyphs", "1", tmp_path, "read")
    finally:
        server.signal(signal.SIGCONT)
    assert len(warnings(caplog)) == 1
    assert journal.waiting == 8
    journal._next_attempt = 0.0
    tracker.metrics({"loss": 0}, 3)
    assert (journal.waiting, journal.path.exists()) == (0, False)
    assert [metric.value for metric in client.get_metric_history(run_id, "loss")] == [3, 2, 1, 0]
    pictures = [file.path for file in client.list_artifacts(run_id, "images") if file.path.endswith(".png")]
    assert len(pictures) == 3
    table = mlflow.artifacts.load_dict(f"runs:/{run_id}/sheets.json")
    assert [row[0] for row in table["data"]] == ["sheet"]
    assert [used.dataset.name for used in client.get_run(run_id).inputs.dataset_inputs] == ["glyphs"]


def test_what_a_killed_server_does_not_get_is_in_the_file(server, tmp_path, caplog):
    journal = Journal(mlflow.MlflowClient().create_run("0").info.run_id, tmp_path / "waiting.jsonl", "replay it")
    server.kill()
    MlflowTracker(journal).metrics({"loss": 0.5}, 1)
    reports.log_artifact(journal, tmp_path / "report.json", "reports")
    journal.end("FAILED")
    outage, rest = warnings(caplog)
    assert re.search(r"does not take what this run reports \(connection (refused|reset by peer)\): it waits in", outage)
    assert rest == f"3 reports of this run wait in {journal.path}: `replay it` sends them once MLflow answers."
    metrics, artifact, end = (json.loads(line) for line in journal.path.read_text().splitlines())
    (loss,) = metrics["values"]["values"]
    assert (metrics["kind"], loss[0], loss[1], loss[3]) == ("metrics", "loss", 0.5, 1)
    assert artifact == {
        "kind": "artifact",
        "values": {"path": str(tmp_path / "report.json"), "artifact_path": "reports"},
    }
    assert (end["kind"], end["values"]["status"]) == ("end", "FAILED")


def test_metrics_wait_while_the_database_is_locked(mlflow_store, run_id, locked, tmp_path, caplog):
    journal = Journal(run_id, tmp_path / f"{run_id}-0.jsonl")
    tracker = MlflowTracker(journal)
    locked()
    for step in range(3):
        tracker.metrics({"loss": step}, step)
    assert warnings(caplog) == [
        "MLflow does not take what this run reports (database is locked): it waits in "
        f"{journal.path}, and is sent when MLflow answers."
    ]
    assert len(journal.path.read_text().splitlines()) == journal.waiting == 3
    locked()
    journal.close()
    assert [metric.step for metric in mlflow_store.get_metric_history(run_id, "loss")] == [0, 1, 2]
    assert not journal.path.exists()


def test_a_run_that_was_deleted_meanwhile_keeps_its_reports(mlflow_store, run_id, tmp_path):
    journal = Journal(run_id, tmp_path / f"{run_id}-0.jsonl")
    mlflow_store.delete_run(run_id)
    reports.set_tags(journal, {"a": "b"})
    journal.end("FINISHED")
    assert [(sent, waiting) for _, sent, waiting in replay(tmp_path)] == [(0, 2)]
    mlflow_store.restore_run(run_id)
    assert [(sent, waiting) for _, sent, waiting in replay(tmp_path)] == [(2, 0)]
    run = mlflow_store.get_run(run_id)
    assert (run.info.status, run.data.tags["a"]) == ("FINISHED", "b")


def test_an_artifact_store_that_is_away_keeps_no_curve(mlflow_store, run_id, tmp_path, caplog):
    (tmp_path / "report.json").write_text("{}")
    (tmp_path / "mlartifacts").write_text("a file where the folder should be")
    journal = Journal(run_id, tmp_path / f"{run_id}-0.jsonl")
    for step in range(2):
        reports.log_artifact(journal, tmp_path / "report.json", f"{step}")
        MlflowTracker(journal).metrics({"loss": step}, step)
    assert len(mlflow_store.get_metric_history(run_id, "loss")) == 2
    assert journal.waiting == 2
    assert [message.split(" does")[0] for message in warnings(caplog)] == ["MLflow's artifact store"]
    (tmp_path / "mlartifacts").unlink()
    journal.close()
    assert [file.path for file in mlflow_store.list_artifacts(run_id)] == ["0", "1"]


def test_a_report_that_fails_keeps_no_other_from_being_sent(mlflow_store, run_id, locked, tmp_path):
    journal = Journal(run_id, tmp_path / f"{run_id}-0.jsonl")
    locked()
    journal.add("tags", values={"a": None})
    reports.set_tags(journal, {"b": "c"})
    journal.close()
    locked()
    list(replay(tmp_path))
    assert mlflow_store.get_run(run_id).data.tags["b"] == "c"


def test_what_a_dying_process_was_writing_is_left_out(mlflow_store, run_id, tmp_path):
    path = tmp_path / f"{run_id}-0.jsonl"
    lines = [{"kind": "tags", "values": {"values": {"a": "b"}}}, {"kind": "tags", "values": {"values": {"c": "d"}}}]
    path.write_text("".join(json.dumps(line) + "\n" for line in [lines[0], {"sent": [0]}, lines[1]]) + '{"kind": "ta')
    assert list(replay(tmp_path)) == [(run_id, 1, 0)]
    tags = mlflow_store.get_run(run_id).data.tags
    assert ("a" in tags, tags["c"]) == (False, "d")


def test_a_run_that_goes_on_is_not_replayed(run_id, locked, tmp_path):
    journal = Journal(run_id, tmp_path / f"{run_id}-0.jsonl")
    locked()
    reports.set_tags(journal, {"a": "b"})
    locked()
    assert list(replay(tmp_path)) == [(run_id, 0, None)]
    assert journal.path.exists()


def test_a_file_that_cannot_be_written_is_no_error(mlflow_store, run_id, locked, tmp_path, caplog):
    (tmp_path / "taken").touch()
    journal = Journal(run_id, tmp_path / "taken" / f"{run_id}-0.jsonl")
    locked()
    for name in "ab":
        reports.set_tags(journal, {name: name})
    assert len([message for message in warnings(caplog) if "cannot be written" in message]) == 1
    locked()
    journal.close()
    assert {"a", "b"} <= set(mlflow_store.get_run(run_id).data.tags)
