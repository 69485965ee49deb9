"""The model learns one word more: what it reads of all others stays, and a stopped training ends with the same bits."""

import os
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from tests.adaptation.conftest import toy

from kanji_diffusion.adaptation.face import read_face
from kanji_diffusion.adaptation.references import reference_characters
from kanji_diffusion.adaptation.training import learn_style, with_style_word
from kanji_diffusion.core.cluster import ClusterSettings
from kanji_diffusion.core.errors import TrainingInterrupted
from kanji_diffusion.diffusion.latents import CaptionDropoutSettings
from kanji_diffusion.diffusion.text import TextEncoder
from kanji_diffusion.glyphs.captions import CaptionSettings
from kanji_diffusion.glyphs.fonts import FontSettings
from kanji_diffusion.pipelines.generate.nodes import name_styles
from kanji_diffusion.sampling.characters import captions_of, draw_characters
from kanji_diffusion.sampling.export import TextToKanji, model_fingerprint, save_released
from kanji_diffusion.sampling.requests import Count, Prompts, Seed, Styles, list_requests
from kanji_diffusion.sampling.sampler import DrawingSettings, draw
from kanji_diffusion.training.tracker import NullTracker

CAPTIONS, ONE = CaptionSettings(), ClusterSettings()
FAST = DrawingSettings(sampler="ddim", steps=2)
OLD = ["brush", "gothic", "handwritten", "mincho"]


class StopAt(NullTracker):
    """Asks to stop when a step is reported, as `kill` does."""

    def __init__(self, step):
        self.step = step

    def metrics(self, values, step):
        if step == self.step:
            self.step = None  # a second signal would not wait for the end of the step
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def glyphs(scans, known):
    return read_face(scans, "mine", known, 64, toy(kept_back=0.15), FontSettings())[0]


@pytest.fixture(scope="module")
def references(released, glyphs, known):
    chosen = reference_characters(glyphs, known, toy(replay=20))
    assert (chosen["replayed"].sum(), len(chosen)) == (20, 22) and chosen["character"].is_unique
    return draw_characters(released, OLD, chosen["character"].head(6), CAPTIONS, FAST, ONE, 0)


def learn(released, glyphs, references, checkpoints=None, tracker=None):
    settings = toy()
    return learn_style(
        released,
        "mine",
        glyphs,
        references,
        CAPTIONS,
        CaptionDropoutSettings(),
        settings,
        "ddim",
        ONE,
        checkpoints,
        tracker,
    )


@pytest.fixture(scope="module")
def adapted(released, glyphs, references, tmp_path_factory):
    """The adapted model, as it is loaded from its folder."""
    before = model_fingerprint(released.pipeline)
    folder = tmp_path_factory.mktemp("adapted")
    learn(released, glyphs, references).save_pretrained(folder)
    assert model_fingerprint(released.pipeline) == before
    return TextToKanji.from_pretrained(folder)


def test_the_new_word_is_a_token_and_all_others_are_read_as_before(released):
    before = TextEncoder(released.pipeline.tokenizer, released.pipeline.text_encoder)
    after = with_style_word(before, "mine", OLD)
    texts = captions_of(released, OLD, pd.Series(["海", "森", "鬱"]), CAPTIONS)["text"].tolist()
    assert torch.equal(before.tokens(texts), after.tokens(texts))
    assert torch.equal(before.states(texts), after.states(texts))
    old, new = (after.tokens([f"sea: left water, right every ({style} kanji)"])[0] for style in ("brush", "mine"))
    (place,) = torch.nonzero(old != new)[:, 0].tolist()
    assert new[place] == len(before.tokenizer) and new[place] != after.tokenizer.unk_token_id
    table = after.model.get_input_embeddings().weight
    words = [before.tokenizer.get_vocab()[style] for style in OLD]
    assert torch.allclose(table[new[place]], table[words].mean(dim=0))
    assert "mine" not in before.tokenizer.get_vocab()


def test_an_adapted_model_draws_its_style_and_says_that_it_has_it(adapted, released):
    assert adapted.styles == ("mine",) and released.styles == ()
    captions = name_styles(adapted, CAPTIONS)
    asked = list_requests(Prompts("water"), None, None, Styles("all"), Count(1), Seed(0), captions)
    assert asked["style"].tolist() == ["gothic", "mincho", "brush", "handwritten", "mine"]
    assert asked["prompt"].iloc[-1] == "water (mine kanji)"
    pictures = draw(adapted.pipeline, asked["prompt"].tolist(), [0] * 5, FAST)
    assert len(np.unique(pictures.reshape(5, -1), axis=0)) == 5


def test_every_part_but_the_autoencoder_has_learnt(adapted, released):
    for name in ("unet", "text_encoder", "vae"):
        before, after = (getattr(each.pipeline, name).state_dict() for each in (released, adapted))
        same = [torch.equal(after[key][: len(value)], value) for key, value in before.items()]
        assert all(same) == (name == "vae")


def test_a_stopped_adaptation_ends_with_the_same_bits(released, glyphs, references, adapted, tmp_path):
    with pytest.raises(TrainingInterrupted, match="stopped at step 3 of 4 and saved"):
        learn(released, glyphs, references, tmp_path, StopAt(2))
    continued = learn(released, glyphs, references, tmp_path)
    assert model_fingerprint(continued.pipeline) == model_fingerprint(adapted.pipeline)


def test_a_second_face_is_learnt_beside_the_first(adapted, glyphs, references, tmp_path):
    both = learn_style(
        adapted,
        "other",
        glyphs.assign(style="other"),
        references,
        CAPTIONS,
        CaptionDropoutSettings(),
        toy(),
        "ddim",
        ONE,
    )
    save_released(both, tmp_path)
    again = TextToKanji.from_pretrained(tmp_path)
    assert again.styles == ("mine", "other") and list(again.captions(CAPTIONS).styles)[-2:] == ["mine", "other"]
