"""A UNet from elsewhere meets the latents, the text states and the diffusion process that it was trained with."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from tests.hub_models import SCHEDULE, UNET, WIDTH, hub_folder, stock_picture

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.datasets.model_source import ModelResolver
from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.compatibility import check_start
from kanji_diffusion.diffusion.lora import LoraSettings
from kanji_diffusion.diffusion.text import TextEncoderSettings
from kanji_diffusion.diffusion.unet import UNetSettings, continue_unet
from kanji_diffusion.diffusion.vae_loss import VAELossSettings
from kanji_diffusion.diffusion.vae_training import VAERecipe, train_autoencoder
from kanji_diffusion.pipelines.train_unet import nodes
from kanji_diffusion.sampling.export import TextToKanji
from kanji_diffusion.sampling.sampler import DrawingSettings, SamplingSettings, draw
from kanji_diffusion.training.loop import train
from kanji_diffusion.training.settings import TrainingSettings

__all__ = ["hub_folder"]

PROMPT = (
    "kanji character representing water, traditional calligraphy style, black ink on white paper, high contrast, "
    "detailed strokes, clear lines, professional quality, artistic interpretation"
)


def recipe(source, **settings):
    model = vaes.VAESettings(source=str(source), fold_statistics=False, **settings)
    training = TrainingSettings(steps=3, batch_size=2, learning_rate=0.01, device="cpu")
    return VAERecipe(model, VAELossSettings(), training, None, 16)


def test_without_a_step_of_training_it_draws_what_the_stock_pipeline_draws(hub_folder, pictures, tmp_path):
    source = str(hub_folder)
    settings, text = UNetSettings(**UNET, start=source), TextEncoderSettings(source=source, max_length=77)
    vae = train_autoencoder(pictures, recipe(source), None, train)
    states = {"states": np.zeros((1, 77, WIDTH), np.float32)}
    unet = nodes.initialise_unet(vae, states, text, settings, ModelResolver(tmp_path, tmp_path))
    stage = continue_unet(unet, 8, grow=False).eval()
    model = nodes.assemble_model(stage, vae, text, SCHEDULE, SamplingSettings(sampler="plms"), settings)
    model.save_pretrained(tmp_path)
    classic = DrawingSettings(sampler="plms", steps=50, guidance_scale=7.5, batch_size=1, device="cpu")
    (drawn,) = draw(TextToKanji.from_pretrained(tmp_path).pipeline, [PROMPT], [3], classic)
    assert drawn.std() > 10
    for folder in (hub_folder, tmp_path):
        stock = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
        # As ours is: another memory layout rounds a few pixels otherwise.
        stock.vae.to(memory_format=torch.channels_last)
        assert np.array_equal(drawn, stock_picture(stock, PROMPT, 3, classic)), folder
    assert not np.array_equal(drawn, stock_picture(stock, "fire", 3, classic))


def test_published_latents_are_scaled_and_stay_what_they_are(hub_folder, pictures):
    vae = train_autoencoder(pictures, recipe(hub_folder), None, train)
    published = StableDiffusionPipeline.from_pretrained(hub_folder, safety_checker=None).vae
    assert vae.config["scaling_factor"] == published.config["scaling_factor"] == 0.18215
    assert vae.state_dict().keys() == published.state_dict().keys()
    mean, std = vaes.encode(vae, pictures)
    pixels = vaes.vae_input(published, vaes.to_model_range(pictures))
    expected = published.encode(pixels).latent_dist
    np.testing.assert_allclose(mean, expected.mean.detach() * 0.18215, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(std, expected.std.detach() * 0.18215, rtol=1e-5, atol=1e-6)
    # Its decoder may be trained further, its latents not.
    tuned = train_autoencoder(pictures, recipe(hub_folder, fine_tune=True), None, train)
    for ours, before in zip(vaes.encode(tuned, pictures), (mean, std), strict=True):
        np.testing.assert_array_equal(ours, before)
    assert not np.array_equal(tuned.decoder.conv_in.weight.detach(), vae.decoder.conv_in.weight.detach())


def settings_of(folder, changes):
    """Settings that fit the folder, but for `changes` of each group."""
    source = str(folder)
    return [
        UNetSettings(**UNET | {"start": source} | changes.get("unet", {})),
        vaes.VAESettings(**{"source": source, "fold_statistics": False} | changes.get("vae", {})),
        TextEncoderSettings(**{"source": source, "max_length": 77} | changes.get("text", {})),
        SCHEDULE.model_copy(update=changes.get("schedule", {})),
    ]


def test_what_fits_is_let_through(hub_folder):
    check_start(str(hub_folder), *settings_of(hub_folder, {"unet": {"lora": LoraSettings()}}))
    # How pictures are sampled is no matter of training.
    check_start(str(hub_folder), *settings_of(hub_folder, {"schedule": {"spacing": "trailing"}}))
    # A UNet alone tells neither its process nor its latents.
    check_start(str(hub_folder / "unet"), *settings_of(hub_folder, {"schedule": {"prediction": "sample"}}))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"schedule": {"prediction": "v_prediction"}},
            "prediction_type epsilon, but `schedule.prediction` makes it v_pred",
        ),
        ({"schedule": {"betas": "linear"}}, "with beta_schedule scaled_linear, but `schedule.betas` makes it linear"),
        ({"schedule": {"beta_end": 0.02}}, "with beta_end 0.012, but `schedule.beta_end` makes it 0.02: give it what"),
        ({"schedule": {"timesteps": 500}}, "with num_train_timesteps 1000, but `schedule.timesteps` makes it 500"),
        ({"schedule": {"zero_terminal_snr": True}}, "rescale_betas_zero_snr False, but `schedule.zero_terminal_snr`"),
        (
            {"vae": {"fold_statistics": True}},
            "of the scale 0.18215, but those of `vae` have 1.0, with their statistics",
        ),
        ({"vae": {"source": "trained", "fold_statistics": True}}, "of the scale 0.18215, but those of `vae` have 1.0"),
        ({"vae": {"source": "{wide}"}}, "has in_channels 4, but `vae.model.latent_channels` asks for 8"),
        ({"text": {"source": "bundled"}}, "has cross_attention_dim 32, but `text_encoder` asks for 384"),
        ({"text": {"source": "trained", "width": 64}}, "has cross_attention_dim 32, but `text_encoder` asks for 64"),
        ({"unet": {"layers": 2}}, "has layers_per_block 1, but `unet.layers` asks for 2"),
        ({"unet": {"lora": LoraSettings(target_modules=("to_q", "to_z"))}}, "names 'to_z', as no linear layer"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(hub_folder, tmp_path, changes, sentence):
    if changes.get("vae", {}).get("source") == "{wide}":
        vaes.autoencoder(vaes.VAESettings(channels=(8, 8), groups=8, latent_channels=8), 16).save_config(tmp_path)
        changes = {"vae": {"source": str(tmp_path)}}
    with pytest.raises(KanjiDiffusionError) as refused:
        check_start(str(hub_folder), *settings_of(hub_folder, changes))
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_autoencoder_of_an_earlier_run_is_refused_too(hub_folder, tmp_path):
    vae = vaes.autoencoder(vaes.VAESettings(channels=(8, 16), groups=8), 16)
    text = TextEncoderSettings(source="bundled")
    with pytest.raises(KanjiDiffusionError, match=r"of the scale 0\.18215, but those of `vae` have 1\.0"):
        nodes.initialise_unet(
            vae,
            {"states": np.zeros((1, 77, WIDTH), np.float32)},
            text,
            UNetSettings(**UNET, start=str(hub_folder)),
            ModelResolver(tmp_path, tmp_path),
        )


def test_shifted_latents_have_no_published_scale(hub_folder, tmp_path):
    vae = vaes.pretrained_autoencoder(str(hub_folder), published_scale=True)
    vae.register_to_config(shift_factor=0.1)
    vae.save_pretrained(tmp_path)
    with pytest.raises(KanjiDiffusionError, match="its latents are shifted, not scaled alone"):
        vaes.pretrained_autoencoder(str(tmp_path), published_scale=True)


@pytest.mark.parametrize(
    ("source", "is_name"),
    [
        ("stabilityai/sd-vae-ft-mse", True),
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", True),
        ("styles_32.unet:2026-11-22T22.33.53.517Z", False),
        ("models:/kanji-diffusion/1", False),
        ("./some/folder", False),
        ("~/models/unet", False),
        ("/models/unet", False),
        ("released", False),
    ],
)
def test_a_hub_name_is_no_other_source(source, is_name, tmp_path):
    resolver = ModelResolver(tmp_path, tmp_path)
    if is_name:
        assert resolver.find_or_hub(source, "unet.start") == source
    elif not source.startswith("models:"):
        with pytest.raises(KanjiDiffusionError, match=r"is not in|there is no model in"):
            resolver.find_or_hub(source, "unet.start")
