"""The autoencoder's latents, trained here or brought from elsewhere."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from huggingface_hub import constants
from tests.training.conftest import Points, run_name

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.diffusion.unet import UNetSettings, text_unet
from kanji_diffusion.sampling.export import assemble
from kanji_diffusion.sampling.sampler import SamplingSettings, draw
from kanji_diffusion.training.settings import TrainingSettings


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return vaes.autoencoder(vaes.VAESettings(channels=(8, 16), groups=8), 32).eval()


def stock(**changes):
    """An AutoencoderKL of the hub's kind: three channels, latents that are not standardised."""
    torch.manual_seed(1)
    config = {
        "in_channels": 3, "out_channels": 3, "block_out_channels": (8, 16), "norm_num_groups": 8, "sample_size": 32,
        "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
    }  # fmt: skip
    vae = AutoencoderKL(**config | changes).eval()
    with torch.no_grad():
        (vae.quant_conv or vae.encoder.conv_out).weight[:4] *= 5
    return vae


def assert_standardised(vae, pictures):
    mean, std = vaes.encode(vae, pictures)
    np.testing.assert_allclose(mean.mean(axis=(0, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(mean.var(axis=(0, 2, 3)) + np.square(std).mean(axis=(0, 2, 3)), 1, atol=1e-3)
    assert vae.config.scaling_factor == 1


def test_folding_standardises_the_latents_and_changes_no_picture(vae, pictures):
    mean, std = vaes.encode(vae, pictures)
    before = vaes.decode(vae, torch.as_tensor(mean))
    vaes.fold_latent_statistics(vae, mean, std)
    assert_standardised(vae, pictures)
    after = vaes.decode(vae, torch.as_tensor(vaes.encode(vae, pictures)[0]))
    assert np.abs(after.astype(int) - before).max() <= 1


def test_stock_diffusers_decodes_what_we_decode(vae, pictures, tmp_path):
    vaes.fold_latent_statistics(vae, *vaes.encode(vae, pictures))
    vae.save_pretrained(tmp_path)
    theirs = AutoencoderKL.from_pretrained(tmp_path)
    latents = torch.as_tensor(vaes.encode(vae, pictures)[0])
    with torch.no_grad():
        decoded = theirs.decode(latents / theirs.config.scaling_factor).sample
    drawn = VaeImageProcessor().postprocess(decoded, output_type="pil")
    ours = vaes.decode(vae, latents)
    assert np.array_equal(np.stack([np.asarray(picture) for picture in drawn]), ours)


def test_latent_channels_that_hold_nothing_are_left_out(pictures, tmp_path):
    vae = vaes.autoencoder(vaes.VAESettings(channels=(8, 16), groups=8, latent_channels=4), 32).eval()
    with torch.no_grad():
        vae.quant_conv.weight[[0, 2]] *= 20
        for rows in ([1, 3], [5, 7]):
            vae.quant_conv.weight[rows] *= 1e-3
            vae.quant_conv.bias[rows] = 0
        vae.post_quant_conv.bias.zero_()
    mean, std = vaes.encode(vae, pictures)
    left = vaes.without_empty_channels(vae, mean, std)
    left.save_pretrained(tmp_path)
    left = AutoencoderKL.from_pretrained(tmp_path).eval()
    assert left.config.latent_channels == 2
    for ours, theirs in zip(vaes.encode(left, pictures), (mean, std), strict=True):
        np.testing.assert_allclose(ours, theirs[:, [0, 2]], rtol=1e-3, atol=1e-4)
    drawn = vaes.decode(left, torch.as_tensor(mean[:, [0, 2]]))
    assert np.abs(drawn.astype(int) - vaes.decode(vae, torch.as_tensor(mean))).max() <= 1
    assert vaes.without_empty_channels(left, *vaes.encode(left, pictures)) is left


@pytest.mark.parametrize(("channels", "covers"), [((8, 16, 16), 4), ((8, 8, 16, 16), 8)])
def test_configuration_says_how_many_pixels_a_latent_covers(pictures, channels, covers):
    vae = vaes.autoencoder(vaes.VAESettings(channels=channels, groups=8, latent_channels=3), 32).eval()
    assert vaes.factor(vae) == covers
    mean, _ = vaes.encode(vae, pictures)
    assert mean.shape == (24, 3, 32 // covers, 32 // covers)
    assert vaes.decode(vae, torch.as_tensor(mean)).shape == pictures.shape


@pytest.mark.parametrize("place", ["folder", "pipeline", "hub"])
def test_a_pretrained_autoencoder_takes_the_same_road(pictures, tmp_path, monkeypatch, place):
    original = stock()
    if place == "folder":
        source = tmp_path
        original.save_pretrained(source)
    elif place == "pipeline":
        source = tmp_path
        original.save_pretrained(source / "vae")
        (source / "model_index.json").write_text("{}")
    else:
        source = "someone/vae"
        commit = "0123456789abcdef0123456789abcdef01234567"
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        original.save_pretrained(tmp_path / "models--someone--vae" / "snapshots" / commit)
        (tmp_path / "models--someone--vae" / "refs").mkdir()
        (tmp_path / "models--someone--vae" / "refs" / "main").write_text(commit)
    vae = vaes.pretrained_autoencoder(str(source))
    vaes.fold_latent_statistics(vae, *vaes.encode(vae, pictures))
    assert_standardised(vae, pictures)
    with torch.no_grad():
        pixels = vaes.to_model_range(pictures).expand(-1, 3, -1, -1)
        theirs = original.decode(original.encode(pixels).latent_dist.mode()).sample
    ours = vaes.decode(vae, torch.as_tensor(vaes.encode(vae, pictures)[0]))
    assert np.abs((theirs / 2 + 0.5).clamp(0, 1).mean(dim=1).numpy() * 255 - ours).max() < 1.5


def test_a_pretrained_autoencoder_without_latent_convolutions_gets_them(pictures, tmp_path):
    stock(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1, scaling_factor=0.36).save_pretrained(
        tmp_path / "from"
    )
    vae = vaes.pretrained_autoencoder(str(tmp_path / "from"))
    mean, std = vaes.encode(vae, pictures)
    before = vaes.decode(vae, torch.as_tensor(mean))
    vaes.fold_latent_statistics(vae, mean, std)
    vae.save_pretrained(tmp_path / "to")
    again = AutoencoderKL.from_pretrained(tmp_path / "to")
    assert again.config.shift_factor is None
    assert_standardised(again, pictures)
    after = vaes.decode(again, torch.as_tensor(vaes.encode(again, pictures)[0]))
    assert np.abs(after.astype(int) - before).max() <= 1


def test_a_model_with_three_channels_draws_what_the_stock_pipeline_draws(pictures, text_encoder, tmp_path):
    stock().save_pretrained(tmp_path / "vae")
    vae = vaes.pretrained_autoencoder(str(tmp_path / "vae"))
    vaes.fold_latent_statistics(vae, *vaes.encode(vae, pictures))
    unet = text_unet(UNetSettings(channels=(32, 64), cross_attention=(False, True), groups=16), 4, 16, 384).eval()
    model = assemble(vae, unet, text_encoder, ScheduleSettings(), "dpm++")
    ours = draw(model, ["water (brush kanji)"], [3], SamplingSettings(steps=4, guidance_scale=3.0))[0]
    model.save_pretrained(tmp_path / "model")
    theirs = DiffusionPipeline.from_pretrained(tmp_path / "model")
    theirs.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(3)
    picture = theirs("water (brush kanji)", num_inference_steps=4, guidance_scale=3.0, generator=generator).images[0]
    assert picture.mode == "RGB"
    assert np.abs(np.asarray(picture).mean(axis=2) - ours).max() < 1.5
    assert ours.std() > 0


def nothing(folder):
    folder.rmdir()


def another_model(folder):
    UNet2DConditionModel(
        block_out_channels=(32, 32), down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        cross_attention_dim=8,
    ).save_pretrained(folder)  # fmt: skip


def a_pickle(folder):
    stock().save_pretrained(folder, safe_serialization=False)


def half_the_weights(folder):
    stock().save_pretrained(folder)
    deeper = vaes.VAESettings(channels=(8, 16), groups=8, layers=2)
    vaes.autoencoder(deeper, 32).save_config(folder)


def four_channels(folder):
    stock(in_channels=4, out_channels=4).save_pretrained(folder)


def no_weights(folder):
    stock().save_pretrained(folder)
    (folder / "diffusion_pytorch_model.safetensors").write_bytes(b"nothing of the kind")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (nothing, "config.json"),
        (another_model, "of the class UNet2DConditionModel, not AutoencoderKL"),
        (a_pickle, "no file named diffusion_pytorch_model.safetensors"),
        (half_the_weights, "weights do not fit its configuration|size mismatch|shape"),
        (four_channels, "pictures of 4 channels"),
        (no_weights, "Unable to load weights"),
    ],
)
def test_what_is_no_autoencoder_is_refused_in_one_sentence(tmp_path, make, reason):
    folder = tmp_path / "vae"
    folder.mkdir()
    make(folder)
    with pytest.raises(
        KanjiDiffusionError, match=rf"cannot be used \(.*({reason}).*\): set `vae\.model\.source`"
    ) as told:
        vaes.pretrained_autoencoder(str(folder))
    assert "\n" not in str(told.value)


# A changed value for every field; None for one that says which weights are trained, or how they are changed afterwards.
# Weights count.
ARCHITECTURE = {
    "source": None,
    "fine_tune": None,
    "fold_statistics": None,
    "channels": (8, 8),
    "latent_channels": 3,
    "layers": 2,
    "groups": 4,
    "mid_attention": True,
}


def run_of(vae):
    return run_name(vae, Points(), TrainingSettings(steps=1, batch_size=1, learning_rate=1, device="cpu"))


@pytest.mark.parametrize("field", [each for each in vaes.VAESettings.model_fields if ARCHITECTURE[each] is not None])
def test_every_setting_of_the_autoencoder_makes_another_run(vae, field):
    torch.manual_seed(0)
    settings = vaes.VAESettings(**{"channels": (8, 16), "groups": 8} | {field: ARCHITECTURE[field]})
    assert run_of(vaes.autoencoder(settings, 32)) != run_of(vae)


def test_of_a_pretrained_autoencoder_the_weights_count_and_not_where_they_lie(tmp_path):
    model, runs = stock(), []
    for place in ("here", "there", "other"):
        if place == "other":
            with torch.no_grad():
                model.decoder.conv_in.bias += 1
        model.save_pretrained(tmp_path / place)
        runs.append(run_of(vaes.pretrained_autoencoder(str(tmp_path / place))))
    assert runs[0] == runs[1] != runs[2]


def test_a_frozen_encoder_makes_another_run(vae):
    before = run_of(vae)
    with vaes.frozen_encoder(vae):
        assert run_of(vae) != before
    assert run_of(vae) == before
