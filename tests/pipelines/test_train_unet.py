"""Nodes of train_unet: what is trained on what."""

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import AutoencoderKL

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.fingerprint import tensors_fingerprint
from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.datasets.model_source import ModelResolver
from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.diffusion.latents import LatentDataset, StyleRepeats, encode_glyphs
from kanji_diffusion.diffusion.text import TextEncoderSettings, load_text_encoder
from kanji_diffusion.diffusion.unet import UNetSettings
from kanji_diffusion.diffusion.vae import VAESettings, autoencoder
from kanji_diffusion.imaging.pictures import encode_images
from kanji_diffusion.imaging.resize import resize
from kanji_diffusion.pipelines.train_unet import create_pipeline, nodes
from kanji_diffusion.sampling.stage_prompts import choose_stage_prompts

TEXT = TextEncoderSettings(source="bundled", max_length=16)


@pytest.fixture(scope="module")
def captions() -> pd.DataFrame:
    rows = [
        ("水", "brush", "long", "water (brush kanji)"),
        ("水", "brush", "short", "liquid (brush kanji)"),
        ("水", "gothic", "long", "water (gothic kanji)"),
        ("火", "brush", "long", "fire (brush kanji)"),
    ]
    table = pd.DataFrame(rows, columns=["character", "style", "form", "text"])
    return table.assign(position=(table["form"] == "short").astype(int), share=[0.25, 0.75, 1.0, 1.0])


@pytest.fixture
def glyphs() -> pd.DataFrame:
    pictures = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    return pd.DataFrame(
        {
            "glyph_id": ["a", "b", "c"],
            "character": ["火", "水", "水"],
            "style": ["brush", "gothic", "brush"],
            "view": [0, 0, 1],
            "face_id": ["kouzan", "noto", "kouzan"],
            "split": "train",
            "image": encode_images(pictures),
        }
    )


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    torch.manual_seed(0)
    return autoencoder(VAESettings(channels=(8, 16), groups=8), 16).eval()


def stage_of(resolution, **settings):
    training = {"steps": 1, "batch_size": 1, "learning_rate": 1}
    return nodes.StageSettings.model_validate({"resolution": resolution, "training": training} | settings)


@pytest.fixture
def encode(vae, captions, glyphs):
    """Encodes what a stage is trained on; a character drawn for its structure, in one face, goes with it."""
    structure = glyphs[1:2].assign(glyph_id="s", character="沓", split="structure").reset_index(drop=True)
    told = pd.DataFrame(
        {"character": ["沓"], "style": "gothic", "form": "parts", "text": "top water, bottom day (gothic kanji)"}
    ).assign(position=0, share=1.0)

    def encode(stage, selected=None, gate=None, structure=structure):
        gate = {"vae": gate or tensors_fingerprint(vae.state_dict())}
        selected = glyphs[["glyph_id"]] if selected is None else selected
        return nodes.encode_latents(
            vae, gate, glyphs, selected, structure, captions, told, stage, StyleRepeats({"brush": 2, "structure": 3})
        )

    encode.captions = pd.concat([captions, told], ignore_index=True)
    encode.structure_captions = told
    return encode


def test_every_glyph_is_trained_with_the_states_of_its_own_captions(captions, glyphs, encode):
    settings = TextEncoderSettings(source="bundled", max_length=16)
    states = nodes.encode_captions(captions, encode.structure_captions, settings)["states"]
    latents = encode(stage_of(8, reads="styles"))
    dataset = LatentDataset(latents, states, latents["captions"], 0.5, shares=latents["shares"])
    index = torch.arange(300) % 3
    read = dataset.batch(index, SampleRandom(0, torch.arange(300)))["states"]
    encoder = load_text_encoder(settings)
    for row, glyph in glyphs.iterrows():
        own = captions[(captions["character"] == glyph["character"]) & (captions["style"] == glyph["style"])]
        expected = encoder.states(["", *own["text"]])
        seen = [[torch.allclose(one, other, atol=1e-5) for other in expected].index(True) for one in read[index == row]]
        assert set(seen) == set(range(len(expected)))


def test_prompts_of_a_sheet_are_captions_of_what_they_show(captions):
    prompts = choose_stage_prompts(captions, 2)
    for row, prompt in prompts.iterrows():
        assert captions.loc[row, "character"] == prompt["character"]
        assert captions.loc[row, "form"] == "long"


