"""The calls of MLflow's client that record what a run reports."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from PIL import Image

FILE_KINDS = ("artifact", "text", "picture", "sheet")
"""Kinds of reports that the artifact store takes, which may be another machine than the tracking store."""
# MLflow refuses larger batches.
_METRICS_PER_CALL, _PARAMS_PER_CALL = 1000, 100
_SHEETS = "sheets.json"


def encoded(image: Image.Image) -> str:
    """A picture as text: its PNG in base64."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


class Sender:
    """Records reports of each kind, a method for each. The same report may be sent again: it is recorded once.

    Args:
        client: Of MLflow.
        run_id: The run that reports.
        again: Whether the report may have arrived before, which is then asked for what MLflow would record twice.
    """

    def __init__(self, client: mlflow.MlflowClient, run_id: str, again: bool) -> None:
        self._client, self._run_id, self._again = client, run_id, again

    def metrics(self, values: list[tuple[str, float, int, int]]) -> None:
        """Record `values`: key, value, time in milliseconds, and step of each."""
        for start in range(0, len(values), _METRICS_PER_CALL):
            metrics = [Metric(*value) for value in values[start : start + _METRICS_PER_CALL]]
            self._client.log_batch(self._run_id, metrics=metrics)

    def params(self, values: dict[str, str]) -> None:
        """Record `values`, texts by their names."""
        params = [Param(name, value) for name, value in values.items()]
        for start in range(0, len(params), _PARAMS_PER_CALL):
            self._client.log_batch(self._run_id, params=params[start : start + _PARAMS_PER_CALL])

    def tags(self, values: dict[str, str]) -> None:
        """Set `values`, texts by their names."""
        self._client.log_batch(self._run_id, tags=[RunTag(name, value) for name, value in values.items()])

    def dataset(self, name: str, version: str, path: str, context: str) -> None:
        """Name a version of a table among the datasets of the run."""
        dataset = Dataset(name, version, source_type="local", source=json.dumps({"uri": path}))
        used = DatasetInput(dataset, [InputTag("mlflow.data.context", context)])
        self._client.log_inputs(self._run_id, datasets=[used])

    def end(self, status: str, end_time: int) -> None:
        """Close the run, as ended at `end_time` in milliseconds."""
        self._client.set_terminated(self._run_id, status, end_time)

    def artifact(self, path: str, artifact_path: str) -> None:
        """Copy a file, or the contents of a folder, to `artifact_path`."""
        if not Path(path).exists():
            raise MlflowException.invalid_parameter_value(f"{path} is gone")
        if Path(path).is_dir():
            self._client.log_artifacts(self._run_id, path, artifact_path)
        else:
            self._client.log_artifact(self._run_id, path, artifact_path)

    def text(self, text: str, artifact_file: str) -> None:
        """Keep `text` as a file."""
        self._client.log_text(self._run_id, text, artifact_file)

    def picture(self, image: Image.Image | str, name: str, step: int, timestamp: int) -> None:
        """Record a picture, or the text that it is `encoded` in, at `step`."""
        start = f"images/{name.replace('/', '~')}+step+{step}+timestamp+{timestamp}+"
        there = self._client.list_artifacts(self._run_id, "images") if self._again else []
        # The small copy comes last.
        if not any(file.path.startswith(start) and "compressed" in file.path for file in there):
            self._client.log_image(
                self._run_id, _decoded(image), key=name, step=step, timestamp=timestamp, synchronous=True
            )

    def sheet(self, image: Image.Image | str, name: str) -> None:
        """Add a picture, or the text that it is `encoded` in, to the table of sheets."""
        if not self._again or name not in self._sheets():
            table = {"sheet": [name], "picture": [mlflow.Image(_decoded(image))]}
            self._client.log_table(self._run_id, table, _SHEETS)

    def _sheets(self) -> list[str]:
        if _SHEETS not in [file.path for file in self._client.list_artifacts(self._run_id)]:
            return []
        table = mlflow.artifacts.load_dict(f"runs:/{self._run_id}/{_SHEETS}")
        return [row[table["columns"].index("sheet")] for row in table["data"]]


def _decoded(image: Image.Image | str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(image))) if isinstance(image, str) else image
