"""Text encoders, bundled and from a folder, and what the stock pipeline makes of them."""

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.diffusion import text
from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.diffusion.unet import UNetSettings, text_unet
from kanji_diffusion.sampling.export import assemble
from kanji_diffusion.sampling.sampler import SamplingSettings, draw


def test_states_are_those_of_the_stock_pipeline(model, text_encoder):
    captions = ["water (brush kanji)", "fire (gothic kanji)"]
    theirs, empty = model.encode_prompt(captions, "cpu", 1, do_classifier_free_guidance=True)
    torch.testing.assert_close(text_encoder.states(captions), theirs)
    torch.testing.assert_close(text_encoder.states([""]).expand_as(empty), empty)


def test_a_caption_that_would_be_cut_is_refused(text_encoder):
    with pytest.raises(KanjiDiffusionError, match="tokens, but the text encoder reads 16: shorten it"):
        text_encoder.states(["a " * 30])


def test_what_is_saved_does_not_tell_what_was_read_before(text_encoder, tmp_path):
    for name in ("first", "again"):
        text.TextEncoder(text_encoder.tokenizer, text_encoder.model).save_pretrained(tmp_path / name)
        text_encoder.states(["water"])
    for saved in (tmp_path / "first").iterdir():
        assert saved.read_bytes() == (tmp_path / "again" / saved.name).read_bytes(), saved.name
    assert '"padding": null' in " ".join((tmp_path / "again" / "tokenizer.json").read_text().split())


def test_a_source_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(KanjiDiffusionError, match="cannot be loaded"):
        text.load_text_encoder(text.TextEncoderSettings(source=str(tmp_path)))


def test_altered_bundled_weights_are_refused(monkeypatch):
    monkeypatch.setattr(text, "_BUNDLED_SHA256", "0" * 64)
    with pytest.raises(KanjiDiffusionError, match="differ from the known ones"):
        text.load_text_encoder(text.TextEncoderSettings(source="bundled"))


