"""The champion keeps its name until a version reads better beyond doubt."""

import logging
import shutil
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from transformers import ResNetForImageClassification

from kanji_diffusion.datasets import ChampionDataset, RegisteredModelDataset
from kanji_diffusion.datasets.model_source import ModelResolver
from kanji_diffusion.evaluation.promotion import decide_promotion
from kanji_diffusion.evaluation.versions import ModelVersion
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.registry import register
from kanji_diffusion.sampling.export import TextToKanji, model_fingerprint
from kanji_diffusion.sampling.sampler import SamplingSettings
from kanji_diffusion.scoring.clip import ClipScorer

NAME = "small"


@pytest.fixture(scope="module")
def parts(project, finished):
    def load(kind, name):
        folder = sorted((project / "data/test/06_models" / name).iterdir())[-1] / name
        return kind.from_pretrained(folder)

    return (
        load(TextToKanji, "text_to_kanji"),
        load(ResNetForImageClassification, "recogniser"),
        load(ClipScorer, "clip_model"),
        CaptionSettings(),
        SamplingSettings(steps=2),
    )


def version(parts, right):
    characters = [chr(0x4E00 + number) for number in range(30)]
    scores = pd.DataFrame({"character": characters, "style": "brush", "ocr": [float(n < right) for n in range(30)]})
    figures = {
        "samples": 30,
        "reading": {"ocr": right / 30, "ocr_low": 0.0, "ocr_real": 1.0},
        "style": {"agreement": 0.9},
        "missing": {},
    }
    return ModelVersion(*parts, scores, figures, decide_promotion(scores, ChampionDataset(name=NAME).load()))


def aliases(client):
    return {alias: int(number) for alias, number in client.get_registered_model(NAME).aliases.items()}


def test_a_version_becomes_champion_when_it_reads_better_beyond_doubt(mlflow_store, parts, monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    with mlflow.start_run() as run:
        mlflow.log_metric("0_figures/ocr", 1 / 3, step=0)
        mlflow.log_param("unet.layers", 1)
    register(version(parts, 10), NAME, run.info.run_id)
    assert aliases(mlflow_store) == {"champion": 1}
    register(version(parts, 12), NAME)
    assert aliases(mlflow_store) == {"champion": 1, "challenger": 2}
    register(version(parts, 25), NAME)
    assert aliases(mlflow_store) == {"champion": 3}
    register(version(parts, 9), NAME)
    assert aliases(mlflow_store) == {"champion": 3, "challenger": 4}

    for source in (f"models:/{NAME}@champion", f"models:/{NAME}/3"):
        loaded = ModelResolver(Path("none"), Path("none")).load(source)
        assert model_fingerprint(loaded.pipeline) == model_fingerprint(parts[0].pipeline)

    third = mlflow_store.get_model_version(NAME, "3")
    assert third.description.startswith("83.3 % of its samples are read; +50.0 points on version 1")
    assert third.tags == {"reading.ocr": "0.8333", "style.agreement": "0.9000"}
    first = mlflow_store.get_model_version(NAME, "1")
    assert first.run_id == run.info.run_id
    logged = mlflow_store.get_logged_model(first.source.removeprefix("models:/"))
    assert logged.params == {"unet.layers": "1"}
    assert {metric.key: metric.value for metric in logged.metrics} == {"0_figures/ocr": 1 / 3}

    model = RegisteredModelDataset(name=NAME).load()
    drawn = model.predict(pd.DataFrame({"prompt": ["water", "fire"], "style": ["brush", None], "seed": [3, 4]}))
    again = model.predict(pd.DataFrame({"prompt": ["fire"], "seed": [4]}))
    assert drawn["png"][1] == again["png"][0]
    assert drawn["png"][0].startswith(b"\x89PNG")
    for given, sentence in [
        (pd.DataFrame({"prompt": [" "]}), "is empty"),
        (pd.DataFrame({"prompt": ["water"], "colour": ["red"]}), "There is no input `colour`: the inputs are prompt, "),
        ("water", r"The input is no table \(.*\): give rows of prompt, style"),
    ]:
        with pytest.raises(MlflowException, match=sentence) as caught:
            model.predict(given)
        assert caught.value.get_http_status_code() == 400


def test_a_champion_whose_files_are_gone_gives_way(mlflow_store, parts):
    register(version(parts, 20), NAME)
    source = mlflow_store.get_logged_model(mlflow_store.get_model_version(NAME, "1").source.removeprefix("models:/"))
    shutil.rmtree(source.artifact_location)
    register(version(parts, 10), NAME)
    assert aliases(mlflow_store) == {"champion": 2}
    assert mlflow_store.get_model_version(NAME, "2").description.endswith("the files of version 1 are gone.")


def test_a_champion_is_not_replaced_by_what_was_compared_with_another(mlflow_store, parts):
    first, second = version(parts, 10), version(parts, 12)
    register(first, NAME)
    register(second, NAME)
    assert aliases(mlflow_store) == {"champion": 1, "challenger": 2}
    assert mlflow_store.get_model_version(NAME, "2").description.endswith("but the champion has changed since.")


def test_a_registry_that_does_not_answer_is_no_error(mlflow_store, parts, caplog):
    made = version(parts, 10)
    store = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri("http://127.0.0.1:9")
    try:
        with caplog.at_level(logging.WARNING):
            assert not ChampionDataset(name=NAME).load().answered
            RegisteredModelDataset(name=NAME).save(made)
    finally:
        mlflow.set_tracking_uri(store)
    (told,) = [record.message for record in caplog.records]
    assert told.startswith("The model was not registered in MLflow (connection refused). It is in the catalog: once")
    assert "`kedro run --nodes=evaluate.decide_promotion,evaluate.register_model`" in told


def test_a_registry_without_the_model_is_named(mlflow_store):
    dataset = RegisteredModelDataset(name="nothing")
    assert not dataset.exists()
    with pytest.raises(Exception, match=r"no version `champion` of `nothing`.*--pipeline=evaluate"):
        dataset.load()