def test_latents_of_a_stage_are_of_its_resolution_and_of_the_selected_glyphs(encode):
    selected = pd.DataFrame({"glyph_id": ["a", "c"]})
    latents = encode(stage_of(8, reads="styles"), selected)
    assert latents["mean"].shape == latents["std"].shape == (2, 4, 4, 4)
    assert latents["repeats"].tolist() == [2, 2]
    first = encode(stage_of(8, reads="styles", views=1), selected)
    np.testing.assert_allclose(first["mean"], latents["mean"][:1], atol=1e-5)
    with pytest.raises(KanjiDiffusionError, match=r"reads the glyphs of `reads: styles`, their first 1 views"):
        encode(stage_of(8, reads="styles", views=1), selected[1:])
    with pytest.raises(KanjiDiffusionError, match="reads the glyphs of `reads: styles`, of which there is none"):
        encode(stage_of(8, reads="styles"), selected[:0])


def test_latents_that_are_encoded_block_by_block_are_those_of_all_at_once(vae, captions):
    pictures = np.random.default_rng(0).integers(0, 256, (150, 16, 16), dtype=np.uint8)
    table = pd.DataFrame({"character": "水", "style": "brush", "split": "train", "image": encode_images(pictures)})
    latents = encode_glyphs(vae, table, captions, 8, StyleRepeats({}))
    for found, expected in zip((latents["mean"], latents["std"]), vaes.encode(vae, resize(pictures, 8)), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_stage_reads_styles_or_structure_or_all(encode):
    rows = {reads: encode(stage_of(8, reads=reads)) for reads in ("styles", "structure", "all")}
    told = encode.captions["text"].tolist()
    texts = {
        reads: [[told[row - 1] for row in rows if row > 0] for rows in latents["captions"]]
        for reads, latents in rows.items()
    }
    built = ["top water, bottom day (gothic kanji)"]
    assert texts["structure"] == [["water (gothic kanji)"], built]
    assert len(texts["styles"]) == 3 and built not in texts["styles"]
    assert texts["all"] == [*texts["styles"], built]
    assert rows["all"]["repeats"].tolist() == [2, 1, 2, 3]
    np.testing.assert_allclose(rows["all"]["shares"].sum(axis=1), 1)
    assert rows["all"]["shares"][2].tolist() == [0.25, 0.75]


@pytest.mark.parametrize(("resolution", "gate"), [(9, None), (32, None), (16, "another")])
def test_impossible_stages_and_unchecked_autoencoders_are_refused(encode, resolution, gate):
    with pytest.raises(KanjiDiffusionError, match=r"has not passed its gate|must be a multiple of 2"):
        encode(stage_of(resolution), gate=gate)


def test_two_stages_of_one_resolution_have_a_curve_each():
    trained = [node for node in create_pipeline(["thin_64", "thick_64"]).nodes if node.name.endswith("train_stage")]
    assert {node.namespace: node.func.keywords["name"] for node in trained} == {
        "thin_64": "thin_64",
        "thick_64": "thick_64",
    }


def test_a_first_stage_starts_from_an_earlier_version_with_new_characters(vae, captions, tmp_path):
    settings = UNetSettings(channels=(32, 64), cross_attention=(False, True), groups=16)
    text, models = TEXT, ModelResolver(tmp_path, tmp_path)
    known = nodes.encode_captions(captions[captions["character"] == "水"], captions.head(0), text)
    first = nodes.initialise_unet(vae, known, TEXT, settings, models)
    first.save_pretrained(tmp_path / "small" / "unet" / "2026" / "unet")
    new = nodes.encode_captions(captions, captions.head(0), text)
    warm = settings.model_copy(update={"start": "small.unet:2026", "seed": 1})
    second = nodes.initialise_unet(vae, new, TEXT, warm, models)
    assert tensors_fingerprint(second.state_dict()) == tensors_fingerprint(first.state_dict())
    cold = nodes.initialise_unet(vae, new, TEXT, settings.model_copy(update={"seed": 1}), models)
    assert tensors_fingerprint(cold.state_dict()) != tensors_fingerprint(first.state_dict())
