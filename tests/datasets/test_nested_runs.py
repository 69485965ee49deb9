import mlflow
import pytest
from kedro.io.core import DatasetError

from kanji_diffusion.datasets import NestedRunsDataset
from kanji_diffusion.tracking.nested import NestedRun


def test_runs_are_listed_below_the_run_that_compares_them(mlflow_store):
    with mlflow.start_run() as parent:
        NestedRunsDataset().save(
            {
                "original": NestedRun({"ema": "false"}, {"read": 0.25, "style": float("nan")}, {"loss": [(1, 2.0)]}),
                "original + ema": NestedRun({"ema": "true"}, {"read": 0.5}),
            }
        )
    query = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    found = {run.info.run_name: run for run in mlflow_store.search_runs([parent.info.experiment_id], query)}
    assert found["original"].data.metrics == {"read": 0.25, "loss": 2.0}
    assert found["original + ema"].data.params == {"ema": "true"}
    assert {run.info.status for run in found.values()} == {"FINISHED"}


def test_outside_a_run_nothing_is_recorded(mlflow_store):
    NestedRunsDataset().save({"original": NestedRun({}, {"read": 0.5})})
    experiments = [each.experiment_id for each in mlflow_store.search_experiments()]
    assert not mlflow_store.search_runs(experiments)
    with pytest.raises(DatasetError, match="Nested runs are MLflow's"):
        NestedRunsDataset().load()