@pytest.fixture
def clip_folder(tmp_path):
    """A small CLIP text model and its tokenizer in the hub's format."""
    letters = "abcdefghijklmnopqrstuvwxyz()"
    names = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {name: number for number, name in enumerate(names)}
    CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(tmp_path / "clip")
    end = len(names) - 1
    config = CLIPTextConfig(
        vocab_size=len(names), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        projection_dim=32, bos_token_id=end - 1, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    torch.manual_seed(0)
    CLIPTextModel(config).save_pretrained(tmp_path / "clip")
    return str(tmp_path / "clip")


def test_a_clip_text_model_loads_from_a_folder_in_the_hubs_format(clip_folder):
    encoder = text.load_text_encoder(text.TextEncoderSettings(source=clip_folder, max_length=77))
    assert encoder.states(["water", "fire"]).shape == (2, 77, 32)
    assert encoder.width == 32


def test_the_stock_pipeline_sees_a_clip_models_captions_as_training_does(model, clip_folder, tmp_path):
    encoder = text.load_text_encoder(text.TextEncoderSettings(source=clip_folder, max_length=77))
    unet = text_unet(UNetSettings(channels=(32, 64), cross_attention=(False, True), groups=16), 4, 8, encoder.width)
    ours = assemble(model.vae, unet.eval(), encoder, ScheduleSettings(), "ddim")
    ours.save_pretrained(tmp_path / "model")
    stock = DiffusionPipeline.from_pretrained(tmp_path / "model")
    stock.set_progress_bar_config(disable=True)
    captions = ["water (brush kanji)", "fire"]
    theirs, empty = stock.encode_prompt(captions, "cpu", 1, do_classifier_free_guidance=True)
    torch.testing.assert_close(encoder.states(captions), theirs)
    torch.testing.assert_close(encoder.states([""]).expand_as(empty), empty)
    drawn = draw(ours, captions, [4, 5], SamplingSettings(sampler="ddim", steps=4, guidance_scale=7.5))
    for caption, seed, picture in zip(captions, (4, 5), drawn, strict=True):
        generator = torch.Generator().manual_seed(seed)
        image = stock(caption, num_inference_steps=4, guidance_scale=7.5, generator=generator).images[0]
        assert np.abs(np.asarray(image).astype(int) - picture).max() <= 1


TEXTS = ["sea: left water, right every (brush kanji)", "top sheep, bottom old bird (gothic kanji)"]


@pytest.fixture
def trained():
    """A text encoder of its own, with random weights."""
    return text.new_text_encoder(
        text.TextEncoderSettings(source="trained", max_length=20, width=32, layers=1), TEXTS, ["old bird", "upper left"]
    )


def test_words_and_names_of_components_are_one_token_each(trained):
    tokens = trained.tokenizer.tokenize("Sea: LEFT old bird, right unheard-of")
    assert tokens == ["sea", ":", "left", "old bird", ",", "right", "<unk>", "<unk>", "<unk>"]
    assert trained.tokens(["", *TEXTS]).shape == (3, 20)
    assert max(text.most_tokens(each) for each in TEXTS) <= 20
    with pytest.raises(KanjiDiffusionError, match="tokens, but the text encoder reads 20"):
        trained.tokens(["water " * 30])


def test_a_trained_encoder_survives_its_folder(trained, tmp_path):
    trained.save_pretrained(tmp_path / "text")
    again = text.TextEncoder.from_pretrained(tmp_path / "text")
    assert again.tokenizer.model_max_length == 20
    torch.testing.assert_close(again.states(TEXTS), trained.states(TEXTS))
    assert torch.equal(again.tokens(TEXTS), trained.tokens(TEXTS))


def test_a_warm_start_keeps_what_is_known_of_each_word(trained):
    settings = text.TextEncoderSettings(source="trained", max_length=20, width=32, layers=1, seed=1)
    new = text.new_text_encoder(settings, [*TEXTS, "a thunder word"], ["old bird"])
    assert not torch.allclose(new.states(TEXTS), trained.states(TEXTS))
    torch.testing.assert_close(text.continue_text_encoder(new, trained).states(TEXTS), trained.states(TEXTS))
    wide = text.new_text_encoder(settings.model_copy(update={"width": 64}), TEXTS, [])
    with pytest.raises(KanjiDiffusionError, match="has another architecture"):
        text.continue_text_encoder(wide, trained)


def test_the_stock_pipeline_draws_from_a_composition_what_generate_draws(model, trained, tmp_path):
    unet = text_unet(UNetSettings(channels=(32, 64), cross_attention=(False, True), groups=16), 4, 8, trained.width)
    ours = assemble(model.vae, unet.eval(), trained, ScheduleSettings(), "ddim")
    ours.save_pretrained(tmp_path / "model")
    stock = DiffusionPipeline.from_pretrained(tmp_path / "model")
    stock.set_progress_bar_config(disable=True)
    drawn = draw(ours, TEXTS, [4, 5], SamplingSettings(sampler="ddim", steps=4, guidance_scale=2.5))
    for caption, seed, picture in zip(TEXTS, (4, 5), drawn, strict=True):
        generator = torch.Generator().manual_seed(seed)
        image = stock(caption, num_inference_steps=4, guidance_scale=2.5, generator=generator).images[0]
        assert np.abs(np.asarray(image).astype(int) - picture).max() <= 1


def test_gradients_of_the_unet_reach_the_text(trained):
    unet = text_unet(UNetSettings(channels=(32, 64), cross_attention=(False, True), groups=16), 4, 8, trained.width)
    both = text.TextConditionedUNet(unet, trained.model.requires_grad_(True))
    predicted = both(torch.randn(2, 4, 8, 8), torch.tensor([10, 500]), encoder_hidden_states=trained.tokens(TEXTS))
    predicted.sample.square().mean().backward()
    assert trained.model.get_input_embeddings().weight.grad.abs().sum() > 0
