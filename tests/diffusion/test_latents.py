"""Captions and their dropout are drawn at read time."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from kanji_diffusion.core.randomness import SampleRandom
from kanji_diffusion.diffusion.latents import LatentDataset, StyleRepeats

STATES = np.arange(4, dtype=np.float32).reshape(4, 1, 1)


def dataset(dropout):
    latents = {
        "mean": np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1),
        "std": np.ones((3, 1, 1, 1), np.float32),
    }
    return LatentDataset(latents, STATES, np.array([[1, 2], [3, -1], [2, -1]]), dropout)


def read(count, dropout):
    index = torch.arange(count) % 3
    return index, dataset(dropout).batch(index, SampleRandom(0, torch.arange(count)))["states"].flatten()


def test_each_latent_meets_all_its_captions_and_no_other():
    index, states = read(3000, 0.0)
    assert set(states[index == 0].tolist()) == {1.0, 2.0}
    assert set(states[index == 1].tolist()) == {3.0}
    assert abs((states[index == 0] == 1).float().mean() - 0.5) < 0.05


def test_styles_that_are_repeated_are_read_more_often():
    glyphs = pd.DataFrame({"style": ["gothic", "brush", "mincho"], "split": "train"})
    repeats = StyleRepeats({"brush": 3}).of(glyphs)
    assert StyleRepeats({"structure": 2, "brush": 3}).of(glyphs.assign(split="structure")).tolist() == [2, 2, 2]
    latents = {name: np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1) for name in ("mean", "std")}
    captions = np.array([[1, -1], [2, 3], [3, -1]])
    repeated, plain = (
        LatentDataset(latents, STATES, captions, 0.0, repeats),
        LatentDataset(latents, STATES, captions, 0.0),
    )
    assert len(repeated) == 5 and len(plain) == 3
    assert repeated.fingerprint() != plain.fingerprint()
    assert pickle.loads(pickle.dumps(repeated)).fingerprint() == repeated.fingerprint()
    batch = repeated.batch(torch.arange(500) % 5, SampleRandom(0, torch.arange(500)))
    means, states = batch["mean"].flatten(), batch["states"].flatten()
    assert torch.bincount(means.long()).tolist() == [100, 300, 100]
    assert set(states[means == 1].tolist()) == {2.0, 3.0} and set(states[means == 2].tolist()) == {3.0}


def test_repetitions_are_the_smallest_whole_numbers_with_the_proportions_that_are_asked_for():
    glyphs = pd.DataFrame({"style": ["gothic", "brush", "mincho"], "split": ["structure", "train", "train"]})
    assert StyleRepeats({"structure": 0.5, "brush": 5}).of(glyphs).tolist() == [1, 10, 2]
    assert StyleRepeats({"structure": 0.3, "brush": 1.5}).of(glyphs).tolist() == [3, 15, 10]
    with pytest.raises(ValidationError):
        StyleRepeats({"structure": 0.01})


def test_captions_are_read_as_often_as_their_shares_say():
    latents = {name: np.arange(2, dtype=np.float32).reshape(2, 1, 1, 1) for name in ("mean", "std")}
    shares = np.array([[0.7, 0.3], [1.0, 0.0]], np.float32)
    shared = LatentDataset(latents, STATES, np.array([[1, 2], [3, -1]]), 0.0, shares=shares)
    plain = LatentDataset(latents, STATES, np.array([[1, 2], [3, -1]]), 0.0)
    assert shared.fingerprint() != plain.fingerprint()
    assert pickle.loads(pickle.dumps(shared)).fingerprint() == shared.fingerprint()
    index = torch.arange(4000) % 2
    states = shared.batch(index, SampleRandom(0, torch.arange(4000)))["states"].flatten()
    assert abs((states[index == 0] == 1).float().mean() - 0.7) < 0.03
    assert set(states[index == 1].tolist()) == {3.0}


def test_a_tenth_of_the_captions_is_dropped():
    _, states = read(100_000, 0.1)
    assert abs((states == 0).float().mean() - 0.1) < 0.005


@pytest.mark.parametrize("epoch", range(5))
def test_a_tenth_is_dropped_in_every_epoch_of_the_default(epoch):
    size = 4701  # the default's selected glyphs
    sample = torch.arange(epoch * size, (epoch + 1) * size)
    for seed in range(5):
        random = SampleRandom(seed, sample)
        states = dataset(0.1).batch(sample % 3, random)["states"].flatten()
        assert abs((states == 0).float().mean() - 0.1) < 0.005


def test_dropout_favours_no_timestep_and_no_batch():
    sample = torch.arange(40_000)
    random = SampleRandom(0, sample)
    dropped = dataset(0.1).batch(sample % 3, random)["states"].flatten() == 0
    by_timestep = torch.histc(random.spread("timestep")[dropped], 10, 0, 1)
    assert (by_timestep / 400 - 1).abs().max() < 0.1
    by_batch = dropped.view(-1, 32).sum(dim=1)
    assert by_batch.min() >= 2
    assert by_batch.max() <= 5


def test_no_caption_is_dropped_at_rate_zero_and_all_at_one():
    assert (read(1000, 0.0)[1] != 0).all()
    assert (read(1000, 1.0)[1] == 0).all()
