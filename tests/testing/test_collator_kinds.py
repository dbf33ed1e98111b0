"""Prefix, diffusion and fill-in-the-middle batches are checked for what they are, and padding in every batch."""

import pytest
import torch

from clozelab import CausalLM, FillInTheMiddle, MaskedDiffusion, MaskedLM, PrefixLM, SpanCorruption, SpecialIds
from clozelab.data import IGNORED
from clozelab.errors import InputError
from clozelab.objectives import CM3
from clozelab.testing import CheckFailed, check_collator

ROLES = {"fim_prefix": 3, "fim_suffix": 4, "fim_middle": 5, "fim_end": 6, "span_end": 7}
SPECIAL = SpecialIds(vocab_size=200, pad=0, eos=1, mask=2, sentinels=range(199, 99, -1), roles=ROLES)


def changed(objective, change):
    """A collator that is not clozelab's: a function around one."""
    inner = objective.collator(SPECIAL)

    class Changed:
        def __call__(self, examples):
            texts = [torch.as_tensor(example["input_ids"]) for example in examples]
            text = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=0)
            return change(inner(examples), text)

        def set_epoch(self, epoch):
            inner.set_epoch(epoch)

    return Changed()


def same(batch, text):
    return batch


@pytest.mark.parametrize(
    ("objective", "kind", "checks"),
    [
        (PrefixLM(), "prefix", ["prefix"]),
        (MaskedDiffusion(), "weighted", ["hidden", "levels"]),
        (MaskedDiffusion(exact_count=False), "weighted", ["hidden", "levels"]),
        (FillInTheMiddle(), "middle", ["middle"]),
        (FillInTheMiddle(fim_rate=1.0, form="psm"), "middle", ["middle"]),
        (FillInTheMiddle(fim_rate=1.0, form="spm"), "middle", ["middle"]),
        (CM3(), "blanks", ["blanks"]),
        (CM3(mean_spans=3.0, predict_sentinels=True), "blanks", ["blanks"]),
        (SpanCorruption(scheme="rolled-spans"), "spans", ["round trip", "decoder"]),
        (MaskedLM(scheme="bernoulli"), "masked", ["partition"]),
        (CausalLM(), "next-token", ["labels"]),
    ],
    ids=repr,
)
def test_the_kind_is_found_and_a_right_batch_passes(objective, kind, checks):
    for collator in (objective.collator(SPECIAL), changed(objective, same)):
        report = check_collator(collator, SPECIAL, workers=0)
        assert report.passed
        assert report.findings["returns"].found.startswith(f"{kind} batches")
        assert {report.findings[check].verdict for check in checks} == {"ok"}
        asked = {"noise", "corruption", "progress"} - set(report.not_checked)
        assert len(asked) == (3 if hasattr(collator, "corrupt") else 0)


@pytest.mark.parametrize("objective", [PrefixLM(), MaskedDiffusion(), MaskedLM(), CausalLM()], ids=repr)
@pytest.mark.parametrize("settings", [{"within_documents": True}, {"pad_to_multiple_of": 8}], ids=str)
def test_settings_of_our_collators_make_no_fault(objective, settings):
    assert check_collator(objective.collator(SPECIAL, **settings), workers=0).passed


def test_what_does_not_apply_is_listed_in_one_line():
    report = check_collator(changed(CausalLM(), same), SPECIAL, workers=0)
    assert "middle" in report.not_checked
    [line] = [line for line in str(report).splitlines() if "partition" in line]
    assert line.startswith("  not checked targets, nothing to hide, ")
    assert line.endswith("not of a batch of the kind next-token")


def rank_from_the_left(batch, text):
    return batch | {"reading_rank": torch.arange(text.shape[1]).expand(text.shape)}


def prefix_one_too_long(batch, text):
    return batch | {"reading_rank": (batch["reading_rank"] - 1).clamp(min=0)}


def prefix_in_the_loss(batch, text):
    first = batch["labels"] != IGNORED
    return batch | {"labels": torch.where(first | first.roll(-1, 1), text, IGNORED)}


def rest_cut(batch, text):
    last = batch["attention_mask"].sum(1, keepdim=True) - 1
    return batch | {"labels": batch["labels"].masked_fill(torch.arange(text.shape[1]) == last, IGNORED)}


def zero_for_hidden(batch, text):
    return batch | {"input_ids": batch["input_ids"].masked_fill(batch["input_ids"] == 2, 50)}


