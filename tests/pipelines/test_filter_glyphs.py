"""The scoring models are trained on glyphs of any size."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from kanji_diffusion.diffusion.text import TextEncoderSettings
from kanji_diffusion.imaging.pictures import encode_images
from kanji_diffusion.pipelines.filter_glyphs import nodes
from kanji_diffusion.scoring import recogniser
from kanji_diffusion.scoring.clip import ClipSettings
from kanji_diffusion.scoring.recogniser import RecogniserSettings
from kanji_diffusion.training.settings import TrainingSettings
from kanji_diffusion.training.tracker import NullTracker

TRAINING = TrainingSettings(steps=1, batch_size=4, learning_rate=0.001, device="cpu")


@pytest.fixture(scope="module")
def large_glyphs():
    """Four glyphs of 96 pixels, larger than the models read."""
    pictures = np.random.default_rng(0).integers(0, 256, (4, 96, 96)).astype(np.uint8)
    table = pd.DataFrame({"character": list("一二一二"), "style": "gothic", "held_out": False, "split": "train"})
    return table.assign(image=pd.Series(encode_images(pictures)))


def test_models_are_trained_at_the_size_that_they_read(large_glyphs, tmp_path, monkeypatch):
    sizes = []

    class Watched(recogniser.GlyphDataset):
        def __init__(self, images, *others):
            sizes.append(images.shape)
            super().__init__(images, *others)

    monkeypatch.setattr(recogniser, "GlyphDataset", Watched)
    captions = pd.DataFrame({"character": list("一二三"), "style": "gothic", "text": ["one", "two", "three"]})
    # What tells how a character is built is nothing that a CLIP model learns.
    captions = pd.concat([captions.assign(form="long"), captions.assign(form="composed", text="a: whole a")])
    recogniser_settings = RecogniserSettings(channels=(8, 16))
    reader = nodes.train_recogniser(large_glyphs, recogniser_settings, TRAINING, NullTracker(), tmp_path)
    assert reader.config.label2id == {"一": 0, "二": 1}
    assert sizes == [(4, 64, 64)]
    settings = ClipSettings(image_size=32, embed_dim=16, width=8)
    scorer = nodes.train_clip(
        large_glyphs, captions, settings, TextEncoderSettings(), recogniser_settings, TRAINING, NullTracker(), tmp_path
    )
    assert scorer.image_features(np.zeros((1, 96, 96), np.uint8)).shape == (1, 16)


def test_a_clip_model_of_a_size_that_cannot_be_pooled_is_refused():
    with pytest.raises(ValidationError, match="multiple of 32"):
        ClipSettings(image_size=48)
