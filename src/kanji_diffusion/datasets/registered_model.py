"""A model in MLflow's registry, and what was read of its champion's samples."""

from __future__ import annotations

import logging
from typing import Any

import mlflow
from kedro.io.core import AbstractDataset, DatasetError
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from kanji_diffusion import registry
from kanji_diffusion.evaluation.promotion import CHAMPION, Champion
from kanji_diffusion.evaluation.versions import ModelVersion
from kanji_diffusion.tracking import store

logger = logging.getLogger(__name__)


class RegisteredModelDataset(AbstractDataset[ModelVersion, PyFuncModel]):
    """Saving adds a version, loading gives one back; the versions are MLflow's own.

    A registry that is locked or away leaves the version out, with a warning, and does not stop the run.

    Args:
        name: Of the registered model.
        alias: Which version is loaded.
        metadata: Kept for Kedro-Viz.

    Attributes:
        run_id: The MLflow run that saves, set by the project's hooks because the active run is a property of the main
            thread and nodes may save in another one.
    """

    def __init__(self, *, name: str, alias: str = CHAMPION, metadata: dict[str, Any] | None = None) -> None:
        self._name, self._alias, self.metadata = name, alias, metadata
        self.run_id: str | None = None

    def load(self) -> PyFuncModel:
        """Load the version with the alias.

        Raises:
            DatasetError: If there is none.
        """
        try:
            return mlflow.pyfunc.load_model(f"models:/{self._name}@{self._alias}")
        except MlflowException as error:
            raise DatasetError(
                f"There is no version `{self._alias}` of `{self._name}` in MLflow's registry: "
                "run `kedro run --pipeline=evaluate` first."
            ) from error

    def save(self, data: ModelVersion) -> None:
        """Add a version, named as its promotion says."""
        try:
            registry.register(data, self._name, self.run_id)
        except Exception as error:  # of MLflow, and of whatever its stores are built on
            logger.warning(
                "The model was not registered in MLflow (%s). It is in the catalog: once MLflow answers, `kedro run "
                "--nodes=evaluate.decide_promotion,evaluate.register_model` with the same `--env` registers it.",
                store.reason(error),
            )

    def _exists(self) -> bool:
        try:
            mlflow.MlflowClient().get_model_version_by_alias(self._name, self._alias)
        except MlflowException:
            return False
        return True

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name, "alias": self._alias}


class ChampionDataset(AbstractDataset[None, Champion]):
    """The champion of a registered model, which a new version is compared with.

    Args:
        name: Of the registered model.
        metadata: Kept for Kedro-Viz.
    """

    def __init__(self, *, name: str, metadata: dict[str, Any] | None = None) -> None:
        self._name, self.metadata = name, metadata

    def load(self) -> Champion:
        """The champion and its readings; without a version if there is none or the registry does not answer."""
        try:
            return registry.champion(self._name)
        except Exception as error:  # of MLflow, and of whatever its stores are built on
            logger.info("MLflow did not answer which version is the champion (%s).", store.reason(error))
            return Champion(answered=False)

    def save(self, data: None) -> None:
        """Refuse: a version becomes the champion by `RegisteredModelDataset`."""
        raise DatasetError("The champion is named by MLflow's registry: save a `registered_model`.")

    def _exists(self) -> bool:
        # There is always an answer: that there is no champion is one.
        return True

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name}
