"""MLflow runs below the one of this process, one for each thing that is compared."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import mlflow
from mlflow.entities import Metric, Param
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from kanji_diffusion.tracking import store

logger = logging.getLogger(__name__)

# MLflow refuses larger batches.
_METRICS_PER_BATCH = 1000


@dataclass(frozen=True)
class NestedRun:
    """What one nested run holds.

    Attributes:
        params: What it is.
        metrics: Figures; those that are not finite are left out.
        curves: Name -> steps and values.
    """

    params: Mapping[str, str]
    metrics: Mapping[str, float]
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)


def log_nested_runs(parent_id: str, runs: Mapping[str, NestedRun]) -> None:
    """Record `runs` by name below the run `parent_id`, so that MLflow lists them under it and compares them.

    An outage of MLflow is a warning: what the runs hold is in the catalog.
    """
    client = mlflow.MlflowClient()
    try:
        store.ask()
        experiment = client.get_run(parent_id).info.experiment_id
        for name, run in runs.items():
            child = client.create_run(experiment, run_name=name, tags={MLFLOW_PARENT_RUN_ID: parent_id}).info.run_id
            params = [Param(key, value) for key, value in run.params.items()]
            metrics = _metrics(run)
            for first in range(0, max(1, len(metrics)), _METRICS_PER_BATCH):
                batch = metrics[first : first + _METRICS_PER_BATCH]
                client.log_batch(child, metrics=batch, params=params if first == 0 else [])
            client.set_terminated(child)
    except Exception as error:  # of MLflow, and of whatever its stores are built on
        logger.warning(
            "MLflow did not take the nested runs (%s): once it answers, run the same command again; what is trained "
            "already is not trained again.",
            store.reason(error),
        )


def _metrics(run: NestedRun) -> list[Metric]:
    now = round(time.time() * 1000)
    found = [Metric(name, value, now, 0) for name, value in run.metrics.items()]
    found += [Metric(name, value, now, step) for name, curve in run.curves.items() for step, value in curve]
    # What is not a number differs from itself.
    return [each for each in found if abs(each.value) < float("inf")]
