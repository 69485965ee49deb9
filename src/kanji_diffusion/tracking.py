"""What the project reports to MLflow, and how: never at the price of a training run."""

from __future__ import annotations

import atexit
import json
import logging
import math
import platform
import posixpath
import re
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import torch
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, RunTag
from mlflow.exceptions import MlflowException
from PIL import Image

logger = logging.getLogger(__name__)

# MLflow refuses larger batches.
_METRICS_PER_BATCH = 1000
# What a day of logging leaves, should the store stay away so long.
_PENDING_METRICS = 1_000_000
# A locked or absent store makes every call wait for its own time-out: ask it rarely.
_SECONDS_BETWEEN_ATTEMPTS = 30.0
_TAG_LENGTH = 5000
_PACKAGES = ("diffusers", "kedro", "mlflow", "open-clip-torch", "torch", "transformers")


class MlflowTracker:
    r"""Reports metrics and pictures to one MLflow run, from any thread.

    While the tracking store is locked or away, metrics wait in memory and are sent with later ones.

    Args:
        run_id: The run to report to.
        prefix: Put before every name, with a slash, which MLflow shows as a group of charts.
        curves: Pattern of a metric (a regular expression of the whole name) -> its name in MLflow, which may refer to
            groups of the pattern as `\1`. The first pattern that fits counts, and what fits none is left out. None
            reports all metrics under their own names.
    """

    def __init__(self, run_id: str, prefix: str = "", curves: Mapping[str, str] | None = None) -> None:
        self._client = mlflow.MlflowClient()
        self._run_id = run_id
        self._prefix = f"{prefix}/" if prefix else ""
        self._curves = curves
        self._pending: deque[Metric] = deque(maxlen=_PENDING_METRICS)
        self._next_attempt = -math.inf
        atexit.register(self._send)

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record scalar `values` at `step`."""
        now = round(time.time() * 1000)
        named = [(self._name(self._prefix + name), float(value)) for name, value in values.items()]
        self._pending.extend(Metric(_metric_name(name), value, now, step) for name, value in named if name)
        if time.monotonic() >= self._next_attempt:
            self._send()

    def image(self, name: str, image: Image.Image, step: int) -> None:
        """Record `image` under `name` at `step`."""
        with tolerating_mlflow():
            self._client.log_image(self._run_id, image, key=self._prefix + name, step=step, synchronous=True)

    def _name(self, name: str) -> str | None:
        if self._curves is None:
            return name
        found = ((re.fullmatch(pattern, name), target) for pattern, target in self._curves.items())
        return next((match.expand(target) for match, target in found if match), None)

    def _send(self) -> None:
        with tolerating_mlflow():
            self._next_attempt = time.monotonic() + _SECONDS_BETWEEN_ATTEMPTS
            while self._pending:
                batch = [self._pending[i] for i in range(min(len(self._pending), _METRICS_PER_BATCH))]
                self._client.log_batch(self._run_id, metrics=batch)
                for _ in batch:
                    self._pending.popleft()
            self._next_attempt = -math.inf


def _metric_name(name: str) -> str:
    # One name that MLflow does not accept would keep a whole batch from being recorded.
    return posixpath.normpath(re.sub(r"[^/\w.\- ]", "_", name))


@contextmanager
def tolerating_mlflow() -> Iterator[None]:
    """Turn a failure of the tracking store into a warning: the work itself goes on."""
    try:
        yield
    except (MlflowException, OSError) as error:
        logger.warning("MLflow could not record or read something: %s", " ".join(str(error).split())[:300])


def describe_environment(project: Path) -> dict[str, str]:
    """Name the code, packages and machine of this process.

    Args:
        project: The project folder, whose git commit is told if it has one.

    Returns:
        Tags such as `git.commit`, `git.dirty`, `version.torch`, `device`.
    """
    tags = {f"version.{package}": metadata.version(package) for package in _PACKAGES}
    tags |= {"version.python": platform.python_version(), "platform": platform.platform()}
    tags["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    tags["threads"] = str(torch.get_num_threads())
    commit = _git(project, "rev-parse", "HEAD")
    if commit:
        tags |= {"git.commit": commit, "git.dirty": str(bool(_git(project, "status", "--porcelain")))}
    return tags


def _git(project: Path, *arguments: str) -> str:
    try:
        return subprocess.run(
            ["git", "-C", str(project), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def set_tags(run_id: str, tags: Mapping[str, str]) -> None:
    """Set `tags` on the run, in one call."""
    with tolerating_mlflow():
        mlflow.MlflowClient().log_batch(run_id, tags=[RunTag(key, value[:_TAG_LENGTH]) for key, value in tags.items()])


def log_packages(run_id: str) -> None:
    """Keep the exact version of every installed package with the run, as `environment.txt`."""
    packages = sorted({f"{found.name}=={found.version}" for found in metadata.distributions()})
    with tolerating_mlflow():
        mlflow.MlflowClient().log_text(run_id, "\n".join(packages) + "\n", "environment.txt")


def log_artifact(run_id: str, path: Path, artifact_path: str) -> None:
    """Copy a file, or the contents of a folder, to `artifact_path` of the run."""
    client = mlflow.MlflowClient()
    with tolerating_mlflow():
        if path.is_dir():
            client.log_artifacts(run_id, str(path), artifact_path)
        else:
            client.log_artifact(run_id, str(path), artifact_path)


def log_dataset(run_id: str, name: str, version: str, path: Path, context: str) -> None:
    """Name a version of a table among the datasets of the run, by which MLflow's table of runs can be filtered.

    Args:
        run_id: The run.
        name: Of the catalog entry.
        version: Of the table, shown as the digest.
        path: Where this version lies.
        context: What the run did with it, `read` or `written`.
    """
    source = json.dumps({"uri": str(path)})
    dataset = DatasetInput(
        Dataset(name, version, source_type="local", source=source), [InputTag("mlflow.data.context", context)]
    )
    with tolerating_mlflow():
        mlflow.MlflowClient().log_inputs(run_id, datasets=[dataset])


def log_sheet(run_id: str, name: str, image: Image.Image) -> None:
    """Add a picture to the table `sheets.json` of the run.

    MLflow shows tables of several runs side by side. Its charts of pictures do not serve: each has a list of all
    parameters above the picture.
    """
    with tolerating_mlflow():
        mlflow.MlflowClient().log_table(run_id, {"sheet": [name], "picture": [mlflow.Image(image)]}, "sheets.json")


def log_figures(run_id: str, names: Mapping[str, str], report: Mapping[str, Any]) -> None:
    """Record figures of a nested `report` as metrics.

    Args:
        run_id: The run.
        names: Place of the figure in the report, such as `reading.ocr` -> name of the metric. What is not there, or not
            a finite number, is left out.
        report: Figures and words.
    """
    found = {name: _figure(report, place.split(".")) for place, name in names.items()}
    MlflowTracker(run_id).metrics({name: value for name, value in found.items() if value is not None}, step=0)


def _figure(report: Any, place: Sequence[str]) -> float | None:
    for key in place:
        report = report.get(key) if isinstance(report, Mapping) else None
    is_number = isinstance(report, int | float) and not isinstance(report, bool)
    return float(report) if is_number and math.isfinite(report) else None


def end_run(status: str, run_id: str | None = None) -> None:
    """Close a run as `FAILED` or `KILLED`: `run_id`, or else the active one if there is one."""
    with tolerating_mlflow():
        if run_id is not None:
            mlflow.MlflowClient().set_terminated(run_id, status)
        elif mlflow.active_run() is not None:
            mlflow.end_run(status)
