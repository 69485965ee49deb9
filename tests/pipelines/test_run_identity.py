"""A stage of the UNet is continued from its own checkpoints, and every setting of its models makes it another run."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from tests.training.conftest import Points, Recorder, run_name

from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.core.fingerprint import tensors_fingerprint
from kanji_diffusion.datasets.model_source import ModelResolver
from kanji_diffusion.diffusion.latents import CaptionDropoutSettings
from kanji_diffusion.diffusion.loss import DiffusionLossSettings
from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.diffusion.text import TextConditionedUNet, TextEncoderSettings, new_text_encoder
from kanji_diffusion.diffusion.unet import UNetSettings, continue_unet
from kanji_diffusion.diffusion.vae import VAESettings, autoencoder
from kanji_diffusion.pipelines.train_unet import nodes
from kanji_diffusion.training.settings import TrainingSettings

UNET = UNetSettings(channels=(32, 64), cross_attention=(False, True), groups=16)
TEXT = TextEncoderSettings(source="trained", max_length=8, width=32, layers=1)
TEXTS = ["water (brush kanji)", "water (gothic kanji)", "fire (brush kanji)"]
# A changed value for every field but `start` and `source`, which are places: the weights that lie there count. The
# fields of `lora` are changed by the tests of adapters.
UNET_CHANGED = {
    "channels": (64, 64),
    "cross_attention": (True, True),
    "layers": 2,
    "heads": 8,
    "groups": 8,
    "global_text": False,
    "time_modulation": "default",
    "seed": 1,
}
TEXT_CHANGED = {"max_length": 9, "width": 64, "layers": 2, "seed": 1}


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(0)
    return autoencoder(VAESettings(channels=(8, 16), groups=8), 16).eval()


def first_unet(vae, settings, folder, text=TEXT):
    return nodes.initialise_unet(vae, {}, text, settings, ModelResolver(folder, folder))


def text_model(settings=TEXT):
    return new_text_encoder(settings, TEXTS, ["old bird"]).model.requires_grad_(True)


def run_of(unet, text=None):
    """The name of the run that a first stage is, with a text model that is trained along or without."""
    module = continue_unet(unet, 8, grow=False)
    settings = TrainingSettings(steps=1, batch_size=1, learning_rate=1, device="cpu")
    return run_name(TextConditionedUNet(module, text) if text else module, Points(), settings)


@pytest.mark.parametrize("field", [each for each in UNetSettings.model_fields if each not in ("start", "lora")])
def test_every_setting_of_the_unet_makes_another_run(vae, tmp_path, field):
    changed = UNET.model_copy(update={field: UNET_CHANGED[field]})
    first, second = (first_unet(vae, each, tmp_path) for each in (UNET, changed))
    assert run_of(first) != run_of(second)
    assert run_of(first, text_model()) != run_of(second, text_model())


@pytest.mark.parametrize("field", [each for each in TextEncoderSettings.model_fields if each != "source"])
def test_every_setting_of_a_text_encoder_that_is_trained_along_makes_another_run(vae, tmp_path, field):
    changed = TEXT.model_copy(update={field: TEXT_CHANGED[field]})
    first, second = (run_of(first_unet(vae, UNET, tmp_path, each), text_model(each)) for each in (TEXT, changed))
    assert first != second
    assert run_of(first_unet(vae, UNET, tmp_path), text_model()) == first


def test_settings_of_a_text_encoder_that_have_no_tensor_make_another_run(vae, tmp_path):
    unet, text = first_unet(vae, UNET, tmp_path), text_model()
    other = copy.deepcopy(text)
    other.config.attention_dropout = 0.1
    assert run_of(unet, other) != run_of(unet, text)
    assert run_of(unet, copy.deepcopy(text).requires_grad_(False)) != run_of(unet, text)


def test_of_a_warm_start_the_weights_count_and_not_where_they_lie(vae, tmp_path):
    unet = first_unet(vae, UNET, tmp_path)
    for place in ("here", "there"):
        unet.save_pretrained(tmp_path / place)
        warm = UNET.model_copy(update={"start": str(tmp_path / place), "seed": 1})
        assert run_of(first_unet(vae, warm, tmp_path)) == run_of(unet)
    with torch.no_grad():
        next(unet.parameters())[0] += 1
    unet.save_pretrained(tmp_path / "other")
    other = UNET.model_copy(update={"start": str(tmp_path / "other")})
    assert run_of(first_unet(vae, other, tmp_path)) != run_of(first_unet(vae, UNET, tmp_path))


@pytest.fixture
def train(vae, tmp_path):
    """Trains a stage of four steps; the UNet and the steps that were trained."""
    rows = [(character, "brush", "long", text, 0) for character, text in zip("水氷火", TEXTS, strict=True)]
    captions = pd.DataFrame(rows, columns=["character", "style", "form", "text", "position"])
    numbers = np.random.default_rng(0)
    latents = {name: numbers.random((3, 4, 8, 8), dtype=np.float32) for name in ("mean", "std")}
    latents |= {"captions": np.arange(1, 4)[:, None], "shares": np.ones((3, 1), np.float32)}
    states = {"states": numbers.random((4, 5, 32), dtype=np.float32)}
    training = TrainingSettings(steps=4, batch_size=2, learning_rate=0.01, report_every=1, device="cpu")

    def run(settings):
        tracker = Recorder()
        unet = nodes.train_stage(
            latents=latents | {"repeats": np.ones(3, np.int64)},
            caption_states=states,
            captions=captions,
            start=first_unet(vae, settings, tmp_path),
            vae=vae,
            stage=nodes.StageSettings(resolution=16, training=training),
            schedule=ScheduleSettings(),
            loss=DiffusionLossSettings(),
            dropout=CaptionDropoutSettings(),
            settings=settings,
            cluster=ClusterSettings(),
            tracker=tracker,
            checkpoints=tmp_path / "checkpoints",
            name="16",
        )
        return unet, list(tracker.told.get("unet_16/loss", ()))

    return run


def test_a_stage_with_another_number_of_heads_is_trained_from_its_first_step(train, caplog):
    caplog.set_level("INFO", "kanji_diffusion")
    eight = UNET.model_copy(update={"heads": 8})
    first, steps = train(UNET)
    assert steps == [1, 2, 3, 4]
    assert "starts from step 0" not in caplog.text
    # The same tensors to start from: nothing but the number of heads tells the two apart.
    other, steps = train(eight)
    assert steps == [1, 2, 3, 4]
    assert "unet_16 starts from step 0: the other runs" in caplog.text
    assert other.config.attention_head_dim == 8
    assert tensors_fingerprint(other.state_dict()) != tensors_fingerprint(first.state_dict())
    for settings, trained in ((UNET, first), (eight, other)):
        caplog.clear()
        again, steps = train(settings)
        assert steps == []
        assert "unet_16 is finished: nothing changed since it was trained for 4 steps" in caplog.text
        assert tensors_fingerprint(again.state_dict()) == tensors_fingerprint(trained.state_dict())
