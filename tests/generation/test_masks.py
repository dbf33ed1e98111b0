"""Filling masks: an order is the loop that it describes, and every blank is filled in its rounds."""

import math

import pytest
import torch

from clozelab.errors import InputError
from clozelab.generation import ORDERS, fill_masks

from .models import BLANKS, MASK, PROMPTS, random_weights, seeded


@pytest.fixture
def encoder():
    return random_weights("encoder-only")


@pytest.fixture
def readings(encoder):
    """(B, T) bool of every text that the model reads: where it is blank."""
    seen: list[torch.Tensor] = []
    encoder.register_forward_hook(lambda module, ids, out: seen.append(ids[0] == MASK))
    return seen


@pytest.mark.parametrize("order", ORDERS)
def test_every_mask_is_filled_and_the_rest_stays(encoder, order):
    given = BLANKS.clone()
    filled = fill_masks(encoder, BLANKS, MASK, order=order)
    assert torch.equal(BLANKS, given)
    assert torch.equal(filled[BLANKS != MASK], BLANKS[BLANKS != MASK])
    assert MASK not in filled


def test_all_at_once_is_one_reading(encoder):
    expected = encoder.unembed(encoder(BLANKS))
    expected[..., MASK] = -torch.inf
    assert torch.equal(
        fill_masks(encoder, BLANKS, MASK, order="all", greedy=True),
        torch.where(BLANKS == MASK, expected.argmax(-1), BLANKS),
    )


@pytest.mark.parametrize("order", ["left_to_right", "confidence"])
def test_an_order_is_the_loop_that_it_describes(encoder, order):
    for row in range(2):
        ids = BLANKS[row].clone()
        while (ids == MASK).any():
            logits = encoder.unembed(encoder(ids[None]))[0]
            logits[:, MASK] = -torch.inf
            places = (ids == MASK).nonzero()[:, 0]
            certainty = logits.softmax(-1).amax(-1)[places]
            place = places[0] if order == "left_to_right" else places[certainty.argmax()]
            ids[place] = logits[place].argmax()
        assert torch.equal(fill_masks(encoder, BLANKS, MASK, order=order, greedy=True)[row], ids)


def test_a_random_order_is_drawn_for_each_row_and_every_place_is_as_likely_to_come_first(encoder, readings):
    fill_masks(encoder, torch.full((3000, 3), MASK), MASK, order="random", generator=seeded())
    assert [int(blank.sum()) for blank in readings] == [9000, 6000, 3000]  # one blank of each row in a round
    first = (~readings[1]).sum(0) / 3000
    assert (first - 1 / 3).abs().max() < 5 * (2 / 9 / 3000) ** 0.5  # five standard errors


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_ancestral_filling_needs_no_more_than_its_rounds(encoder, readings, rounds):
    filled = fill_masks(encoder, torch.full((50, 12), MASK), MASK, order="ancestral", rounds=rounds, generator=seeded())
    assert MASK not in filled
    assert len(readings) == rounds


def test_each_ancestral_round_fills_an_equal_share_in_expectation_and_a_binomial_number_in_truth(encoder, readings):
    """A blank is filled in each of 5 rounds with probability 1/5, so of 10 blanks 2 on average, independently: the
    variance of the number in a round is 10 x 1/5 x 4/5. Five standard errors over 2000 rows; an even split has none."""
    rows, n, rounds = 2000, 10, 5
    fill_masks(encoder, torch.full((rows, n), MASK), MASK, order="ancestral", rounds=rounds, generator=seeded())
    left = torch.stack([blank.sum(1) for blank in readings] + [torch.zeros(rows).long()]).double()  # (rounds + 1, rows)
    filled = left[:-1] - left[1:]
    variance = n * (1 / rounds) * (1 - 1 / rounds)
    assert (filled.mean(1) - n / rounds).abs().max() < 5 * math.sqrt(variance / rows)
    assert (filled.var(1) / variance - 1).abs().max() < 5 * math.sqrt(2 / rows)
    first = (~readings[1]).double().mean(0)  # of each place
    assert (first - 1 / rounds).abs().max() < 5 * math.sqrt(0.16 / rows)


def test_ancestral_rounds_may_be_more_than_the_blanks_so_that_few_are_filled_together(encoder, readings):
    """Of 40 rounds two blanks share one with probability 1/40; in two rounds it would be 1/2."""
    fill_masks(encoder, torch.full((800, 2), MASK), MASK, order="ancestral", rounds=40, generator=seeded())
    left = torch.stack([blank.sum(1) for blank in readings] + [torch.zeros(800).long()])
    together = int((left[:-1] - left[1:] == 2).sum())
    assert abs(together / 800 - 1 / 40) < 5 * math.sqrt(1 / 40 * 39 / 40 / 800)


def test_rounds_share_the_blanks(encoder, readings):
    ids = torch.full((1, 7), MASK)
    fill_masks(encoder, ids, MASK, order="confidence", rounds=3)
    assert [int(blank.sum()) for blank in readings] == [7, 4, 2]
    readings.clear()
    fill_masks(encoder, ids, MASK, order="left_to_right")
    assert [int(blank.sum()) for blank in readings] == [7, 6, 5, 4, 3, 2, 1]


def test_nothing_to_fill_is_no_work(encoder, readings):
    assert torch.equal(fill_masks(encoder, PROMPTS, MASK), PROMPTS)
    assert readings == []


@pytest.mark.parametrize("order", ["all", "confidence", "left_to_right"])
def test_padding_is_not_read_when_filling(encoder, order):
    padded = torch.cat((BLANKS, torch.zeros(2, 3).long()), 1)
    attention_mask = torch.tensor([[1] * 6 + [0] * 3] * 2)
    filled = fill_masks(encoder, padded, MASK, order=order, attention_mask=attention_mask, greedy=True)
    assert torch.equal(filled[:, :6], fill_masks(encoder, BLANKS, MASK, order=order, greedy=True))


@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("order", ORDERS)
def test_suppressed_ids_are_never_filled_in(encoder, order, greedy):
    filled = fill_masks(encoder, BLANKS, MASK, order=order, greedy=greedy, suppressed=range(30))
    assert filled[BLANKS == MASK].min() >= 30


@pytest.mark.parametrize("order", ORDERS)
def test_chance_comes_from_the_generator_alone(encoder, order):
    blanks, before = torch.full((4, 8), MASK), torch.get_rng_state()
    first = fill_masks(encoder, blanks, MASK, order=order, generator=seeded(1))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(fill_masks(encoder, blanks, MASK, order=order, generator=seeded(1)), first)
    assert not torch.equal(fill_masks(encoder, blanks, MASK, order=order, generator=seeded(2)), first)


def test_orders_and_rounds_that_mean_nothing_are_refused(encoder):
    with pytest.raises(InputError, match="order must be one of all, left_to_right, confidence, random, ancestral"):
        fill_masks(encoder, BLANKS, MASK, order="backwards")
    with pytest.raises(InputError, match="rounds must be at least 1"):
        fill_masks(encoder, BLANKS, MASK, order="confidence", rounds=0)
    with pytest.raises(InputError, match="order 'all' has one"):
        fill_masks(encoder, BLANKS, MASK, order="all", rounds=2)
