"""Muon: its steps are orthogonal, of AdamW's size, and its matrices those that they should be."""

import math

import pytest
import torch
from torch import nn

from kanji_diffusion.training.muon import Muon, is_matrix, orthogonal
from kanji_diffusion.training.optimizers import Optimizers
from kanji_diffusion.training.settings import TrainingSettings


def spread(rows, columns, seed=0):
    """A matrix whose singular values fall from 1 to 0.03."""
    generator = torch.Generator().manual_seed(seed)
    left, _, right = torch.linalg.svd(torch.randn(rows, columns, generator=generator), full_matrices=False)
    return left * torch.logspace(0, -1.5, rows) @ right, left @ right


def test_singular_values_come_near_one_and_the_vectors_stay():
    shapes = [(8, 20), (32, 32), (8, 20), (32, 90), (1, 5)]
    pairs = [spread(*shape, seed) for seed, shape in enumerate(shapes)]
    for turned, (_, wanted) in zip(orthogonal([start for start, _ in pairs]), pairs, strict=True):
        values = torch.linalg.svdvals(turned)
        assert values.min() > 0.72
        assert values.max() < 1.28
        assert (turned * wanted).sum() / (turned.norm() * wanted.norm()) > 0.97


def test_no_gradient_gives_no_step_and_not_nan():
    assert orthogonal([torch.zeros(4, 6)])[0].abs().max() == 0


@pytest.mark.parametrize("shape", [(48, 64), (64, 48), (40, 36, 3, 3), (300, 64), (150, 150)])
def test_a_step_is_of_the_size_of_adamws_and_orthogonal_in_blocks(shape):
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(shape))
    optimizer = Muon([weight], lr=0.1)
    weight.grad = torch.randn(shape)
    optimizer.step()
    matrix = weight.detach().flatten(1)
    assert matrix.square().mean().sqrt() == pytest.approx(0.02, rel=0.15)
    assert (matrix * weight.grad.flatten(1)).sum() < 0
    wide = matrix.T if len(matrix) > matrix.shape[1] else matrix
    for block in wide.chunk(math.ceil(len(wide) / 64)):
        values = torch.linalg.svdvals(block) / (0.02 * math.sqrt(block.shape[1]))
        assert values.max() < 1.28
        assert values.median() > 0.65


def test_the_past_counts_by_its_momentum_and_weights_decay():
    torch.manual_seed(0)
    first, second = torch.randn(2, 40, 40)
    weight = nn.Parameter(torch.ones(40, 40))
    optimizer = Muon([weight], lr=0.1, momentum=0.5, weight_decay=0.3)
    weight.grad = first
    optimizer.step()
    weight.grad, before = second, weight.detach().clone()
    optimizer.step()
    mean = 0.25 * first + 0.5 * second
    step = orthogonal([0.5 * second + 0.5 * mean])[0] * 0.1 * 0.2 * math.sqrt(40)
    torch.testing.assert_close(weight.detach(), before * (1 - 0.03) - step)


def test_biases_norms_and_a_pictures_first_and_last_convolutions_are_adamws():
    module = nn.Sequential(
        nn.Conv2d(2, 64, 3), nn.GroupNorm(8, 64), nn.Conv2d(64, 64, 3), nn.Linear(64, 32), nn.Conv2d(64, 2, 3)
    )
    settings = TrainingSettings(steps=1, batch_size=1, learning_rate=0.1, optimizer="muon")
    adamw, muon = Optimizers(module, settings).optimizers
    assert isinstance(muon, Muon)
    assert muon.param_groups[0]["params"] == [module[2].weight, module[3].weight]
    assert len(adamw.param_groups[0]["params"]) == len(list(module.parameters())) - 2
    assert not any(is_matrix(each) for each in adamw.param_groups[0]["params"])
    (alone,) = Optimizers(module, settings.model_copy(update={"optimizer": "adamw"})).optimizers
    assert len(alone.param_groups[0]["params"]) == len(list(module.parameters()))


def test_tables_of_embeddings_are_adamws():
    module = nn.Sequential(nn.Embedding(64, 64), nn.Linear(64, 64))
    settings = TrainingSettings(steps=1, batch_size=1, learning_rate=0.1, optimizer="muon")
    adamw, muon = Optimizers(module, settings).optimizers
    assert [each.shape for each in muon.param_groups[0]["params"]] == [(64, 64)]
    assert muon.param_groups[0]["params"][0] is module[1].weight
    assert module[0].weight in set(adamw.param_groups[0]["params"])
