import mlflow
import pytest
from kedro.io import DatasetError

from kanji_diffusion.datasets import TrackerDataset
from kanji_diffusion.tracking.journal import Journal
from kanji_diffusion.training.tracker import NullTracker


def test_it_is_silent_outside_a_run():
    assert isinstance(TrackerDataset(prefix="vae").load(), NullTracker)


def test_it_reports_to_the_run_it_was_given(mlflow_store, tmp_path):
    given = mlflow_store.create_run(mlflow.get_experiment_by_name("kanji-diffusion").experiment_id)
    dataset = TrackerDataset(prefix="vae")
    dataset.journal = Journal(given.info.run_id, tmp_path / "waiting.jsonl")
    with mlflow.start_run():
        dataset.load().metrics({"loss": 1}, 5)
    assert mlflow_store.get_run(given.info.run_id).data.metrics == {"vae/loss": 1}


def test_it_cannot_be_saved():
    with pytest.raises(DatasetError, match="A tracker cannot be saved"):
        TrackerDataset().save(NullTracker())
