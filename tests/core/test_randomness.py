"""Random numbers are functions of (seed, purpose, sample), and are random."""

import torch

from kanji_diffusion.core.randomness import ROOT_OF_TWO, SampleRandom, sample_order


def test_numbers_do_not_depend_on_the_batch_they_are_drawn_in():
    whole = SampleRandom(3, torch.arange(100))
    part = SampleRandom(3, torch.arange(40, 50))
    for draw in (lambda r: r.normal("noise", 4, 5), lambda r: r.uniform("t"), lambda r: r.spread("t")):
        assert torch.equal(draw(whole)[40:50], draw(part))


def test_seed_purpose_and_sample_all_matter():
    sample = torch.arange(64)
    base = SampleRandom(0, sample).uniform("a", 8)
    for other in (
        SampleRandom(1, sample).uniform("a", 8),
        SampleRandom(0, sample).uniform("b", 8),
        SampleRandom(0, sample + 1).uniform("a", 8)[:-1],
    ):
        assert (base[: len(other)] == other).float().mean() < 0.01


def test_normals_are_normal_and_independent_between_samples():
    draws = SampleRandom(0, torch.arange(2000)).normal("noise", 100)
    assert abs(draws.mean()) < 0.01
    assert abs(draws.std() - 1) < 0.01
    assert abs((draws.abs() > 1.96).float().mean() - 0.05) < 0.005
    neighbours = (draws[:-1] * draws[1:]).mean()
    assert abs(neighbours) < 0.01


def test_uniform_stays_below_one_and_fills_the_interval():
    draws = SampleRandom(0, torch.arange(10_000)).uniform("u")
    assert draws.min() >= 0
    assert draws.max() < 1
    assert torch.histc(draws, 10, 0, 1).min() > 850


def test_integers_respect_a_bound_for_each_sample():
    high = torch.arange(1, 1001)
    drawn = SampleRandom(0, torch.arange(1000)).integers("choice", high)
    assert (drawn >= 0).all()
    assert (drawn < high).all()


def test_spread_covers_the_interval_evenly_in_every_batch():
    for first in (0, 12_345, 10_000_000):
        drawn = SampleRandom(0, torch.arange(first, first + 64)).spread("timestep")
        assert torch.histc(drawn, 8, 0, 1).min() >= 7


def test_two_paces_do_not_follow_each_other():
    random = SampleRandom(0, torch.arange(10_000))
    first, second = random.spread("timestep"), random.spread("dropout", ROOT_OF_TWO)
    cells = torch.bincount((first * 10).long() * 10 + (second * 10).long(), minlength=100)
    assert cells.min() > 90
    assert cells.max() < 110


def test_every_entry_is_read_once_an_epoch_in_a_new_order():
    order = sample_order(0, torch.arange(30), 10).view(3, 10)
    assert all(sorted(epoch.tolist()) == list(range(10)) for epoch in order)
    assert not torch.equal(order[0], order[1])
    assert torch.equal(sample_order(0, torch.arange(7, 15), 10), order.flatten()[7:15])
