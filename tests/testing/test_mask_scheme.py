"""Right masking schemes pass; the wrong ones are planted in `catalogue_schemes.py`."""

import pytest
import torch

from clozelab.data import exact_count_mask
from clozelab.errors import InputError
from clozelab.testing import CheckFailed, check_mask_scheme

from .catalogue_schemes import hides_protected, no_minimum
from .schemes import bernoulli, exact_count, noise_of, random_spans


def faults(scheme, **settings):
    with pytest.raises(CheckFailed) as failed:
        check_mask_scheme(scheme, **settings)
    return failed.value.report


def good(tokens, maskable, generator):
    noise = torch.rand(len(tokens), generator=generator).masked_fill(~maskable, 2)
    return maskable & ((noise < 0.15) | (noise == (noise.min() if len(noise) else 0)))


def everything(tokens, maskable, generator):
    """Half of the time a quarter, or else three quarters."""
    rate = 0.25 if float(torch.rand(1, generator=generator)) < 0.5 else 0.75
    return exact_count_mask(maskable, noise_of(tokens, generator), rate)


@pytest.mark.parametrize(
    ("scheme", "rate"), [(good, 0.15), (bernoulli, 0.15), (exact_count, 0.15), (random_spans, 0.15), (everything, 0.5)]
)
def test_what_is_right_passes(scheme, rate):
    assert check_mask_scheme(scheme, rate=rate, count=500).passed


def test_a_rate_that_is_not_given_is_not_checked():
    report = check_mask_scheme(good)
    assert report.not_checked == ["rate"]
    assert report.passed


def test_the_bias_of_t5_is_noted_and_no_fault():
    finding = check_mask_scheme(random_spans).findings["position"]
    assert finding.verdict == "note"
    assert "0 in 0% of rows, 63 in 100%" in finding.found


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


def test_a_scheme_that_hides_short_texts_altogether_is_noted():
    def hides_short(tokens, maskable, generator):
        return maskable.clone() if len(tokens) < 8 else good(tokens, maskable, generator)

    finding = check_mask_scheme(hides_short).findings["short texts"]
    assert finding.verdict == "note"
    assert "100% of 4 tokens" in finding.found


def test_a_scheme_of_the_content_is_tried_on_texts_of_its_own():
    """Ids below 10 are nouns: one of them is hidden, and random ids of 1000 have none."""

    def a_noun(tokens, maskable, generator):
        nouns = maskable & (tokens < 10)
        noise = torch.rand(len(tokens), generator=generator).masked_fill(~nouns, 2)
        return nouns & (noise == noise.min())

    texts = [[3, 20, 30, 7, 21, 9, 40], [50, 2, 60, 61, 5], [8, 70, 4]]
    assert "targets" in faults(a_noun).faults
    report = check_mask_scheme(a_noun, rows=texts)
    assert report.passed
    assert report.findings["rate"].found.startswith("22.")  # one of 7, of 5 and of 3
    with pytest.raises(InputError, match="at least 2 rows"):
        check_mask_scheme(a_noun, rows=texts[:1])


def test_a_fault_in_texts_of_ones_own_is_found():
    assert "targets" in faults(no_minimum, rows=[[5, 6, 7, 8], [9, 10, 11]] * 20).faults
    assert "protected" in faults(hides_protected, rows=[[5, 6, 7, 8], [9, 10, 11]] * 20).faults


def test_the_checks_leave_the_global_random_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(1, generator=torch.Generator().manual_seed(3))
    check_mask_scheme(good)
    assert torch.equal(torch.rand(1), expected)


def test_a_check_can_be_skipped_by_name_and_only_by_a_real_one():
    assert check_mask_scheme(no_minimum, skip=["targets"]).passed
    with pytest.raises(InputError, match="no check is called target; the names are"):
        check_mask_scheme(good, skip=["target"])


@pytest.mark.parametrize("settings", [{"rate": 0}, {"rate": 15}, {"count": 3}, {"length": 2}, {"vocab_size": 1}])
def test_settings_that_make_no_sense_are_refused(settings):
    with pytest.raises(InputError):
        check_mask_scheme(good, **settings)
