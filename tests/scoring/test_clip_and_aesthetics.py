"""The CLIP model learns which caption a glyph has; the aesthetic head learns what spoils a glyph."""

import numpy as np
import pytest
import torch

from kanji_diffusion.diffusion.text import TextEncoderSettings
from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.glyphs.captions import caption_rows
from kanji_diffusion.glyphs.render import decode_images
from kanji_diffusion.scoring import aesthetics, clip
from kanji_diffusion.scoring.recogniser import RecogniserSettings
from kanji_diffusion.training.loop import TrainingSettings, train


@pytest.fixture(scope="module")
def scorer(glyphs, caption_table):
    torch.manual_seed(0)
    scorer = clip.build_scorer(clip.ClipSettings(embed_dim=32, width=16), TextEncoderSettings())
    seen = glyphs[glyphs["split"] == "train"]
    store = clip.PairStore(
        decode_images(seen),
        caption_rows(seen, caption_table),
        seen.groupby(["character", "style"]).ngroup().to_numpy(),
        clip.pooled_texts(scorer, caption_table["text"].tolist()),
        RecogniserSettings(),
    )
    training = TrainingSettings(
        steps=150, batch_size=48, learning_rate=0.005, warmup_steps=10, ema_decay=0.95, device="cpu"
    )
    train(clip.towers(scorer.model), clip.ClipLoss(), store, training, name="clip")
    return scorer


def long_captions(glyphs, caption_table):
    long = caption_table[caption_table["form"] == "long"].set_index(["character", "style"])["text"]
    return [long[key] for key in zip(glyphs["character"], glyphs["style"], strict=True)]


def test_a_glyph_scores_higher_with_its_own_caption(scorer, glyphs, caption_table):
    held = glyphs[glyphs["held_out"] & (glyphs["view"] == 0)]
    images, texts = decode_images(held), long_captions(held, caption_table)
    own = scorer.scores(images, texts)
    others = scorer.scores(images, texts[3:] + texts[:3])
    assert (np.abs(own) <= 1.0001).all()
    assert own.mean() > others.mean() + 0.2
    assert (own > others).mean() > 0.8


def test_the_frozen_text_tower_stays_as_it_was(scorer):
    fresh = clip.build_scorer(clip.ClipSettings(embed_dim=32, width=16), TextEncoderSettings())
    for first, second in zip(
        scorer.model.text.transformer.parameters(), fresh.model.text.transformer.parameters(), strict=True
    ):
        assert torch.equal(first, second)


def test_it_is_saved_and_loaded(scorer, glyphs, tmp_path):
    scorer.save_pretrained(tmp_path)
    loaded = clip.ClipScorer.from_pretrained(tmp_path)
    images = decode_images(glyphs[:10])
    np.testing.assert_allclose(loaded.image_features(images), scorer.image_features(images), atol=1e-6)
    np.testing.assert_allclose(loaded.text_features(["fire"]), scorer.text_features(["fire"]), atol=1e-6)
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(KanjiDiffusionError, match="run `kedro run --pipeline=filter_glyphs`"):
        clip.ClipScorer.from_pretrained(tmp_path)


def test_a_model_that_cannot_be_had_is_named(tmp_path):
    settings = clip.ClipSettings(source="ViT-B-32", pretrained=str(tmp_path / "missing.bin"))
    with pytest.raises(KanjiDiffusionError, match=r"'ViT-B-32' with weights .* cannot be loaded"):
        clip.build_scorer(settings, TextEncoderSettings())


def test_spoilt_glyphs_of_unseen_faces_score_lower(scorer, glyphs, tmp_path):
    images = decode_images(glyphs[glyphs["split"] == "train"])
    head = aesthetics.train_aesthetic_head(scorer, images, aesthetics.AestheticSettings(pairs=120))
    held = decode_images(glyphs[glyphs["held_out"] & (glyphs["view"] == 0)])
    ranked = aesthetics.ranking_accuracy(scorer, head, held, seed=5)
    assert np.mean(list(ranked.values())) > 0.9, ranked
    head.save_pretrained(tmp_path)
    loaded = aesthetics.AestheticHead.from_pretrained(tmp_path)
    features = scorer.stage_statistics(held)
    np.testing.assert_array_equal(loaded.scores(features), head.scores(features))


@pytest.mark.parametrize("kind", aesthetics.DEGRADATIONS)
def test_each_degradation_changes_more_with_its_amount(glyphs, kind):
    images = decode_images(glyphs[glyphs["view"] == 0])
    changes = [
        np.abs(aesthetics.spoil(images, kind, amount, seed=0).astype(int) - images).mean() for amount in (0.1, 0.9)
    ]
    assert 0 < changes[0] < changes[1]
    again = aesthetics.spoil(images, kind, 0.9, seed=0)
    assert np.array_equal(again, aesthetics.spoil(images, kind, 0.9, seed=0))