def all_labels(batch, text):
    return batch | {"labels": text.masked_fill(batch["attention_mask"] == 0, IGNORED)}


def weights_at_padding(batch, text):
    return batch | {"weights": batch["weights"].amax(1, keepdim=True).expand(text.shape)}


def count_of_hidden(batch, text):
    return batch | {"count": (batch["labels"] != IGNORED).sum(1)}


def count_of_the_width(batch, text):
    return batch | {"count": torch.full_like(batch["count"], text.shape[1])}


def end_not_in_the_loss(batch, text):
    return batch | {"labels": batch["labels"].masked_fill(batch["labels"] == 6, IGNORED)}


def roles_exchanged(batch, text):
    ids = batch["input_ids"]
    return batch | {"input_ids": ids.masked_fill(ids == 4, 5).masked_fill(ids == 5, 4)}


def token_lost(batch, text):
    """The token behind MID is gone: another takes its place."""
    ids = batch["input_ids"].clone()
    behind = (ids == 5).roll(1, 1) & (ids > 6)
    return batch | {key: batch[key].masked_fill(behind, 90) for key in ("input_ids", "labels")}


def mask_of_ones(batch, text):
    return batch | {"attention_mask": torch.ones_like(batch["attention_mask"])}


def labels_at_padding(batch, text):
    return batch | {"labels": batch["labels"].masked_fill(batch["labels"] == IGNORED, 0)}


@pytest.mark.parametrize(
    ("objective", "change", "check"),
    [
        (PrefixLM(), rank_from_the_left, "prefix"),
        (PrefixLM(), prefix_one_too_long, "prefix"),
        (PrefixLM(), prefix_in_the_loss, "prefix"),
        (PrefixLM(), rest_cut, "prefix"),
        (MaskedDiffusion(), zero_for_hidden, "hidden"),
        (MaskedDiffusion(), all_labels, "hidden"),
        (MaskedDiffusion(), weights_at_padding, "hidden"),
        (MaskedDiffusion(), count_of_hidden, "hidden"),
        (MaskedDiffusion(), count_of_the_width, "hidden"),
        (FillInTheMiddle(), end_not_in_the_loss, "middle"),
        (FillInTheMiddle(), roles_exchanged, "middle"),
        (FillInTheMiddle(), token_lost, "middle"),
        (MaskedLM(), mask_of_ones, "padding"),
        (SpanCorruption(), mask_of_ones, "padding"),
        (SpanCorruption(), labels_at_padding, "padding"),
        (CausalLM(), labels_at_padding, "padding"),
    ],
    ids=lambda one: getattr(one, "__name__", getattr(one, "name", one)),
)
def test_a_fault_of_a_batch_is_found_by_its_check(objective, change, check):
    with pytest.raises(CheckFailed) as failed:
        check_collator(changed(objective, change), SPECIAL, workers=0)
    assert check in failed.value.report.faults


def test_tokens_that_are_lost_are_found_and_asked_about_where_the_kind_is_not_known():
    def one_in_ten_replaced(batch, text):
        odd = (text * 7 % 10 == 0) & (batch["labels"] == IGNORED) & (text > 6)
        return batch | {"input_ids": batch["input_ids"].masked_fill(odd, 50)}

    with pytest.raises(CheckFailed) as failed:
        check_collator(changed(MaskedLM(), one_in_ten_replaced), SPECIAL, workers=0)
    assert "recovered" in failed.value.report.faults
    report = check_collator(changed(MaskedLM(), one_in_ten_replaced), SPECIAL, workers=0, kind="other")
    assert report.findings["recovered"].verdict == "not checked"
    assert "is that meant?" in report.findings["recovered"].found


def test_data_that_the_scheme_asks_for_must_be_given():
    def scheme(tokens, maskable, generator, kinds):
        noise = torch.rand(len(tokens), generator=generator) + 0.1 * kinds
        return maskable & (noise <= noise.masked_fill(~maskable, 9).sort().values[len(tokens) // 8])

    collator = MaskedLM(scheme=scheme).collator(SPECIAL)
    with pytest.raises(InputError, match="needs kinds of each example: give example="):
        check_collator(collator)
    data = {"example": lambda ids: {"input_ids": ids, "kinds": [int(token) % 3 for token in ids]}}
    assert check_collator(collator, workers=0, **data).passed
