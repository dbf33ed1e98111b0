"""What stands in place of a hidden token: 80/10/10, exactly a partition."""

import math

import pytest
import torch

from clozelab.data import Noise, replace_tokens
from clozelab.errors import InputError

TEXT = torch.arange(10, 90)


def corrupted(rows=2000, n=50, **probabilities):
    tokens = TEXT[torch.arange(rows * n) % len(TEXT)].view(rows, n)
    mask = Noise.of(1, 0, range(rows)).uniform(0, n) < 0.5
    noise = Noise.of(1, 0, range(rows)).uniform(1, n)
    return tokens, mask, replace_tokens(tokens, mask, noise, mask_id=2, replacements=TEXT, **probabilities)


def test_nothing_changes_where_nothing_is_hidden():
    tokens, mask, result = corrupted()
    assert torch.equal(tokens[~mask], result[~mask])


@pytest.mark.parametrize(
    "probabilities", [(0.8, 0.1), (0.5, 0.5), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.8, 0.0)], ids=str
)
def test_tokens_are_replaced_as_often_as_asked_for(probabilities):
    """Five standard errors; a random id equals the original once in 80 times."""
    tokens, mask, result = corrupted(mask_replace_prob=probabilities[0], random_replace_prob=probabilities[1])
    n = int(mask.sum())
    masked = (result[mask] == 2).double().mean()
    changed = ((result != tokens) & (result != 2))[mask].double().mean()
    for seen, p in ((masked, probabilities[0]), (changed, probabilities[1] * (1 - 1 / len(TEXT)))):
        assert abs(seen - p) <= 5 * math.sqrt(p * (1 - p) / n)


def test_random_ids_are_uniform_over_the_replacements_and_never_special():
    """Chi-square with 79 degrees of freedom: 1 in 10,000 samples exceeds 131."""
    _, mask, result = corrupted(mask_replace_prob=0.0, random_replace_prob=1.0)
    drawn = result[mask]
    counts = torch.bincount(drawn, minlength=100)
    assert counts[:10].sum() == 0
    assert counts[90:].sum() == 0
    expected = len(drawn) / len(TEXT)
    assert float(((counts[10:90] - expected) ** 2 / expected).sum()) < 131


def test_the_callers_tokens_are_not_changed():
    tokens = TEXT.clone()
    replace_tokens(tokens, torch.ones(80, dtype=torch.bool), torch.zeros(80), mask_id=2, replacements=TEXT)
    assert torch.equal(tokens, TEXT)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16, torch.int32, torch.uint32], ids=str)
def test_ids_of_narrow_types_give_what_wide_ones_give(dtype):
    tokens, mask = torch.tensor([5, 6, 7, 8]), torch.tensor([True, True, True, False])
    noise = torch.tensor([0.1, 0.85, 0.95, 0.1])  # a mask, a random id, itself, not hidden
    expected = replace_tokens(tokens, mask, noise, mask_id=900, replacements=torch.arange(300, 400))
    result = replace_tokens(tokens.to(dtype), mask, noise, mask_id=900, replacements=torch.arange(300, 400))
    assert expected.tolist() == [900, 350, 7, 8]
    assert result.dtype == torch.int64
    assert torch.equal(result, expected)


@pytest.mark.parametrize("shares", [(0.8, 0.5), (-0.1, 0.5), (0.5, -0.1), (1.5, 0.0), (float("nan"), 0.1)])
def test_shares_that_add_up_to_more_than_one_are_refused(shares):
    names = dict(zip(("mask_replace_prob", "random_replace_prob"), shares))
    with pytest.raises(InputError, match="mask_replace_prob"):
        replace_tokens(TEXT, torch.ones(80, dtype=torch.bool), torch.zeros(80), mask_id=2, replacements=TEXT, **names)
