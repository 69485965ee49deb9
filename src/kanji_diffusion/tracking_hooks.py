"""What a run of Kedro reports to MLflow, in place of kedro-mlflow's hooks."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import mlflow
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import AbstractDataset, CatalogProtocol
from kedro.io.core import is_parameter
from kedro.pipeline import Pipeline
from kedro_mlflow.framework.hooks.mlflow_hook import MlflowHook
from pydantic import BaseModel

from kanji_diffusion.core.errors import TrainingInterrupted
from kanji_diffusion.datasets import NestedRunsDataset, RegisteredModelDataset, TrackerDataset
from kanji_diffusion.hooks import versioned
from kanji_diffusion.tracking import reports, store
from kanji_diffusion.tracking.journal import Journal


def waiting_folder(context: KedroContext) -> Path:
    """Where reports of runs of this environment wait while MLflow is away."""
    return Path(context.project_path, context.config_loader["globals"]["data"], "09_tracking")


class TrackingHooks(MlflowHook):
    """kedro-mlflow's hooks (which settings.py switches off), with an outage of MLflow in mind.

    kedro-mlflow reads mlflow.yml and opens the run. From then on everything goes through a `Journal`, since calls of
    kedro-mlflow's own would end the run when the store goes away. Parameters are always logged flat and cut to MLflow's
    length; `tracking.params` in mlflow.yml is not read.
    """

    def __init__(self) -> None:
        super().__init__()
        self._context: KedroContext | None = None
        self._catalog: CatalogProtocol | None = None
        self._journal: Journal | None = None
        self._parameters: dict[str, Any] = {}

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Read mlflow.yml and open the store."""
        self._context, self._journal = context, None
        with store.opening(_tracking_uri(context)):
            super().after_context_created(context)

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Open a run, and describe it there."""
        assert self._context is not None
        self._catalog, self._journal, self._parameters, self.run_id = catalog, None, {}, None
        self._open_run(run_params, pipeline, catalog)
        if self.run_id is None:
            return
        env = f" --env={self._context.env}" if self._context.env else ""
        folder = waiting_folder(self._context)
        self._journal = journal = Journal.begin(self.run_id, folder, f"kedro mlflow-replay{env}")
        for name in pipeline.datasets():
            if isinstance(dataset := catalog.get(name), TrackerDataset):
                dataset.journal = journal
            elif isinstance(dataset, RegisteredModelDataset | NestedRunsDataset):
                dataset.run_id = self.run_id
        found = {name: versioned(catalog, name) for name in sorted(pipeline.inputs()) if not is_parameter(name)}
        read = {name: dataset.resolve_load_version() or "" for name, dataset in found.items() if dataset}
        tags = reports.describe_environment(self._context.project_path) | {"runner": _class_name(run_params["runner"])}
        reports.set_tags(journal, tags | {f"read.{name}": version for name, version in read.items()})
        for name in read:
            self._log_dataset(journal, name, "read")
        reports.log_packages(journal)

    @hook_impl
    def before_node_run(self, inputs: dict[str, Any]) -> None:
        """Report the parameters of a node, as far as no node before it had them."""
        given = {
            name.removeprefix("params:"): value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            for name, value in inputs.items()
            if is_parameter(name)
        }
        new = {name: value for name, value in given.items() if name not in self._parameters}
        self._parameters |= new
        if self._journal is not None:
            reports.log_parameters(self._journal, new)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Record the version that was saved and, where the catalog asks for it, a copy and its figures."""
        journal, dataset = self._journal, versioned(self._catalog, dataset_name)
        if journal is None or dataset is None:
            return
        reports.set_tags(journal, {f"written.{dataset_name}": dataset.resolve_save_version() or ""})
        self._log_dataset(journal, dataset_name, "written")
        wishes = _wishes(dataset)
        if "artifact_path" in wishes:
            reports.log_artifact(journal, Path(dataset._get_load_path()), wishes["artifact_path"])
        if wishes.get("sheet"):
            reports.log_sheet(journal, dataset_name, data)
        if figures := wishes.get("metrics"):
            reports.log_figures(journal, figures, data)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Close the run."""
        self._close("FINISHED")

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        """Close the run and keep the reason with it."""
        if self._journal is not None:
            reports.set_tags(self._journal, {"error": f"{type(error).__name__}: {error}"})
        self._close("KILLED" if isinstance(error, TrainingInterrupted) else "FAILED")

    def _open_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        tracking = self.mlflow_config.tracking
        chosen = "+".join(run_params["pipeline_names"] or ["__default__"])
        tracking.run.name = tracking.run.name or f"{chosen} {run_params['run_id']}"
        try:
            with store.opening(mlflow.get_tracking_uri()):
                given = tracking.run.id or os.environ.get("MLFLOW_RUN_ID")
                if given and not self._already_active_mlflow:
                    store.refuse_other_run(given, tracking.experiment._experiment.experiment_id)
                super().before_pipeline_run(run_params, pipeline, catalog)
        except BaseException:
            if not self._already_active_mlflow:
                with suppress(Exception):
                    mlflow.end_run("FAILED")
            raise

    def _close(self, status: str) -> None:
        journal, self._journal = self._journal, None
        if journal is None:
            return
        if self._already_active_mlflow:
            journal.close()
        else:
            journal.end(status)

    def _log_dataset(self, journal: Journal, name: str, context: str) -> None:
        dataset = versioned(self._catalog, name)
        if dataset is not None and _wishes(dataset).get("dataset"):
            path = Path(dataset._get_load_path())
            reports.log_dataset(journal, name, dataset.resolve_load_version() or "", path, context)


def _tracking_uri(context: KedroContext) -> str:
    server: Mapping[str, Any] = context.config_loader["mlflow"].get("server") or {}
    return str(server.get("mlflow_tracking_uri") or os.environ.get("MLFLOW_TRACKING_URI", ""))


def _wishes(dataset: AbstractDataset) -> dict[str, Any]:
    return (getattr(dataset, "metadata", None) or {}).get("mlflow", {})


def _class_name(runner: str) -> str:
    # Kedro hands on the text of the object, `<kedro.runner.sequential_runner.SequentialRunner object at 0x...>`.
    found = re.match(r"<(?:\w+\.)*(\w+) object", runner)
    return found[1] if found else runner
