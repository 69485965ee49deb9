"""A model that is shipped."""

import numpy as np
import pytest
import torch

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.diffusion.schedule import ScheduleSettings
from kanji_diffusion.diffusion.text import TextEncoderSettings, new_text_encoder
from kanji_diffusion.diffusion.unet import UNetSettings, text_unet
from kanji_diffusion.sampling.export import TextToKanji, assemble, save_released
from kanji_diffusion.sampling.sampler import DrawingSettings, draw


def test_a_released_model_draws_what_it_drew_before_in_half_the_bytes(model, tmp_path):
    save_released(TextToKanji(model), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        "model_index.json",
        "scheduler",
        "text_encoder.json",
        "unet",
        "vae",
    }
    weights = sum(each.numel() for part in (model.unet, model.vae) for each in part.state_dict().values())
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    assert 2 * weights < size < 2.1 * weights + 1e5
    assert not any(str(model.name_or_path) in path.read_text() for path in tmp_path.rglob("*.json"))
    assert all('"_name_or_path": "/' not in path.read_text() for path in tmp_path.rglob("*.json"))
    loaded = TextToKanji.from_pretrained(tmp_path).pipeline
    assert loaded.tokenizer.model_max_length == model.tokenizer.model_max_length
    settings = DrawingSettings(steps=4, batch_size=2)
    before, after = (draw(each, ["water", "fire"], [3, 4], settings) for each in (model, loaded))
    assert before.std() > 0
    assert np.abs(before.astype(int) - after).max() <= 4


def test_a_text_encoder_that_was_trained_along_is_released_too(model, tmp_path):
    texts = ["sea: left water, right every (brush kanji)", "fire (gothic kanji)"]
    text = new_text_encoder(TextEncoderSettings(source="trained", max_length=20, width=32, layers=1), texts, [])
    unet = text_unet(UNetSettings(channels=(32, 64), cross_attention=(False, True), groups=16), 4, 8, text.width)
    whole = assemble(model.vae, unet.eval(), text, ScheduleSettings(), "ddim")
    save_released(TextToKanji(whole), tmp_path)
    assert all('"_name_or_path": "/' not in path.read_text() for path in tmp_path.rglob("*.json"))
    loaded = TextToKanji.from_pretrained(tmp_path).pipeline
    assert {getattr(loaded, part).dtype for part in ("text_encoder", "unet", "vae")} == {torch.float32}
    settings = DrawingSettings(steps=4, batch_size=2)
    before, after = (draw(each, texts, [3, 4], settings) for each in (whole, loaded))
    assert before.std() > 0
    assert np.abs(before.astype(int) - after).max() <= 4


def test_a_released_model_that_is_not_whole_is_refused_in_one_sentence(model, tmp_path):
    save_released(TextToKanji(model), tmp_path)
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(KanjiDiffusionError, match=r"cannot be read \(.*\): bring its files back"):
        TextToKanji.from_pretrained(tmp_path)
    (tmp_path / "text_encoder.json").write_text("{")
    with pytest.raises(KanjiDiffusionError, match=r"cannot be read \(.*\): bring its files back"):
        TextToKanji.from_pretrained(tmp_path)
