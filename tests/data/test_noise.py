"""The noise of an example depends on (seed, epoch, identity) and on nothing else."""

import numpy as np
import pytest
import torch

from clozelab.data import Noise


def test_an_example_has_the_same_noise_in_any_company():
    together = Noise.of(3, 1, [10, 20, 30]).uniform(0, 50)
    alone = Noise.of(3, 1, [20]).uniform(0, 50)
    assert torch.equal(together[1:2], alone)
    assert torch.equal(Noise.of(3, 1, [30, 20, 10]).uniform(0, 50), together.flip(0))


def test_a_longer_draw_begins_with_the_shorter_one():
    noise = Noise.of(0, 0, [5])
    assert torch.equal(noise.uniform(0, 100)[:, :7], noise.uniform(0, 7))


@pytest.mark.parametrize("other", [(1, 0, [5]), (0, 1, [5]), (0, 0, [6])])
def test_another_seed_epoch_or_identity_brings_other_noise(other):
    assert not torch.equal(Noise.of(0, 0, [5]).uniform(0, 20), Noise.of(*other).uniform(0, 20))


def test_seed_epoch_and_identity_cannot_stand_in_for_one_another():
    draws = {
        tuple(Noise.of(seed, epoch, [identity]).uniform(0, 2)[0].tolist())
        for seed in range(6)
        for epoch in range(6)
        for identity in range(6)
    }
    assert len(draws) == 6**3


def test_streams_are_different():
    noise = Noise.of(0, 0, [5])
    assert not torch.equal(noise.uniform(0, 20), noise.uniform(1, 20))


def test_each_row_may_be_in_an_epoch_of_its_own():
    mixed = Noise.of(0, [0, 1], [5, 5]).uniform(0, 9)
    assert torch.equal(mixed[:1], Noise.of(0, 0, [5]).uniform(0, 9))
    assert torch.equal(mixed[1:], Noise.of(0, 1, [5]).uniform(0, 9))


def test_identities_may_be_integers_strings_or_a_tensor():
    assert torch.equal(Noise.of(0, 0, torch.tensor([4, 9])).uniform(0, 5), Noise.of(0, 0, [4, 9]).uniform(0, 5))
    assert torch.equal(Noise.of(0, 0, ["a"]).uniform(0, 5), Noise.of(0, 0, ["a"]).uniform(0, 5))
    assert not torch.equal(Noise.of(0, 0, ["a"]).uniform(0, 5), Noise.of(0, 0, ["b"]).uniform(0, 5))


def test_negative_and_huge_numbers_are_fine():
    assert Noise.of(-1, 2**62, [-5, 2**80]).uniform(0, 3).shape == (2, 3)


def test_the_global_random_state_is_neither_read_nor_changed():
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = Noise.of(0, 0, [1]).uniform(0, 9)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    torch.manual_seed(1)
    assert torch.equal(first, Noise.of(0, 0, [1]).uniform(0, 9))


def test_numbers_are_uniform_across_examples_positions_and_epochs():
    """Chi-square over 64 bins, 63 degrees of freedom: 1 in 10,000 uniform samples exceeds 110."""
    for draws in (
        Noise.of(0, 0, range(2000)).uniform(0, 50),
        Noise.of(7, 3, [1]).uniform(1, 100_000),
        Noise.of(0, range(2000), [1] * 2000).uniform(0, 50),
    ):
        counts = torch.histc(draws.flatten(), 64, 0.0, 1.0)
        expected = draws.numel() / 64
        assert float(((counts - expected) ** 2 / expected).sum()) < 110
        assert draws.min() >= 0
        assert draws.max() < 1


def test_neighbours_are_independent():
    """The correlation of n independent pairs has a spread of 1 / sqrt(n); five of those are allowed."""
    draws = Noise.of(0, 0, range(1000)).uniform(0, 200) - 0.5
    for a, b in ((draws[:, 1:], draws[:, :-1]), (draws[1:], draws[:-1])):
        correlation = float((a * b).mean() * 12)
        assert abs(correlation) < 5 / a.numel() ** 0.5


def test_generators_draw_what_belongs_to_the_example():
    [first] = Noise.of(0, 0, [5]).generators(0)
    again = Noise.of(0, 0, [9, 5]).generators(0)[1]
    assert torch.equal(torch.rand(4, generator=first), torch.rand(4, generator=again))
