"""Each practice changes what it says, and nothing else."""

import pytest
import torch
from torch import nn

from kanji_diffusion.diffusion import vae as vaes
from kanji_diffusion.recipes.models import ConvolutionalVAE, CrossAttention, TextUNet


def unet(**practices):
    torch.manual_seed(0)
    return TextUNet(8, 4, 24, (16, 32), **practices).eval()


def kinds(module, kind):
    return [part for part in module.modules() if isinstance(part, kind)]


@pytest.mark.parametrize("build", [unet, lambda **options: ConvolutionalVAE(32, 4, (16, 32, 64), **options)])
def test_the_norm_is_exchanged_with_its_activation(build):
    original, improved = build(), build(grouped=True)
    counts = [[len(kinds(each, kind)) for kind in (nn.BatchNorm2d, nn.GroupNorm)] for each in (original, improved)]
    assert counts == [[counts[0][0], 0], [0, counts[0][0]]]
    assert kinds(original, nn.LeakyReLU) and not kinds(improved, nn.LeakyReLU)
    assert sum(map(torch.Tensor.numel, original.parameters())) == sum(map(torch.Tensor.numel, improved.parameters()))
    assert next(norm.num_groups for norm in kinds(improved, nn.GroupNorm) if norm.num_channels == 32) == 32


def test_the_time_path_reads_the_timestep_as_it_is():
    shallow, deep = unet().time, unet(time_layers=3).time
    assert [len(kinds(path, nn.Linear)) for path in (shallow, deep)] == [2, 3]
    assert shallow[0].in_features == 1
    latents, states = torch.randn(1, 4, 8, 8).expand(2, -1, -1, -1), torch.randn(1, 5, 24).expand(2, -1, -1)
    early, late = unet()(latents, torch.tensor([1, 900]), states).sample
    assert (early - late).abs().max() > 0.1


def test_cross_attention_is_that_of_the_paper():
    torch.manual_seed(0)
    layer = CrossAttention(16, 24, heads=2, grouped=True)
    hidden, states = torch.randn(3, 16, 4, 4), torch.randn(3, 5, 24)
    query, key, value = (
        part(of).unflatten(-1, (2, 8)).transpose(1, 2)
        for part, of in (
            (layer.query, layer.norm(hidden).flatten(2).transpose(1, 2)),
            (layer.key, states),
            (layer.value, states),
        )
    )
    told = layer.out(nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(hidden, states), hidden + told.transpose(1, 2).unflatten(-1, (4, 4)))


def test_depth_adds_blocks_and_every_stage_has_its_size():
    shallow, deep = unet(), unet(layers=2, heads=2)
    assert [sum(map(len, part)) for net in (shallow, deep) for part in (net.down, net.up)] == [2, 2, 4, 4]
    for side in (4, 8):
        assert deep(torch.randn(2, 4, side, side), 5, torch.randn(2, 5, 24)).sample.shape == (2, 4, side, side)


def test_a_renamed_module_computes_the_same():
    original, renamed = unet(), unet(renamed=True)
    state = {name.replace("middle.", "bottleneck."): value for name, value in original.state_dict().items()}
    assert set(state) == set(renamed.state_dict()) != set(original.state_dict())
    renamed.load_state_dict(state)
    inputs = torch.randn(2, 4, 8, 8), torch.tensor([3, 700]), torch.randn(2, 5, 24)
    assert torch.equal(original(*inputs).sample, renamed(*inputs).sample)


def test_latent_statistics_are_folded_into_the_autoencoder(trials, tmp_path):
    made = trials(tmp_path)
    for grouped in (False, True):
        vae, report = made.vae(grouped, 0)
        real = made.real.images[made.real.trained]
        mean, std = vaes.encode(vae, real)
        spread = mean.var(axis=(0, 2, 3)) + (std**2).mean(axis=(0, 2, 3))
        assert abs(mean.mean(axis=(0, 2, 3))).max() < 1e-3 and abs(spread - 1).max() < 1e-3
        assert 0 <= report["overlap"] <= 1 and len(report["loss"]) == 4
