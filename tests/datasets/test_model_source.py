"""Every kind of source that a model may have, and what is no source."""

import mlflow
import pytest
import torch
from diffusers import DDPMPipeline
from kedro.io import DataCatalog, DatasetError
from mlflow.models import Model

from kanji_diffusion import serving
from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.datasets import ModelSourceDataset
from kanji_diffusion.datasets.model_source import ModelResolver
from kanji_diffusion.sampling.export import TextToKanji, model_fingerprint, save_released

OLD, VERSION = "2025-11-22T22.33.53.517Z", "2026-11-22T22.33.53.517Z"


@pytest.fixture(scope="module")
def data(model, tmp_path_factory):
    """Two versions of `text_to_kanji`, one of a stage's UNet, and the released model."""
    folder = tmp_path_factory.mktemp("data")
    for version in (VERSION, OLD):
        model.save_pretrained(folder / "06_models" / "text_to_kanji" / version / "text_to_kanji")
    model.unet.save_pretrained(folder / "06_models" / "stage_64" / "unet" / VERSION / "unet")
    save_released(TextToKanji(model), folder / "released")
    return folder


@pytest.fixture
def resolver(data):
    entry = {
        "type": "kanji_diffusion.datasets.ModelSourceDataset",
        "filepath": str(data / "06_models"),
        "released": str(data / "released"),
    }
    return DataCatalog.from_config({"earlier_models": entry}).load("earlier_models")


def test_versions_of_the_catalog_are_found_by_name(resolver, data):
    models = data / "06_models"
    finished = models / "text_to_kanji" / VERSION / "text_to_kanji"
    assert resolver.versions() == [VERSION, OLD]
    assert resolver.find(VERSION, "model") == finished
    assert resolver.find(f"text_to_kanji:{VERSION}", "unet.start") == finished
    assert resolver.find(f"stage_64.unet:{VERSION}", "unet.start") == models / "stage_64" / "unet" / VERSION / "unet"


def test_a_folder_and_the_released_model_are_sources(resolver, data, model, tmp_path, monkeypatch):
    assert resolver.find("released", "model") == data / "released"
    monkeypatch.setenv("HOME", str(data))
    assert resolver.find("~/released", "model") == data / "released"
    model.unet.save_pretrained(tmp_path / "a:b")
    monkeypatch.chdir(tmp_path)
    assert resolver.find("a:b", "unet.start").samefile(tmp_path / "a:b")


def test_a_version_in_the_registry_is_a_source(resolver, data, mlflow_store, model):
    finished = str(data / "06_models" / "text_to_kanji" / VERSION / "text_to_kanji")
    Model.log(
        artifact_path=None,
        flavor=mlflow.pyfunc,
        name="text_to_kanji",
        python_model=serving.__file__,
        artifacts={"text_to_kanji": finished},
        signature=serving.SIGNATURE,
        registered_model_name="small",
        pip_requirements=[],
    )
    mlflow_store.set_registered_model_alias("small", "champion", "1")
    for source in ("models:/small@champion", "models:/small/1"):
        assert model_fingerprint(resolver.load(source).pipeline) == model_fingerprint(model)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (
            "2020-01-01T00.00.00.000Z",
            rf"there is no model in .*: give a version of `text_to_kanji` \(the newest are {VERSION}, {OLD}\), a "
            r"version in MLflow's registry \(models:/<name>@<alias>\), a folder with .*, or `released`\.$",
        ),
        ("stage_64.unet:2020", rf"a version of `stage_64\.unet` \(the newest are stage_64\.unet:{VERSION}\)"),
        ("stage_64.unet", rf"no model in stage_64\.unet: .*the newest are stage_64\.unet:{VERSION}"),
        ("stage_9.unet:2020", rf"the newest are {VERSION}"),
        ("../elsewhere", r"no model in \.\./elsewhere: give a version of `text_to_kanji`"),
        (".", r"no model in \.: give"),
        (
            "models:/none@champion",
            "^There is no model at models:/none@champion in MLflow's registry .*: give models:/",
        ),
    ],
)
def test_a_source_that_is_not_there_is_refused_in_one_sentence(
    resolver, mlflow_store, tmp_path, monkeypatch, source, sentence
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KanjiDiffusionError, match=sentence) as refused:
        resolver.find(source, "unet.start")
    assert "\n" not in str(refused.value)
    assert source.startswith("models:/") or str(refused.value).startswith(f"Parameter `unet.start` is '{source}'")


def test_where_nothing_was_trained_that_is_told(data, tmp_path):
    empty = ModelResolver(tmp_path / "none", tmp_path / "released")
    with pytest.raises(KanjiDiffusionError, match=r"`text_to_kanji` \(there is none yet\)"):
        empty.find(VERSION, "model")
    with pytest.raises(KanjiDiffusionError, match=r"The released model is not in .*: bring it back with `git"):
        empty.load("released")


def test_half_precision_is_read_and_what_is_not_needed_is_not(resolver, model, tmp_path):
    model.save_pretrained(tmp_path, variant="fp16")
    assert {path.name for path in tmp_path.rglob("*.safetensors")} == {
        "diffusion_pytorch_model.fp16.safetensors",
        "model.fp16.safetensors",
    }
    for name in ("unet/diffusion_pytorch_model.bin", "model.ckpt", "notes.txt"):
        (tmp_path / name).write_bytes(b"anything")
    loaded = resolver.load(str(tmp_path)).pipeline
    assert model_fingerprint(loaded) == model_fingerprint(model)
    assert {part.dtype for part in (loaded.unet, loaded.vae, loaded.text_encoder)} == {torch.float32}


def test_weights_that_are_pickles_are_not_read(resolver, model, tmp_path):
    model.save_pretrained(tmp_path, safe_serialization=False)
    with pytest.raises(KanjiDiffusionError, match=r"cannot be read \(.*safetensors.*\): .* with safetensors weights"):
        resolver.load(str(tmp_path))


def test_a_model_of_another_kind_is_refused(resolver, data, model, tmp_path):
    DDPMPipeline(model.unet, model.scheduler).save_pretrained(tmp_path)
    with pytest.raises(KanjiDiffusionError, match="holds a DDPMPipeline: name the folder of a StableDiffusionPipeline"):
        resolver.load(str(tmp_path))
    with pytest.raises(KanjiDiffusionError, match=r"cannot be read \(.*model_index.json.*\): bring its files back"):
        resolver.load(f"stage_64.unet:{VERSION}")


def test_models_are_not_saved_there(data):
    dataset = ModelSourceDataset(filepath=str(data), released=str(data))
    assert dataset.exists()
    with pytest.raises(DatasetError, match="name it among a node's inputs only"):
        dataset.save("model")
