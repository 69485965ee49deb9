"""Nested MLflow runs, as a catalog entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import mlflow
from kedro.io.core import AbstractDataset, DatasetError

from kanji_diffusion.tracking.nested import NestedRun, log_nested_runs


class NestedRunsDataset(AbstractDataset[Mapping[str, NestedRun], NoReturn]):
    """Saving records runs below the MLflow run of this `kedro run`; outside a run nothing is recorded.

    Args:
        metadata: Kept for Kedro-Viz.

    Attributes:
        run_id: The MLflow run above them, set by the project's hooks as in `TrackerDataset`.
    """

    def __init__(self, *, metadata: dict[str, Any] | None = None) -> None:
        self.metadata = metadata
        self.run_id: str | None = None

    def load(self) -> NoReturn:
        """Refuse: MLflow keeps the runs.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError("Nested runs are MLflow's: look at them there.")

    def save(self, data: Mapping[str, NestedRun]) -> None:
        """Record the runs by name."""
        active = mlflow.active_run()
        if run_id := self.run_id or (active.info.run_id if active else None):
            log_nested_runs(run_id, data)

    def _exists(self) -> bool:
        return False

    def _describe(self) -> dict[str, Any]:
        return {}
