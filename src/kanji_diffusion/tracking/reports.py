"""What the project reports to MLflow."""

from __future__ import annotations

import math
import platform
import posixpath
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH
from PIL import Image

from kanji_diffusion.tracking.journal import Journal

_TAG_LENGTH = 5000
_PACKAGES = ("diffusers", "kedro", "mlflow", "open-clip-torch", "torch", "transformers")


class MlflowTracker:
    r"""Reports metrics and pictures to one MLflow run, from any thread.

    Args:
        journal: Of the run to report to.
        prefix: Put before every name, with a slash, which MLflow shows as a group of charts.
        curves: Pattern of a metric (a regular expression of the whole name) -> its name in MLflow, which may refer to
            groups of the pattern as `\1`. The first pattern that fits counts, and what fits none is left out. None
            reports all metrics under their own names.
    """

    def __init__(self, journal: Journal, prefix: str = "", curves: Mapping[str, str] | None = None) -> None:
        self._journal = journal
        self._prefix = f"{prefix}/" if prefix else ""
        self._curves = curves

    def metrics(self, values: Mapping[str, float], step: int) -> None:
        """Record scalar `values` at `step`."""
        named = {self._name(self._prefix + name): float(value) for name, value in values.items()}
        log_metrics(self._journal, {name: value for name, value in named.items() if name}, step)

    def image(self, name: str, image: Image.Image, step: int) -> None:
        """Record `image` under `name` at `step`."""
        accepted = re.sub(r"[^/.\w\- ]", "_", self._prefix + name, flags=re.ASCII)
        self._journal.add("picture", image=image, name=accepted, step=step, timestamp=_now())

    def _name(self, name: str) -> str | None:
        if self._curves is None:
            return name
        found = ((re.fullmatch(pattern, name), target) for pattern, target in self._curves.items())
        return next((match.expand(target) for match, target in found if match), None)


def log_metrics(journal: Journal, values: Mapping[str, float], step: int) -> None:
    """Record scalar `values` at `step`."""
    now = _now()
    if values:
        journal.add("metrics", values=[(_accepted(name), value, now, step) for name, value in values.items()])


def log_parameters(journal: Journal, parameters: Mapping[str, Any]) -> None:
    """Record parameters, nested ones under their names with dots, long ones cut to the length that MLflow takes."""
    flat = {_accepted(name): str(value)[:MAX_PARAM_VAL_LENGTH] for name, value in _flattened(parameters).items()}
    if flat:
        journal.add("params", values=flat)


def _flattened(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= _flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _accepted(name: str) -> str:
    # One name that MLflow does not accept would keep a whole batch from being recorded.
    return posixpath.normpath(re.sub(r"[^/\w.\- ]", "_", name))


def _now() -> int:
    return round(time.time() * 1000)


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


def set_tags(journal: Journal, tags: Mapping[str, str]) -> None:
    """Set `tags` on the run, in one call."""
    journal.add("tags", values={key: value[:_TAG_LENGTH] for key, value in tags.items()})


def log_packages(journal: Journal) -> None:
    """Keep the exact version of every installed package with the run, as `environment.txt`."""
    packages = sorted({f"{found.name}=={found.version}" for found in metadata.distributions()})
    log_text(journal, "\n".join(packages) + "\n", "environment.txt")


def log_text(journal: Journal, text: str, name: str) -> None:
    """Keep `text` with the run, as the file `name`; MLflow shows a CSV as a table."""
    journal.add("text", text=text, artifact_file=name)


def log_artifact(journal: Journal, path: Path, artifact_path: str) -> None:
    """Copy a file, or the contents of a folder, to `artifact_path` of the run."""
    journal.add("artifact", path=str(path), artifact_path=artifact_path)


def log_dataset(journal: Journal, name: str, version: str, path: Path, context: str) -> None:
    """Name a version of a table among the datasets of the run, by which MLflow's table of runs can be filtered.

    Args:
        journal: Of the run.
        name: Of the catalog entry.
        version: Of the table, shown as the digest.
        path: Where this version lies.
        context: What the run did with it, `read` or `written`.
    """
    journal.add("dataset", name=name, version=version, path=str(path), context=context)


def log_sheet(journal: Journal, name: str, image: Image.Image) -> None:
    """Add a picture to the table `sheets.json` of the run.

    MLflow shows tables of several runs side by side. Its charts of pictures do not serve: each has a list of all
    parameters above the picture.
    """
    journal.add("sheet", image=image, name=name)


def log_figures(journal: Journal, names: Mapping[str, str], report: Mapping[str, Any]) -> None:
    """Record figures of a nested `report` as metrics.

    Args:
        journal: Of the run.
        names: Place of the figure in the report, such as `reading.ocr` -> name of the metric. What is not there, or not
            a finite number, is left out.
        report: Figures and words.
    """
    found = {name: _figure(report, place.split(".")) for place, name in names.items()}
    log_metrics(journal, {name: value for name, value in found.items() if value is not None}, step=0)


def _figure(report: Any, place: Sequence[str]) -> float | None:
    for key in place:
        report = report.get(key) if isinstance(report, Mapping) else None
    is_number = isinstance(report, int | float) and not isinstance(report, bool)
    return float(report) if is_number and math.isfinite(report) else None
