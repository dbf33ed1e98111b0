"""Collators of all objectives pass; the wrong ones are planted in `catalogue_collators.py` and `catalogue_spans.py`."""

import pytest
import torch

from clozelab import CausalLM, MaskedLM, SpanCorruption, SpecialIds
from clozelab.data import IGNORED
from clozelab.errors import InputError
from clozelab.objectives import OBJECTIVES
from clozelab.testing import CheckFailed, check_collator

from .catalogue_collators import Masked, draw, eighty_one_nine_ten
from .catalogue_spans import pad_is_the_end

SPECIAL = SpecialIds(vocab_size=200, pad=0, eos=1, mask=2, sentinels=range(199, 99, -1))


def faults(collator, **settings):
    with pytest.raises(CheckFailed) as failed:
        check_collator(collator, SPECIAL, **settings)
    return failed.value.report


@pytest.mark.parametrize(
    "objective", [*(one() for one in OBJECTIVES.values()), SpanCorruption(final_sentinel=True)], ids=repr
)
def test_the_collator_of_every_objective_passes(objective):
    roles = {role: 3 + n for n, role in enumerate(objective.roles) if role != "mask"}
    ends = torch.arange(200) % 7 == 0
    special = SpecialIds(200, pad=0, eos=1, mask=2, sentinels=range(199, 99, -1), roles=roles, ends_sentence=ends)
    spans = None if hasattr(objective, "denoisers") else (0.15, 3.0)  # those of a mixture are many
    assert check_collator(objective.collator(special), spans=spans).passed


def test_only_the_noise_of_a_mixture_with_rows_that_hide_nothing_is_checked():
    """Half of the rows are causal: the shares of masked LM are not theirs."""

    def some_rows(batch, text):
        causal = draw(text)[:, :1] < 0.5
        return {
            **batch,
            "input_ids": torch.where(causal, text, batch["input_ids"]),
            "labels": torch.where(causal, text, batch["labels"]).masked_fill(batch["attention_mask"] == 0, IGNORED),
        }

    report = check_collator(Masked(some_rows))
    assert report.passed
    assert {"targets", "partition", "levels", "middle"} <= set(report.not_checked)
    assert report.findings["partition"].found.startswith("this is no batch of a known kind")


def test_other_shares_pass_when_they_are_meant():
    collate = MaskedLM(mask_replace_prob=1.0, random_replace_prob=0.0).collator(SPECIAL)
    assert check_collator(collate).passed  # its objective says so
    assert check_collator(collate, shares=(1.0, 0.0, 0.0)).passed
    assert faults(collate, shares=(0.8, 0.1, 0.1)).faults == ["partition"]


def test_shares_that_are_off_by_one_percent_take_more_rows_to_find():
    assert check_collator(Masked(eighty_one_nine_ten), workers=0).passed
    assert faults(Masked(eighty_one_nine_ten), workers=0, rows=1000).faults == ["partition"]
    assert check_collator(MaskedLM().collator(SPECIAL), workers=0, rows=1000).passed


def test_a_right_one_of_that_form_passes():
    """Or the test above would prove nothing."""
    assert check_collator(Masked()).passed


def test_lengths_are_held_against_their_plan():
    collate = SpanCorruption(noise_density=0.3, mean_noise_span_length=3.0).collator(SPECIAL)
    assert faults(collate, spans=(0.15, 3.0)).faults == ["lengths"]


def test_an_end_of_text_that_is_taken_for_padding_is_found():
    special = SpecialIds(vocab_size=200, pad=1, eos=1)
    with pytest.raises(CheckFailed) as failed:
        check_collator(pad_is_the_end, special)
    assert failed.value.report.faults == ["end of text"]
    assert check_collator(CausalLM().collator(special)).passed


def test_what_cannot_be_checked_says_why():
    with pytest.raises(InputError, match="special ids of this collator are not known"):
        check_collator(pad_is_the_end)
    with pytest.raises(InputError, match="kind must be one of"):
        check_collator(pad_is_the_end, SPECIAL, kind="mlm")
    with pytest.raises(InputError, match="rows >= 64"):
        check_collator(pad_is_the_end, SPECIAL, rows=10)
