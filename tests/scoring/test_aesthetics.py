"""The aesthetic head ranks degraded glyphs lower; the heads of LAION load from their files, and nothing else does."""

import numpy as np
import pytest
import torch

from kanji_diffusion.core.errors import KanjiDiffusionError
from kanji_diffusion.imaging import degradations
from kanji_diffusion.imaging.ink import ink_measures
from kanji_diffusion.imaging.pictures import decode_images
from kanji_diffusion.scoring import aesthetics


def test_degraded_glyphs_of_unseen_faces_score_lower(scorer, glyphs, tmp_path):
    images = decode_images(glyphs[glyphs["split"] == "train"])
    head = aesthetics.train_aesthetic_head(scorer, images, aesthetics.AestheticSettings(pairs=120))
    held = glyphs[glyphs["held_out"] & (glyphs["view"] == 0)]
    pictures = decode_images(held)
    report = aesthetics.ranking_report(scorer, head, pictures, held["style"], seed=5)
    assert set(report["kind"]) == set(degradations.TRAINING) | set(degradations.HELD_OUT)
    assert set(report["style"]) == set(held["style"])
    assert report["trained_kinds"] > 0.9, report
    assert report["held_out_kinds"] > 0.9, report
    head.save_pretrained(tmp_path)
    loaded = aesthetics.AestheticHead.from_pretrained(tmp_path)
    np.testing.assert_array_equal(loaded.scores(scorer, pictures), head.scores(scorer, pictures))
    known = *scorer.features_and_statistics(pictures), ink_measures(pictures)
    np.testing.assert_array_equal(head.scores_of(*known), head.scores(scorer, pictures))
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(KanjiDiffusionError, match=r"aesthetic head in .* cannot be read"):
        aesthetics.AestheticHead.from_pretrained(tmp_path)


@pytest.mark.parametrize("kind", degradations.TRAINING | degradations.HELD_OUT)
@pytest.mark.parametrize("enlarged", [1, 4])
def test_each_degradation_changes_more_with_its_amount_at_any_size(glyphs, kind, enlarged):
    images = decode_images(glyphs[glyphs["view"] == 0])[::3].repeat(enlarged, axis=1).repeat(enlarged, axis=2)
    ink = (255 - images.astype(int)).mean()
    little, much = (
        np.abs(degradations.corrupt(images, kind, amount, seed=0).astype(int) - images).mean() / ink
        for amount in (0.1, 0.9)
    )
    assert 0 < little < much
    # As much of the ink as a person sees, whatever the resolution.
    assert much > 0.1
    again = degradations.corrupt(images, kind, 0.9, seed=0)
    assert np.array_equal(again, degradations.corrupt(images, kind, 0.9, seed=0))


def laion_file(path, kind, width):
    torch.manual_seed(0)
    module = aesthetics.laion_linear(width) if kind == "linear" else aesthetics.LaionMLP(width)
    torch.save(module.state_dict(), path)
    return module.eval()


class Features:
    """A CLIP model of which only the embedding is known."""

    def __init__(self, features):
        self.features = features

    def image_features(self, images):
        return self.features[: len(images)]


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_laions_files_load_and_score_the_features_of_vit_l_14(kind, tmp_path):
    module = laion_file(tmp_path / "laion.pth", kind, 768)
    state = torch.load(tmp_path / "laion.pth", weights_only=True)
    if kind == "linear":
        assert {name: list(value.shape) for name, value in state.items()} == {"weight": [1, 768], "bias": [1]}
    else:
        assert [name for name in state if "weight" in name] == [f"layers.{n}.weight" for n in (0, 2, 4, 6, 7)]
    features = np.random.default_rng(0).normal(size=(5, 768)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    clip_model = Features(features)
    images = np.full((5, 64, 64), 255, np.uint8)
    head = aesthetics.load_laion_head(tmp_path / "laion.pth", clip_model)
    with torch.no_grad():
        expected = module(torch.as_tensor(features))[:, 0].numpy()
    np.testing.assert_allclose(head.scores(clip_model, images), expected, atol=1e-5)
    head.save_pretrained(tmp_path / "saved")
    assert {path.suffix for path in (tmp_path / "saved").iterdir()} == {".json", ".safetensors"}
    loaded = aesthetics.AestheticHead.from_pretrained(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.scores(clip_model, images), head.scores(clip_model, images))


def test_laions_head_is_refused_for_the_model_trained_here(scorer, glyphs, tmp_path):
    laion_file(tmp_path / "laion.pth", "linear", 768)
    with pytest.raises(KanjiDiffusionError, match="takes features of width 768, but those of the CLIP model have 32"):
        aesthetics.load_laion_head(tmp_path / "laion.pth", scorer)
    laion_file(tmp_path / "fitting.pth", "linear", 32)
    head = aesthetics.load_laion_head(tmp_path / "fitting.pth", scorer)
    images = decode_images(glyphs[:3])
    known = *scorer.features_and_statistics(images), ink_measures(images)
    assert np.isfinite(head.scores_of(*known)).all()
    np.testing.assert_array_equal(head.scores_of(*known), head.scores(scorer, images))


class Danger:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "is not there: put the file there"),
        (b"no head", "cannot be read, or would run code"),
        (Danger(), "cannot be read, or would run code"),
        ([torch.zeros(1, 768)], "something else than a state dict of tensors"),
        ({"weight": torch.zeros(2, 768), "bias": torch.zeros(2)}, r"neither LAION's .* \(it holds bias \[2\], weight"),
        ({"weight": torch.zeros(768)}, "neither LAION's linear predictor nor its MLP"),
        ({"layers.0.weight": torch.zeros(1024, 768)}, "neither LAION's linear predictor nor its MLP"),
        ({}, r"neither .* \(it holds nothing\)"),
    ],
)
def test_what_is_no_head_of_laion_is_refused_in_a_sentence(content, sentence, tmp_path, capsys):
    path = tmp_path / "head.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(KanjiDiffusionError, match=sentence) as told:
        aesthetics.load_laion_head(path, Features(np.zeros((1, 768), np.float32)))
    assert "\n" not in str(told.value)
    assert "code ran" not in capsys.readouterr().out
