"""The training loop's way to MLflow, as a catalog entry."""

from __future__ import annotations

from typing import Any, NoReturn

from kedro.io.core import AbstractDataset, DatasetError

from kanji_diffusion.tracking.journal import Journal
from kanji_diffusion.tracking.reports import MlflowTracker
from kanji_diffusion.training.tracker import NullTracker, Tracker


class TrackerDataset(AbstractDataset[NoReturn, Tracker]):
    """Loads a tracker that reports to the MLflow run of this `kedro run`, and a silent one outside a run.

    Args:
        prefix: Put before the name of every metric and picture, with a slash.
        curves: Which metrics are reported, and under which names, as in `MlflowTracker`; None reports all.
        metadata: Kept for Kedro-Viz.

    Attributes:
        journal: Of the MLflow run to report to, set by the project's hooks.
    """

    def __init__(
        self, *, prefix: str = "", curves: dict[str, str] | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        self._prefix, self._curves = prefix, curves
        self.metadata = metadata
        self.journal: Journal | None = None

    def load(self) -> Tracker:
        """Return the tracker."""
        return MlflowTracker(self.journal, self._prefix, self._curves) if self.journal else NullTracker()

    def save(self, data: NoReturn) -> None:
        """Refuse: a tracker is only ever loaded.

        Raises:
            DatasetError: Always.
        """
        raise DatasetError("A tracker cannot be saved: name it among a node's inputs only.")

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"prefix": self._prefix, "curves": self._curves}
