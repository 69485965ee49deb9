"""What of diffusers goes with an exported folder, as the README says."""

import numpy as np
import pytest
import torch
from diffusers import (
    AutoPipelineForImage2Image,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)
from PIL import Image

from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.diffusion.text import TextEncoderSettings, new_text_encoder
from kanji_diffusion.diffusion.unet import UNetSettings, text_unet
from kanji_diffusion.diffusion.vae import VAESettings, autoencoder
from kanji_diffusion.sampling.export import assemble

PROMPT = "sea: left water, right every (brush kanji)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model as the default trains one: with a text encoder of its own, and a latent channel left out."""
    torch.manual_seed(0)
    vae = autoencoder(VAESettings(channels=(8, 16), latent_channels=3, groups=8), 16).eval()
    text = new_text_encoder(TextEncoderSettings(max_length=12, width=32), [PROMPT, "fire (gothic kanji)"], [])
    unet = text_unet(UNetSettings(channels=(32, 64), cross_attention=(False, True), groups=16), 3, 8, text.width)
    folder = tmp_path_factory.mktemp("exported")
    assemble(vae, unet.eval(), text, ScheduleSettings(), "ddim").save_pretrained(folder)
    return folder


@pytest.fixture
def stock(folder):
    pipeline = StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def call(pipeline, prompt=PROMPT, **options):
    """The first picture, int `[H, W]`."""
    given = {"num_inference_steps": 3, "guidance_scale": 3.0, "generator": torch.Generator().manual_seed(0)} | options
    (picture, *_) = pipeline(prompt, **given).images
    assert picture.mode == "L"
    return np.asarray(picture).astype(int)


def test_states_of_prompts_give_the_picture_of_the_prompts(stock):
    states, negative = stock.encode_prompt(PROMPT, "cpu", 1, True, "fire")
    expected = call(stock, negative_prompt="fire")
    assert np.array_equal(expected, call(stock, None, prompt_embeds=states, negative_prompt_embeds=negative))
    assert not np.array_equal(expected, call(stock))


def test_there_is_no_clip_skip_since_the_text_encoder_is_not_clip(stock):
    with pytest.raises(AttributeError, match="text_model"):
        call(stock, clip_skip=1)


def test_a_prompt_that_is_too_long_is_cut_off(stock):
    assert np.array_equal(call(stock, "water " * 10), call(stock, "water " * 50))


def test_attention_slicing_and_fused_projections_draw_the_same(stock):
    expected = call(stock)
    stock.enable_attention_slicing()
    stock.unet.fuse_qkv_projections()
    assert np.abs(expected - call(stock)).max() <= 1


def test_there_is_no_safety_checker(stock):
    assert stock.safety_checker is None
    assert stock(PROMPT, num_inference_steps=1).nsfw_content_detected is None


def test_a_textual_inversion_is_a_token_of_the_prompt(stock):
    expected = call(stock, "<mine> (brush kanji)")
    stock.load_textual_inversion({"<mine>": torch.randn(32)}, token="<mine>")
    assert stock.tokenizer.tokenize("<mine> (brush kanji)")[0] == "<mine>"
    assert not np.array_equal(expected, call(stock, "<mine> (brush kanji)"))


def test_image_to_image_takes_pictures_of_one_channel(folder, stock):
    picture = Image.fromarray(np.full((16, 16), 200, np.uint8))
    loaded = AutoPipelineForImage2Image.from_pretrained(folder)
    for pipeline in (StableDiffusionImg2ImgPipeline.from_pipe(stock), loaded):
        pipeline.set_progress_bar_config(disable=True)
        assert call(pipeline, image=picture, strength=0.7).shape == (16, 16)
    with pytest.raises(RuntimeError, match="to have 1 channels, but got 3 channels"):
        call(pipeline, image=picture.convert("RGB"), strength=0.7)


def test_inpainting_needs_four_channels_in_a_latent(stock):
    picture = Image.fromarray(np.full((16, 16), 200, np.uint8))
    pipeline = StableDiffusionInpaintPipeline.from_pipe(stock)
    with pytest.raises(ValueError, match="should have either 4 or 9 input channels, not 3"):
        call(pipeline, image=picture, mask_image=picture, height=16, width=16)
