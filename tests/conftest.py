from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import click.testing
import mlflow
import pytest
from kedro.framework import project as kedro_project
from kedro.framework.startup import bootstrap_project

from kanji_diffusion import cli, hooks
from kanji_diffusion.sampling.export import TextToKanji

PROJECT_ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def raw_data() -> Path:
    folder = PROJECT_ROOT / "data" / "01_raw"
    if not (folder / "fonts").is_dir() or not (folder / "kanjidic2.xml.gz").is_file():
        pytest.fail(f"The fonts and the dictionary are not in {folder}: run `make data` first.")
    return folder


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without a run; making one takes seconds, copying it none."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def mlflow_store(empty_store: Path, tmp_path: Path) -> Iterator[mlflow.MlflowClient]:
    """A real MLflow store of this test alone, with the project's experiment in it."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    mlflow.create_experiment("kanji-diffusion", f"{tmp_path}/mlartifacts")
    mlflow.set_experiment("kanji-diffusion")
    yield mlflow.MlflowClient()
    mlflow.end_run()
    mlflow.set_tracking_uri(before)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "ray_here" in getattr(item, "fixturenames", ()):
            item.add_marker("ray")


@pytest.fixture(scope="session")
def ray_here() -> Iterator[None]:
    """Ray on this machine with two CPUs, whatever the machine has, or the cluster at RAY_ADDRESS."""
    import ray

    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # its sockets need a short path
        if "RAY_ADDRESS" in os.environ:
            ray.init(log_to_driver=False)
        else:
            memory = 200 * 2**20
            os.environ.setdefault("RAY_worker_niceness", "0")
            ray.init(
                num_cpus=2, include_dashboard=False, object_store_memory=memory, log_to_driver=False, _temp_dir=folder
            )
        yield
        ray.shutdown()


@pytest.fixture
def toy_project(mlflow_store: mlflow.MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small Kedro project with this project's settings, in its folder and ready to run."""
    shutil.copytree(Path(__file__).parent / "toy_project", tmp_path, dirs_exist_ok=True)
    for name in ("mlflow.yml", "globals.yml"):
        shutil.copy(PROJECT_ROOT / "conf" / "base" / name, tmp_path / "conf" / "base")
    shutil.copy(PROJECT_ROOT / ".telemetry", tmp_path)
    (tmp_path / "data" / "01_raw").mkdir(parents=True)
    (tmp_path / "data" / "01_raw" / "ink.txt").write_text("black")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(hooks, "_context", None)
    bootstrap_project(tmp_path)
    yield tmp_path
    for module in [name for name in sys.modules if name.split(".")[0] == "toy"]:
        del sys.modules[module]
    kedro_project.configure_project("kanji_diffusion")


@pytest.fixture
def kedro_run(toy_project: Path) -> Callable[..., click.testing.Result]:
    """Calls `kedro run` of the toy project with the given options."""
    return lambda *options: click.testing.CliRunner().invoke(cli.run, options)


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, raw_data: Path) -> Path:
    """This project in a folder of its own: same code, configuration, raw data and released model, nothing made yet."""
    root = tmp_path_factory.mktemp("project")
    for name in ("conf", "notebooks", "src"):
        shutil.copytree(PROJECT_ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(PROJECT_ROOT / name, root)
    released = Path("data", "06_models", "released")
    shutil.copytree(PROJECT_ROOT / released, root / released)
    (root / "data" / "01_raw").symlink_to(raw_data)
    return root


@pytest.fixture(scope="session")
def kedro(project: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Calls `kedro` in the project as a user does, in a process of its own."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"COLUMNS": "1000"}
        return subprocess.run(
            [sys.executable, "-m", "kedro", *arguments],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
        )

    return call


@pytest.fixture
def kedro_run_here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., click.testing.Result]]:
    """Calls `kedro run` of the project in this process, which has paid for the imports already."""
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(hooks, "_context", None)
    before = mlflow.get_tracking_uri()
    bootstrap_project(project)
    yield lambda *options: click.testing.CliRunner().invoke(cli.run, options)
    mlflow.end_run()
    mlflow.set_tracking_uri(before)
    kedro_project.configure_project("kanji_diffusion")


@pytest.fixture(scope="session")
def released() -> TextToKanji:
    """The model that comes with the project."""
    return TextToKanji.from_pretrained(next((PROJECT_ROOT / "data/06_models/released").iterdir()))


@pytest.fixture(scope="session")
def finished(project: Path, kedro: Callable[..., subprocess.CompletedProcess[str]]) -> str:
    """What the whole DAG printed at toy size; its artifacts are in the project."""
    done = kedro("run", "--env=test")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
