"""Text is pooled whitened while a UNet is trained, and the trained UNet is a stock one that computes the same."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own custom

from kanji_diffusion.diffusion.pooling import WhitenedPooling, start_whitened, whitened_pooling, whitening
from kanji_diffusion.diffusion.unet import UNetSettings, text_unet

WIDTH = 64


@pytest.fixture
def states():
    """States as an encoder gives them: one large common part, and few directions that tell captions apart."""
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.standard_normal((WIDTH, WIDTH)))[0]
    mixed = rng.standard_normal((300, 6, WIDTH)) * np.geomspace(1, 0.05, WIDTH) @ directions
    return (mixed + 3 * rng.standard_normal(WIDTH)).astype(np.float32)


def fresh(**settings):
    torch.manual_seed(0)
    return text_unet(UNetSettings(channels=(32, 64), heads=2, groups=16, **settings), 2, 8, WIDTH)


def predict(unet, states):
    torch.manual_seed(1)
    with torch.no_grad():
        return unet(torch.randn(4, 2, 8, 8), 500, torch.from_numpy(states[:4])).sample


def test_whitened_states_are_uncorrelated_and_of_deviation_1(states):
    captions = whitening(states)
    normalised = F.layer_norm(torch.from_numpy(states[1:]), (WIDTH,)).double().flatten(0, 1).numpy()
    white = (normalised - captions["mean"]) @ captions["whitening"]
    # One direction is empty: a normalised state's components sum to nothing.
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(white.T))[1:], 1, atol=1e-6)
    variances = np.linalg.eigvalsh(np.cov(normalised.T))[1:]
    assert variances[-1] / variances[0] > 100
    np.testing.assert_allclose(captions["whitening"] @ captions["inverse"], np.eye(WIDTH), atol=1e-9)


def test_the_unet_computes_the_same_before_within_and_after(states):
    unet, captions = fresh(), whitening(states)
    names, before = set(unet.state_dict()), predict(unet, states)
    with whitened_pooling(unet, captions):
        assert isinstance(unet.add_embedding.pool, WhitenedPooling)
        torch.testing.assert_close(predict(unet, states), before, rtol=1e-3, atol=1e-3)
        with torch.no_grad():
            for parameter in unet.add_embedding.parameters():
                parameter += 0.02 * torch.randn_like(parameter)
        trained = predict(unet, states)
    assert (trained - before).abs().max() > 0.01
    torch.testing.assert_close(predict(unet, states), trained, rtol=1e-3, atol=1e-3)
    assert set(unet.state_dict()) == names


def test_training_starts_from_random_weights_on_whitened_states(states):
    plain, unet, captions = fresh(), fresh(), whitening(states)
    start_whitened(unet, captions)
    assert (predict(unet, states) - predict(plain, states)).abs().max() > 0.01
    with whitened_pooling(unet, captions):
        for name, value in plain.add_embedding.pool.state_dict().items():
            torch.testing.assert_close(unet.add_embedding.pool.pool.state_dict()[name], value, rtol=1e-3, atol=1e-4)


def test_a_unet_without_pooled_text_is_left_alone(states):
    plain, unet, captions = fresh(global_text=False), fresh(global_text=False), whitening(states)
    start_whitened(unet, captions)
    with whitened_pooling(unet, captions):
        assert torch.equal(predict(unet, states), predict(plain, states))
