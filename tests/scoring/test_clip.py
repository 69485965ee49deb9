"""The CLIP model learns which caption a glyph has, or comes pretrained with its own way of seeing."""

import json
import pickle

import numpy as np
import open_clip
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.diffusion.text import TextEncoderSettings
from kanji_diffusion.glyphs.captions import caption_rows
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.scoring import clip, clip_training
from kanji_diffusion.scoring.recogniser import RecogniserSettings


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


def test_texts_encoded_with_others_of_their_length_have_the_features_that_they_have_alone(scorer):
    texts = ["fire", "whale, sea creature, brush kanji", "water", "fire, flame (gothic kanji)", "sea"]
    together = clip_training.pooled_texts(scorer, texts, batch_size=2)
    alone = torch.cat([clip_training.pooled_texts(scorer, [text]) for text in texts])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    tower, tokens = scorer.model.text, scorer.tokenizer(texts)
    whole = tower.pooler(tower.transformer(input_ids=tokens, attention_mask=(tokens != 0).long()), (tokens != 0).long())
    torch.testing.assert_close(together, whole.detach(), atol=1e-5, rtol=0)


def test_one_look_at_a_picture_tells_as_much_as_two(scorer, glyphs):
    images = decode_images(glyphs[:10])
    embedding, statistics = scorer.features_and_statistics(images, batch_size=4)
    np.testing.assert_array_equal(embedding, scorer.image_features(images, batch_size=4))
    np.testing.assert_array_equal(statistics, scorer.stage_statistics(images, batch_size=4))


def test_a_model_that_is_sent_to_another_process_stays_where_it_is(scorer, monkeypatch):
    to, moved = nn.Module.to, []
    monkeypatch.setattr(nn.Module, "to", lambda self, *where: (moved.append(self), to(self, *where))[1])
    # As if it lay on an accelerator.
    monkeypatch.setattr(clip.ClipScorer, "device", torch.device("cuda"))
    sent = pickle.dumps(scorer)
    monkeypatch.undo()
    assert moved and scorer.model not in moved
    received = pickle.loads(sent)
    assert received.device.type == "cpu"
    np.testing.assert_array_equal(received.text_features(["fire"]), scorer.text_features(["fire"]))


class Chosen(nn.Module):
    """Towers that return the features they are given."""

    def __init__(self, images, texts):
        super().__init__()
        self.visual, self.projection = (lambda pixels: images[pixels]), (lambda text: texts[text])
        self.logit_scale = nn.Parameter(torch.tensor(2.0))


@pytest.mark.parametrize("shared", [True, False])
def test_a_caption_that_two_pictures_of_a_batch_share_pulls_both(shared):
    """Pictures 0 and 1 have caption 0 in common; only 0 drew it. Without multi-positives, 1 is pushed from it."""
    images = torch.ones(4, 4, requires_grad=True)
    texts = torch.eye(4)
    batch = {
        "pixels": torch.arange(4),
        "text": torch.arange(4),
        "drawn": torch.tensor([0, 1, 2, 3]),
        "captions": torch.tensor([[0, -1], [1, 0 if shared else -1], [2, -1], [3, -1]]),
    }
    loss = clip_training.ClipLoss()(Chosen(images, texts), batch, SampleRandom(0, torch.arange(4))).loss
    (gradient,) = torch.autograd.grad(loss, images)
    assert (gradient[1, 0] < 0) == shared


def test_pictures_with_one_caption_in_common_are_no_negatives(glyphs, caption_table):
    """The same character twice, and two characters with one meaning, in real batches."""
    seen = glyphs[glyphs["split"] == "train"]
    texts = caption_table["text"].tolist()
    # As KANJIDIC2 has it of 一 and 壱: now 口 is also called what 一 is called.
    renamed = {
        row: text.replace(text.split(" (")[0], "one")
        for row, text in enumerate(texts)
        if caption_table["character"].iloc[row] == "口" and caption_table["form"].iloc[row] == "long"
    }
    texts = [renamed.get(row, text) for row, text in enumerate(texts)]
    rows = caption_rows(seen, caption_table)
    dataset = clip_training.PairDataset(
        decode_images(seen), rows, texts, torch.randn(len(texts), 4), RecogniserSettings()
    )
    index = torch.arange(len(seen))
    batch = dataset.batch(index, SampleRandom(3, index))
    same = (batch["captions"][:, :, None] == batch["drawn"]).any(dim=1)
    assert same.diagonal().all()
    of = seen[["character", "style"]].to_numpy()
    twins = (of[:, None] == of[None]).all(axis=2)
    assert same[torch.as_tensor(twins)].all()
    drawn = {number: texts[row] for row, number in zip(rows.ravel(), dataset.codes.flatten().tolist(), strict=True)}
    one_and_mouth = [
        (i, j)
        for i in range(len(of))
        for j in range(len(of))
        if tuple(of[i, :1]) == ("口",) and of[j, 0] == "一" and of[i, 1] == of[j, 1]
        and drawn[int(batch["drawn"][j])].startswith("one (")
    ]  # fmt: skip
    assert one_and_mouth
    assert all(same[pair] for pair in one_and_mouth)
    assert not same[torch.as_tensor(of[:, None, 1] != of[None, :, 1])].any()


TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A small real open_clip architecture, known by name, with random weights in both of the usual formats."""
    folder = tmp_path_factory.mktemp("open_clip")
    (folder / "tiny-kanji.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "tiny-kanji.json")
    torch.manual_seed(1)
    state = open_clip.create_model("tiny-kanji").state_dict()
    safetensors.torch.save_file(state, folder / "weights.safetensors")
    torch.save(state, folder / "weights.pt")
    (folder / "local").mkdir()
    (folder / "local/open_clip_config.json").write_text(
        json.dumps({"model_cfg": TINY, "preprocess_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.3, 0.2, 0.1]}})
    )
    safetensors.torch.save_file(state, folder / "local/open_clip_model.safetensors")
    return folder


def pretrained(source, weights=None):
    return clip.build_scorer(
        clip.ClipSettings(source=source, pretrained=weights and str(weights)), TextEncoderSettings()
    )


@pytest.mark.parametrize("weights", ["weights.safetensors", "weights.pt", None])
def test_a_pretrained_model_sees_pictures_as_it_was_trained_to(named, weights, glyphs):
    scorer = pretrained("tiny-kanji", named / weights) if weights else pretrained(f"local-dir:{named / 'local'}")
    images = decode_images(glyphs[:6])
    name = "tiny-kanji" if weights else f"local-dir:{named / 'local'}"
    model, _, preprocess = open_clip.create_model_and_transforms(name, str(named / weights) if weights else None)
    model.eval()
    for pictures, tolerance in ((images[:, ::2, ::2], 1e-5), (images, 0.02)):
        pixels = torch.stack([preprocess(Image.fromarray(picture)) for picture in pictures])
        with torch.no_grad():
            expected = model.encode_image(pixels, normalize=True).numpy()
        np.testing.assert_allclose(scorer.image_features(pictures), expected, atol=tolerance)
    assert -1 <= scorer.scores(images, ["fire"] * 6).min() <= 1


def test_a_pretrained_model_remembers_its_weights(named, glyphs, tmp_path):
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes((named / "weights.safetensors").read_bytes())
    scorer = pretrained("tiny-kanji", weights)
    scorer.save_pretrained(tmp_path / "saved")
    assert [path.name for path in (tmp_path / "saved").iterdir()] == ["config.json"]
    images = decode_images(glyphs[:4])
    loaded = clip.ClipScorer.from_pretrained(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.image_features(images), scorer.image_features(images))
    safetensors.torch.save_file(open_clip.create_model("tiny-kanji").state_dict(), weights)
    with pytest.raises(KanjiDiffusionError, match=r"weights file .*weights.safetensors .* has changed since"):
        clip.ClipScorer.from_pretrained(tmp_path / "saved")
    weights.unlink()
    with pytest.raises(KanjiDiffusionError, match=r"weights file .*weights.safetensors .* is gone since"):
        clip.ClipScorer.from_pretrained(tmp_path / "saved")


class Danger:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize("content", ["code", "noise", "other shapes", "nothing"])
def test_weights_that_cannot_be_had_are_named(named, tmp_path, content, capsys):
    weights = tmp_path / "weights.pt"
    if content == "code":
        torch.save({"state_dict": Danger()}, weights)
    if content == "noise":
        weights.write_bytes(b"no weights")
    if content == "other shapes":
        torch.save({"visual.proj": torch.zeros(2, 2)}, weights)
    with pytest.raises(
        KanjiDiffusionError, match=r"^The CLIP model 'tiny-kanji' with weights .* cannot be loaded .*"
    ) as e:
        pretrained("tiny-kanji", weights)
    assert "\n" not in str(e.value)
    assert "code ran" not in capsys.readouterr().out


def test_a_name_without_weights_is_refused():
    with pytest.raises(ValueError, match="`pretrained` must name the weights of ViT-L-14"):
        clip.ClipSettings(source="ViT-L-14")
    with pytest.raises(KanjiDiffusionError, match="'ViT-Z-14' with weights 'openai' cannot be loaded"):
        pretrained("ViT-Z-14", "openai")
