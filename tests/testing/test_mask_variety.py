"""A scheme with few masks is found, and one that asks for data of the example gets it."""

import pytest
import torch

from clozelab.data import exact_count_mask, whole_word_mask
from clozelab.errors import InputError
from clozelab.testing import CheckFailed, check_mask_scheme, target

from .schemes import one_multiple_of_ten, window


def exact_count(tokens, maskable, generator):
    return exact_count_mask(maskable, torch.rand(len(tokens), generator=generator), 0.15)


def one_of(masks):
    def scheme(tokens, maskable, generator):
        which = int(torch.randint(masks, (1,), generator=generator))
        return exact_count(tokens, maskable, torch.Generator().manual_seed(which))

    return scheme


def every_seventh(tokens, maskable, generator):
    """Seven masks, in which each position is hidden once."""
    first = int(torch.randint(7, (1,), generator=generator))
    mask = maskable & (torch.arange(len(tokens)) % 7 == first)
    return mask if bool(mask.any()) else exact_count(tokens, maskable, generator)


@pytest.mark.parametrize("masks", [2, 3, 10, 50])
def test_masks_from_a_fixed_set_are_found(masks):
    with pytest.raises(CheckFailed, match=rf"FAULT +variety: 300 generators give {masks} different masks"):
        check_mask_scheme(one_of(masks), count=100)


@pytest.mark.parametrize(
    ("scheme", "verdict"),
    [(exact_count, "ok"), (window, "ok"), (every_seventh, "note"), (one_multiple_of_ten, "note")],
)
def test_few_masks_for_a_reason_are_no_fault(scheme, verdict):
    report = check_mask_scheme(scheme, count=100)
    assert report.passed
    assert report.findings["variety"].verdict == verdict


def test_a_scheme_of_a_fixed_number_of_tokens_does_not_count_what_is_protected():
    """Three of sixteen maskable tokens are many, and as many as in a text of sixteen."""
    finding = check_mask_scheme(window, count=100).findings["protected rate"]
    assert finding.verdict == "ok"


# ------------------------------------------------------------------ data of the example


def one_entity(tokens, maskable, generator, entity_ids):
    found = entity_ids[maskable & (entity_ids > 0)].unique()
    if not len(found):
        return exact_count(tokens, maskable, generator)
    return maskable & (entity_ids == found[torch.randint(len(found), (1,), generator=generator)])


ROWS = [
    {"input_ids": [5, 6, 7, 8, 9], "entity_ids": [0, 1, 1, 0, 2]},
    {"input_ids": [5, 6, 7, 8], "entity_ids": [3, 0, 0, 4]},
]


def test_a_scheme_gets_the_data_of_the_rows():
    report = check_mask_scheme(one_entity, rows=ROWS, count=100)
    assert report.passed
    assert report.not_checked == ["variety", "rate", "protected rate", "short texts", "position"]
    assert target.check((one_entity, ROWS)).passed


def test_a_fault_of_a_scheme_with_data_is_found():
    def hides_protected(tokens, maskable, generator, entity_ids):
        found = entity_ids[entity_ids > 0].unique()
        return entity_ids == found[torch.randint(len(found), (1,), generator=generator)]

    with pytest.raises(CheckFailed) as failed:
        check_mask_scheme(hides_protected, rows=ROWS * 10, count=100)
    assert "protected" in failed.value.report.faults


def test_data_that_no_row_has_is_asked_for():
    with pytest.raises(InputError, match=r"asks for entity_ids, which random tokens do not have: give rows="):
        check_mask_scheme(one_entity)
    with pytest.raises(InputError, match="row 1 has no entity_ids"):
        check_mask_scheme(one_entity, rows=[ROWS[0], [5, 6]])


def test_words_are_made_up():
    def whole_words(tokens, maskable, generator, word_ids):
        noise = torch.rand(len(tokens), generator=generator, dtype=torch.float64)
        return whole_word_mask(maskable, noise, 0.3, word_ids)

    report = check_mask_scheme(whole_words, count=100)
    assert report.passed
    assert report.findings["variety"].verdict == "ok"
    assert target.check(whole_words).passed


def test_words_that_are_grouped_by_the_value_of_their_id_are_found():
    def words_by_value(tokens, maskable, generator, word_ids):
        free = word_ids[maskable].unique()
        noise = torch.rand(len(free), generator=generator)
        return maskable & torch.isin(word_ids, free[(noise < 0.2) | (noise == noise.min())])

    with pytest.raises(CheckFailed, match=r"FAULT +words: words of one id are always hidden together"):
        check_mask_scheme(words_by_value, count=100)


def everything(tokens, maskable, generator):
    return maskable.clone()


def test_a_scheme_that_hides_everything_has_nothing_to_vary():
    report = check_mask_scheme(everything, rate=1.0, count=100)
    assert report.passed
    assert report.findings["varies"].verdict == "ok"
    assert check_mask_scheme(everything, count=100).findings["varies"].verdict == "note"
    with pytest.raises(CheckFailed) as failed:
        check_mask_scheme(everything, rate=0.15, count=100)
    assert {"varies", "rate"} <= set(failed.value.report.faults)


def with_repeats(tokens, maskable, generator):
    """Draws with replacement hide fewer than asked for, the more the longer a text is."""
    n = len(tokens)
    mask = torch.zeros(n, dtype=torch.bool)
    mask[torch.randint(n, (max(1, round(0.15 * n)),), generator=generator)] = True
    mask &= maskable
    return mask if bool(mask.any()) else exact_count(tokens, maskable, generator)


def never_the_last(tokens, maskable, generator):
    n = int(maskable.sum())
    free = maskable.nonzero()[:, 0]
    mask = torch.zeros_like(maskable)
    mask[free[torch.randperm(max(n - 1, 1), generator=generator)[: max(1, round(0.15 * n))]]] = True
    return mask


@pytest.mark.parametrize(("scheme", "check"), [(with_repeats, "rate"), (never_the_last, "position")])
def test_draws_that_are_off_by_a_little_are_found(scheme, check):
    with pytest.raises(CheckFailed) as failed:
        check_mask_scheme(scheme, rate=0.15, count=1000)
    assert failed.value.report.faults == [check]


def test_a_word_that_is_hidden_in_part_is_found():
    def cuts_words(tokens, maskable, generator, word_ids):
        return exact_count(tokens, maskable, generator)

    with pytest.raises(CheckFailed, match=r"FAULT +words: a word is hidden in part"):
        check_mask_scheme(cuts_words, count=100)
