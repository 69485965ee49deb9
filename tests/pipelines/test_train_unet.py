"""Nodes of train_unet: what is trained on what."""

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import AutoencoderKL
from tests.training.conftest import Points, Recorder, run_name

from kanji_diffusion.cluster import ClusterSettings
from kanji_diffusion.diffusion.latents import CaptionDropoutSettings, LatentStore, StyleRepeats
from kanji_diffusion.diffusion.loss import DiffusionLossSettings
from kanji_diffusion.diffusion.pooling import whitened_pooling
from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.diffusion.text import TextEncoderSettings, load_text_encoder
from kanji_diffusion.diffusion.unet import UNetSettings, continue_unet
from kanji_diffusion.diffusion.vae import VAESettings, autoencoder
from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.render import encode_images
from kanji_diffusion.pipelines.train_unet import nodes
from kanji_diffusion.training.checkpoint import tensors_fingerprint
from kanji_diffusion.training.loop import TrainingSettings
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


# A changed value for every field but `start`, which is a place: the weights that lie there count.
ARCHITECTURE = {
    "channels": (64, 64),
    "cross_attention": (True, True),
    "layers": 2,
    "heads": 8,
    "groups": 8,
    "global_text": False,
    "time_modulation": "default",
    "seed": 1,
}
SMALL = UNetSettings(channels=(32, 64), cross_attention=(False, True), groups=16)


@pytest.fixture(scope="module")
def caption_states(captions) -> dict[str, np.ndarray]:
    return nodes.encode_captions(captions, TextEncoderSettings(max_length=16))


@pytest.fixture
def run_of(vae, caption_states, tmp_path):
    """The name of the run that a first stage with these settings is."""

    def find(settings: UNetSettings) -> str:
        start = nodes.initialise_unet(vae, caption_states, settings, ScheduleSettings(), tmp_path)
        unet = continue_unet(start, 8, grow=False)
        with whitened_pooling(unet, caption_states):
            return run_name(unet, Points(), TrainingSettings(steps=1, batch_size=1, learning_rate=1, device="cpu"))

    return find


@pytest.mark.parametrize("field", [field for field in UNetSettings.model_fields if field != "start"])
def test_every_setting_of_the_unet_makes_another_run(run_of, field):
    assert run_of(SMALL.model_copy(update={field: ARCHITECTURE[field]})) != run_of(SMALL)


def test_of_a_warm_start_the_weights_count_and_not_where_they_lie(run_of, vae, caption_states, tmp_path):
    unet = nodes.initialise_unet(vae, caption_states, SMALL, ScheduleSettings(), tmp_path)
    for place in ("here", "there"):
        unet.save_pretrained(tmp_path / place)
        assert run_of(SMALL.model_copy(update={"start": str(tmp_path / place), "seed": 1})) == run_of(SMALL)
    with torch.no_grad():
        next(unet.parameters())[0] += 1
    unet.save_pretrained(tmp_path / "other")
    assert run_of(SMALL.model_copy(update={"start": str(tmp_path / "other")})) != run_of(SMALL)


@pytest.fixture
def train(vae, captions, caption_states, glyphs, tmp_path):
    """Trains a stage of four steps; the UNet and the steps that were trained."""
    stage = nodes.StageSettings(
        resolution=16,
        training=TrainingSettings(steps=4, batch_size=2, learning_rate=0.01, report_every=1, device="cpu"),
    )
    gate = {"vae": tensors_fingerprint(vae.state_dict())}
    latents = nodes.encode_latents(vae, gate, glyphs, glyphs[["glyph_id"]], stage)

    def run(settings: UNetSettings):
        tracker = Recorder()
        unet = nodes.train_stage(
            latents=latents,
            caption_states=caption_states,
            captions=captions,
            glyphs=glyphs,
            selected=glyphs[["glyph_id"]],
            start=nodes.initialise_unet(vae, caption_states, settings, ScheduleSettings(), tmp_path),
            vae=vae,
            stage=stage,
            schedule=ScheduleSettings(),
            loss=DiffusionLossSettings(),
            dropout=CaptionDropoutSettings(),
            repeats=StyleRepeats({}),
            cluster=ClusterSettings(),
            tracker=tracker,
            checkpoints=tmp_path / "checkpoints",
        )
        return unet, list(tracker.told.get("unet_16/loss", ()))

    return run


def test_a_stage_with_another_number_of_heads_is_trained_from_its_first_step(train, caplog):
    caplog.set_level("INFO", "kanji_diffusion")
    first, steps = train(SMALL)
    assert steps == [1, 2, 3, 4]
    assert "unet_16 starts from step 0" not in caplog.text
    # The same tensors to start from: nothing but the number of heads tells the two apart.
    other, steps = train(SMALL.model_copy(update={"heads": 8}))
    assert steps == [1, 2, 3, 4]
    assert "unet_16 starts from step 0" in caplog.text
    assert other.config.attention_head_dim == 8
    assert tensors_fingerprint(other.state_dict()) != tensors_fingerprint(first.state_dict())
    for settings, trained in ((SMALL, first), (SMALL.model_copy(update={"heads": 8}), other)):
        caplog.clear()
        again, steps = train(settings)
        assert steps == []
        assert "unet_16 is finished" in caplog.text and "it is not trained again" in caplog.text
        assert tensors_fingerprint(again.state_dict()) == tensors_fingerprint(trained.state_dict())
