"""A model that is shipped."""

import numpy as np
import pytest

from kanji_diffusion.diffusion.export import TextToKanji, save_released
from kanji_diffusion.diffusion.sampler import DrawingSettings, draw
from kanji_diffusion.errors import KanjiDiffusionError


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


def test_a_released_model_that_is_not_whole_is_refused_in_one_sentence(model, tmp_path):
    save_released(TextToKanji(model), tmp_path)
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(KanjiDiffusionError, match=r"cannot be read \(.*\): bring it back with `git checkout`"):
        TextToKanji.from_pretrained(tmp_path)
    (tmp_path / "text_encoder.json").write_text("{")
    with pytest.raises(KanjiDiffusionError, match=r"cannot be read \(.*\): bring it back with `git checkout`"):
        TextToKanji.from_pretrained(tmp_path)
