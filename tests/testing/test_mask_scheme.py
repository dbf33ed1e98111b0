"""The kit passes what is right, and finds each way of being wrong by its name."""

import random

import numpy as np
import pytest
import torch

from clozelab.data.masking import Bernoulli, ExactCount, RandomSpans, WholeWords
from clozelab.errors import InputError
from clozelab.testing import CheckFailed, check_mask_scheme


def faults(scheme, **settings):
    with pytest.raises(CheckFailed) as failed:
        check_mask_scheme(scheme, **settings)
    return failed.value.report


def good(tokens, maskable, generator):
    noise = torch.rand(len(tokens), generator=generator).masked_fill(~maskable, 2)
    return maskable & ((noise < 0.15) | (noise == (noise.min() if len(noise) else 0)))


@pytest.mark.parametrize("scheme", [good, Bernoulli(), ExactCount(0.3), WholeWords(), RandomSpans()])
def test_what_is_right_passes(scheme):
    assert check_mask_scheme(scheme, rate=getattr(scheme, "rate", 0.15)).passed


def test_the_bias_of_t5_is_noted_and_no_fault():
    finding = check_mask_scheme(RandomSpans()).findings["position"]
    assert finding.verdict == "note"
    assert "0 in 0% of rows, 63 in 100%" in finding.found


def no_minimum(tokens, maskable, generator):
    return maskable & (torch.rand(len(tokens), generator=generator) < 0.15)


def integers(tokens, maskable, generator):
    return good(tokens, maskable, generator).long()


def one_short(tokens, maskable, generator):
    return good(tokens, maskable, generator)[1:]


def hides_protected(tokens, maskable, generator):
    return torch.rand(len(tokens), generator=generator) < 0.5


def mutates(tokens, maskable, generator):
    mask = good(tokens, maskable, generator)
    tokens[mask] = 0
    return mask


def takes_over_maskable(tokens, maskable, generator):
    maskable &= good(tokens, maskable, generator)
    return maskable


def draws_from_torch(tokens, maskable, generator):
    return good(tokens, maskable, torch.default_generator)


def draws_from_numpy(tokens, maskable, generator):
    mask = torch.from_numpy(np.random.rand(len(tokens)) < 0.15)  # noqa: NPY002
    return maskable & (mask | good(tokens, maskable, generator))


def draws_from_random(tokens, maskable, generator):
    extra = int(random.random() * len(tokens)) if len(tokens) else 0
    return maskable & (good(tokens, maskable, generator) | (torch.arange(len(tokens)) == extra))


def seeds_the_world(tokens, maskable, generator):
    torch.manual_seed(int(torch.randint(10**6, (1,), generator=generator)))
    return good(tokens, maskable, torch.default_generator)


def always_the_same(tokens, maskable, generator):
    return good(tokens, maskable, torch.Generator().manual_seed(7))


def too_many(tokens, maskable, generator):
    return good(tokens, maskable, generator) | good(tokens, maskable, generator)


def dies_on_short(tokens, maskable, generator):
    start = int(torch.randint(len(tokens) - 4, (1,), generator=generator))
    return maskable & (torch.arange(len(tokens)).sub(start).abs() < 3)


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        (no_minimum, "targets"),
        (integers, "returns"),
        (one_short, "returns"),
        (hides_protected, "protected"),
        (mutates, "unchanged"),
        (takes_over_maskable, "unchanged"),
        (draws_from_torch, "generator"),
        (draws_from_torch, "global state"),
        (draws_from_numpy, "global state"),
        (draws_from_random, "global state"),
        (seeds_the_world, "global state"),
        (always_the_same, "varies"),
        (too_many, "rate"),
        (dies_on_short, "returns"),
    ],
)
def test_each_mistake_is_found_by_its_name(scheme, expected):
    report = faults(scheme, rate=0.15)
    assert expected in report.faults
    finding = report.findings[expected]
    assert finding.found
    assert finding.why or finding.example or "raises" in finding.found


@pytest.mark.parametrize("rate", [0.05, 0.15, 0.3, 0.5])
def test_a_scheme_that_never_looks_at_what_is_maskable_is_found_whatever_its_rate(rate):
    """What is maskable is drawn from another seed than the scheme's: once they shared it, and this one got through."""

    def blind(tokens, maskable, generator):
        return torch.rand(len(tokens), generator=generator) < rate

    assert "protected" in faults(blind).faults


def test_a_mistake_is_shown_by_its_smallest_example():
    finding = faults(no_minimum).findings["targets"]
    assert finding.example.splitlines()[0].split()[0] == "tokens"
    assert len(finding.example.splitlines()[0].split()) == 2  # one token


def test_the_checks_leave_the_global_random_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(1, generator=torch.Generator().manual_seed(3))
    check_mask_scheme(good)
    assert torch.equal(torch.rand(1), expected)


def test_a_check_can_be_skipped_by_name_and_only_by_a_real_one():
    assert check_mask_scheme(no_minimum, skip=["targets"]).passed
    with pytest.raises(InputError, match="no check is called target; the names are"):
        check_mask_scheme(good, skip=["target"])


@pytest.mark.parametrize("settings", [{"rate": 0}, {"rate": 15}, {"rows": 3}, {"length": 2}, {"vocab_size": 1}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(InputError):
        check_mask_scheme(good, **settings)
