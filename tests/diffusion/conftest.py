"""Small models with random weights, and the real bundled text encoder."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.diffusion.text import TextEncoderSettings, load_text_encoder
from kanji_diffusion.diffusion.unet import UNetSettings, text_unet
from kanji_diffusion.diffusion.vae import VAESettings, autoencoder
from kanji_diffusion.sampling.export import assemble


@pytest.fixture(scope="session")
def text_encoder():
    return load_text_encoder(TextEncoderSettings(source="bundled", max_length=16))


@pytest.fixture(scope="session")
def model(text_encoder):
    """A whole pipeline for 16 x 16 pictures."""
    torch.manual_seed(0)
    vae = autoencoder(VAESettings(channels=(8, 16), latent_channels=4, groups=8), 16).eval()
    unet = text_unet(UNetSettings(channels=(32, 64), cross_attention=(False, True), groups=16), 4, 8, 384).eval()
    return assemble(vae, unet, text_encoder, ScheduleSettings(), "dpm++")


@pytest.fixture(scope="session")
def pictures():
    """Bent strokes, uint8 `[24, 32, 32]`."""
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(24):
        picture = Image.new("L", (32, 32), 255)
        ImageDraw.Draw(picture).line(generator.integers(2, 30, 8).tolist(), fill=0, width=2)
        drawn.append(np.asarray(picture))
    return np.stack(drawn)
