"""Nodes of train_unet: what is trained on what."""

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import AutoencoderKL

from kanji_diffusion.diffusion.latents import LatentStore
from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.diffusion.text import TextEncoderSettings, load_text_encoder
from kanji_diffusion.diffusion.unet import UNetSettings
from kanji_diffusion.diffusion.vae import VAESettings, autoencoder
from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.render import encode_images
from kanji_diffusion.pipelines.train_unet import nodes
from kanji_diffusion.training.checkpoint import tensors_fingerprint
from kanji_diffusion.training.randomness import SampleRandom


@pytest.fixture(scope="module")
def captions() -> pd.DataFrame:
    rows = [
        ("水", "brush", "long", "water (brush kanji)"),
        ("水", "brush", "short", "liquid (brush kanji)"),
        ("水", "gothic", "long", "water (gothic kanji)"),
        ("火", "brush", "long", "fire (brush kanji)"),
    ]
    return pd.DataFrame(rows, columns=["character", "style", "form", "text"])


@pytest.fixture
def glyphs() -> pd.DataFrame:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    return pd.DataFrame(
        {
            "glyph_id": ["a", "b", "c"],
            "character": ["火", "水", "水"],
            "style": ["brush", "gothic", "brush"],
            "view": [0, 0, 1],
            "image": encode_images(pictures),
        }
    )


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    torch.manual_seed(0)
    return autoencoder(VAESettings(channels=(8, 16), groups=8), 16).eval()


def test_every_glyph_is_trained_with_the_states_of_its_own_captions(captions, glyphs):
    settings = TextEncoderSettings(max_length=16)
    states = nodes.encode_captions(captions, settings)["states"]
    store = LatentStore(
        {"mean": np.zeros((3, 1, 1, 1), np.float32), "std": np.zeros((3, 1, 1, 1), np.float32)},
        states,
        nodes.state_rows(glyphs, captions),
        0.5,
    )
    index = torch.arange(300) % 3
    read = store.gather(index, SampleRandom(0, torch.arange(300)))["states"]
    encoder = load_text_encoder(settings)
    for row, glyph in glyphs.iterrows():
        own = captions[(captions["character"] == glyph["character"]) & (captions["style"] == glyph["style"])]
        expected = encoder.states(["", *own["text"]])
        seen = [[torch.allclose(one, other, atol=1e-5) for other in expected].index(True) for one in read[index == row]]
        assert set(seen) == set(range(len(expected)))


def test_prompts_of_a_sheet_are_captions_of_what_they_show(captions):
    prompts = nodes._spread(captions, 2)
    for row, prompt in prompts.iterrows():
        assert captions.loc[row, "character"] == prompt["character"]
        assert captions.loc[row, "form"] == "long"


def test_latents_of_a_stage_are_of_its_resolution_and_of_the_selected_glyphs(vae, glyphs):
    gate = {"vae": tensors_fingerprint(vae.state_dict())}
    stage = nodes.StageSettings.model_validate(
        {"resolution": 8, "training": {"steps": 1, "batch_size": 1, "learning_rate": 1}}
    )
    selected = pd.DataFrame({"glyph_id": ["a", "c"]})
    latents = nodes.encode_latents(vae, gate, glyphs, selected, stage)
    assert latents["mean"].shape == latents["std"].shape == (2, 4, 4, 4)
    first = nodes.encode_latents(vae, gate, glyphs, selected, stage.model_copy(update={"views": 1}))
    np.testing.assert_allclose(first["mean"], latents["mean"][:1], atol=1e-5)
    with pytest.raises(KanjiDiffusionError, match=r"reads the first 1 of the views .* of which there is none"):
        nodes.encode_latents(vae, gate, glyphs, selected[1:], stage.model_copy(update={"views": 1}))
    with pytest.raises(KanjiDiffusionError, match="reads the selected glyphs, of which there is none"):
        nodes.encode_latents(vae, gate, glyphs, selected[:0], stage)


@pytest.mark.parametrize(("resolution", "gate"), [(9, None), (32, None), (16, "another")])
def test_impossible_stages_and_unchecked_autoencoders_are_refused(vae, glyphs, resolution, gate):
    gate = {"vae": gate or tensors_fingerprint(vae.state_dict())}
    stage = nodes.StageSettings.model_validate(
        {"resolution": resolution, "training": {"steps": 1, "batch_size": 1, "learning_rate": 1}}
    )
    with pytest.raises(KanjiDiffusionError, match=r"has not passed its gate|must be a multiple of 2"):
        nodes.encode_latents(vae, gate, glyphs, glyphs[["glyph_id"]], stage)


def test_a_first_stage_starts_from_an_earlier_version_with_new_characters(vae, captions, tmp_path):
    settings = UNetSettings(channels=(32, 64), cross_attention=(False, True), groups=16)
    text = TextEncoderSettings(max_length=16)
    known = nodes.encode_captions(captions[captions["character"] == "水"], text)
    first = nodes.initialise_unet(vae, known, settings, ScheduleSettings(), tmp_path)
    first.save_pretrained(tmp_path / "small" / "unet" / "2026" / "unet")
    new = nodes.encode_captions(captions, text)
    warm = settings.model_copy(update={"start": "small.unet:2026", "seed": 1})
    second = nodes.initialise_unet(vae, new, warm, ScheduleSettings(), tmp_path)
    assert tensors_fingerprint(second.state_dict()) == tensors_fingerprint(first.state_dict())
    cold = nodes.initialise_unet(vae, new, settings.model_copy(update={"seed": 1}), ScheduleSettings(), tmp_path)
    assert tensors_fingerprint(cold.state_dict()) != tensors_fingerprint(first.state_dict())
