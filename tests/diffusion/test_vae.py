"""The autoencoder's latents, crops and gate."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.errors import KanjiDiffusionError
from kanji_diffusion.training.randomness import SampleRandom


@pytest.fixture(scope="module")
def pictures():
    generator = np.random.default_rng(0)
    drawn = []
    for _ in range(24):
        picture = Image.new("L", (32, 32), 255)
        ImageDraw.Draw(picture).line(generator.integers(2, 30, 8).tolist(), fill=0, width=2)
        drawn.append(np.asarray(picture))
    return np.stack(drawn)


@pytest.fixture
def vae():
    torch.manual_seed(0)
    return vaes.autoencoder(vaes.VAESettings(channels=(8, 16), groups=8), 32).eval()


def test_folding_standardises_the_latents_and_changes_no_picture(vae, pictures):
    mean, std = vaes.encode(vae, pictures)
    before = vaes.decode(vae, torch.as_tensor(mean))
    vaes.fold_latent_statistics(vae, mean, std)
    mean, std = vaes.encode(vae, pictures)
    np.testing.assert_allclose(mean.mean(axis=(0, 2, 3)), 0, atol=1e-3)
    np.testing.assert_allclose(mean.var(axis=(0, 2, 3)) + np.square(std).mean(axis=(0, 2, 3)), 1, atol=1e-3)
    assert np.abs(vaes.decode(vae, torch.as_tensor(mean)).astype(int) - before).max() <= 1
    assert vae.config.scaling_factor == 1


def test_crops_come_from_the_pictures_and_depend_only_on_the_sample(pictures):
    store = vaes.CropStore(pictures, 16)
    index = torch.arange(24)
    random = SampleRandom(0, index)
    crops = store.gather(index, random)["pixels"]
    assert crops.shape == (24, 1, 16, 16)
    half = vaes.to_model_range(pictures)
    small = torch.nn.functional.avg_pool2d(half, 2)
    whole = [torch.equal(crops[n], small[n]) for n in range(24)]
    assert 4 < sum(whole) < 20
    for number in np.flatnonzero(~np.array(whole)):
        windows = half[number, 0].unfold(0, 16, 1).unfold(1, 16, 1).reshape(-1, 16, 16)
        assert (windows == crops[number, 0]).flatten(1).all(dim=1).any()
    assert torch.equal(store.gather(index[5:9], SampleRandom(0, index[5:9]))["pixels"], crops[5:9])


def test_holes_are_counted_as_a_reader_would():
    box, eight, line = (Image.new("L", (32, 32), 255) for _ in range(3))
    ImageDraw.Draw(box).rectangle((6, 6, 26, 26), outline=0, width=2)
    ImageDraw.Draw(eight).rectangle((6, 4, 26, 28), outline=0, width=2)
    ImageDraw.Draw(eight).line((6, 16, 26, 16), fill=0, width=2)
    ImageDraw.Draw(line).line((0, 16, 32, 16), fill=0, width=2)
    assert vaes.hole_counts(np.stack([np.asarray(p) for p in (box, eight, line)])).tolist() == [1, 2, 0]


def test_stroke_overlap_falls_with_every_lost_stroke(pictures):
    assert (vaes.stroke_overlap(pictures, pictures) == 1).all()
    cut = pictures.copy()
    cut[:, 16:] = 255
    assert vaes.stroke_overlap(cut, pictures).mean() < 0.9
    blank = np.full_like(pictures, 255)
    assert (vaes.stroke_overlap(blank, blank) == 1).all()


def test_the_gate_stops_what_loses_strokes():
    good = {"stroke_overlap": 0.95, "holes_agree": 0.97, "read": 0.98, "original_read": 0.99}
    vaes.require_gate(good, vaes.GateSettings())
    with pytest.raises(KanjiDiffusionError, match=r"stroke overlap is 0\.500 .*reading score falls by 0\.490"):
        vaes.require_gate(good | {"stroke_overlap": 0.5, "read": 0.5}, vaes.GateSettings())
