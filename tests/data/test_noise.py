"""The noise of an example depends on (seed, epoch, example id) and on nothing else."""

import numpy as np
import pytest
import torch

from clozelab.data import Noise
from clozelab.errors import InputError


def test_an_example_has_the_same_noise_in_any_company():
    together = Noise.of(3, 1, [10, 20, 30]).uniform(0, 50)
    alone = Noise.of(3, 1, [20]).uniform(0, 50)
    assert torch.equal(together[1:2], alone)
    assert torch.equal(Noise.of(3, 1, [30, 20, 10]).uniform(0, 50), together.flip(0))


def test_a_longer_draw_begins_with_the_shorter_one():
    noise = Noise.of(0, 0, [5])
    assert torch.equal(noise.uniform(0, 100)[:, :7], noise.uniform(0, 7))


@pytest.mark.parametrize("other", [(1, 0, [5]), (0, 1, [5]), (0, 0, [6])])
def test_another_seed_epoch_or_id_brings_other_noise(other):
    assert not torch.equal(Noise.of(0, 0, [5]).uniform(0, 20), Noise.of(*other).uniform(0, 20))


def test_seed_epoch_and_id_cannot_stand_in_for_one_another():
    draws = {
        tuple(Noise.of(seed, epoch, [example_id]).uniform(0, 2)[0].tolist())
        for seed in range(6)
        for epoch in range(6)
        for example_id in range(6)
    }
    assert len(draws) == 6**3


def test_streams_are_different():
    noise = Noise.of(0, 0, [5])
    assert not torch.equal(noise.uniform(0, 20), noise.uniform(1, 20))


def test_each_row_may_be_in_an_epoch_of_its_own():
    mixed = Noise.of(0, [0, 1], [5, 5]).uniform(0, 9)
    assert torch.equal(mixed[:1], Noise.of(0, 0, [5]).uniform(0, 9))
    assert torch.equal(mixed[1:], Noise.of(0, 1, [5]).uniform(0, 9))


def test_ids_may_be_integers_strings_or_a_tensor():
    assert torch.equal(Noise.of(0, 0, torch.tensor([4, 9])).uniform(0, 5), Noise.of(0, 0, [4, 9]).uniform(0, 5))
    assert torch.equal(Noise.of(0, 0, ["a"]).uniform(0, 5), Noise.of(0, 0, ["a"]).uniform(0, 5))
    assert not torch.equal(Noise.of(0, 0, ["a"]).uniform(0, 5), Noise.of(0, 0, ["b"]).uniform(0, 5))


def test_negative_and_huge_ids_have_noise_of_their_own():
    ids = [-1, 2**64 - 1, 2**64, -(2**64), 0, 2**80, -(2**63), 2**63]
    assert len({tuple(row) for row in Noise.of(1, 2**62, ids).uniform(0, 2).tolist()}) == len(ids)


@pytest.mark.parametrize(("seed", "epoch"), [(-1, 0), (2**63, 0), (0, -2), (0, 2**64 - 1), (0, [3, -2])])
def test_seeds_and_epochs_that_would_share_their_noise_with_others_are_refused(seed, epoch):
    """In 64 bits -1 and 2^64 - 1 are one number."""
    with pytest.raises(InputError, match="must be a whole number of at"):
        Noise.of(seed, epoch, [1, 2])


# ------------------------------------------------------------------ the numbers themselves: more in test_pinned_noise

BITS = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def splitmix(z: int) -> int:
    """The finaliser of Steele, Lea and Flood 2014, figure 17, in whole numbers."""
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & BITS
    z = (z ^ z >> 27) * 0x94D049BB133111EB & BITS
    return z ^ z >> 31


def by_hand(seed: int, epoch: int, example_id: int, stream: int, place: int) -> float:
    key = splitmix(seed + GOLDEN & BITS)
    key = splitmix(key + epoch * GOLDEN + GOLDEN & BITS)
    key = splitmix(key + example_id * GOLDEN + GOLDEN & BITS)
    of_stream = splitmix(key + (stream + 1) * GOLDEN & BITS)
    return (splitmix(of_stream + (place + 1) * GOLDEN & BITS) >> 11) / 2**53


def test_the_hash_is_splitmix64():
    """The first two outputs of the generator from a state of 0, as published."""
    assert [splitmix(GOLDEN), splitmix(2 * GOLDEN & BITS)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]
    for seed, epoch, example_id, stream in ((0, 0, 1, 0), (5, 2, 2**63 + 9, 3), (2**40, 7, 0, 1)):
        expected = [by_hand(seed, epoch, example_id, stream, place) for place in range(5)]
        assert Noise.of(seed, epoch, [example_id]).uniform(stream, 5)[0].tolist() == expected


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_the_default_type_changes_no_number(dtype):
    expected = Noise.of(1, 2, [3]).uniform(4, 5)
    torch.set_default_dtype(dtype)
    try:
        drawn = Noise.of(1, 2, [3]).uniform(4, 5)
    finally:
        torch.set_default_dtype(torch.float32)
    assert drawn.dtype == torch.float64
    assert torch.equal(drawn, expected)


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


def test_a_row_of_noise_is_that_of_its_example():
    noise = Noise.of(0, 0, [5, 6, 7])
    assert torch.equal(noise.row(2).uniform(1, 4), noise.uniform(1, 4)[2:])
    assert torch.equal(noise.rows(torch.tensor([2, 0])).uniform(1, 4), noise.uniform(1, 4)[[2, 0]])


@pytest.mark.parametrize("b", [-1, 3, 7])
def test_a_row_that_is_not_there_is_refused(b):
    with pytest.raises(InputError, match=f"a row from 0 to 2, got {b}"):
        Noise.of(0, 0, [5, 6, 7]).row(b)
