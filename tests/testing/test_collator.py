"""Collators of all objectives pass, and each mistake in one is found by its name."""

import pytest
import torch

from clozelab import CausalLM, MaskedLM, SpanCorruption, SpecialIds
from clozelab.data import IGNORED
from clozelab.data.masking import exact_count_mask
from clozelab.errors import InputError
from clozelab.objectives import OBJECTIVES
from clozelab.testing import CheckFailed, check_collator

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
    special = SpecialIds(vocab_size=200, pad=0, eos=1, mask=2, sentinels=range(199, 99, -1), roles=roles)
    assert check_collator(objective.collator(special), spans=(0.15, 3.0)).passed


def test_only_the_noise_of_a_mixture_with_rows_that_hide_nothing_is_checked():
    """Half of the rows are causal: the shares of masked LM are not theirs."""

    class SomeRows(Wrong):
        def breaks(self, batch, text, examples):
            causal = draw(text)[:, :1] < 0.5
            return {
                **batch,
                "input_ids": torch.where(causal, text, batch["input_ids"]),
                "labels": torch.where(causal, text, batch["labels"]).masked_fill(batch["attention_mask"] == 0, IGNORED),
            }

    report = check_collator(SomeRows())
    assert report.passed
    assert "partition" not in report.findings


def test_other_shares_pass_when_they_are_meant():
    collate = MaskedLM(mask_replace_prob=1.0, random_replace_prob=0.0).collator(SPECIAL)
    assert check_collator(collate, shares=(1.0, 0.0, 0.0)).passed
    assert faults(collate).faults == ["partition"]


class Wrong:
    """A collator for masked LM, right but for what a subclass breaks."""

    special = SPECIAL

    def __init__(self):
        self.epoch = 0
        self.inner = MaskedLM().collator(SPECIAL)

    def set_epoch(self, epoch):
        self.inner.set_epoch(epoch)

    def __call__(self, examples):
        texts = [torch.as_tensor(example["input_ids"]) for example in examples]
        text = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=0)
        return self.breaks(self.inner(examples), text, examples)

    def breaks(self, batch, text, examples):
        return batch


def draw(text):
    """Numbers in [0, 1) that depend on the text alone."""
    return torch.stack([torch.rand(len(row), generator=torch.Generator().manual_seed(int(row.sum()))) for row in text])


class AllInTheLoss(Wrong):
    def breaks(self, batch, text, examples):
        return {**batch, "labels": text.masked_fill(batch["attention_mask"] == 0, IGNORED)}


class ReplacesUnselected(Wrong):
    def breaks(self, batch, text, examples):
        elsewhere = (batch["labels"] == IGNORED) & (draw(text) < 0.1)
        return {**batch, "input_ids": batch["input_ids"].masked_fill(elsewhere, 50)}


class IndependentDraws(Wrong):
    def breaks(self, batch, text, examples):
        hidden, chance = batch["labels"] != IGNORED, draw(text)
        again = torch.where(chance < 0.9, chance / 0.9, (chance - 0.9) / 0.1)  # a second draw, independent of the first
        read = torch.where(hidden & (chance > 0.9), 3 + (again * 90).long(), text)
        return {**batch, "input_ids": torch.where(hidden & (again < 0.8), 2, read)}


class DrawnOneOverTheOther(Wrong):
    """81/9/10: first 10% become random, then 10% stay, whichever they were; the mask token gets the rest."""

    def breaks(self, batch, text, examples):
        hidden, chance = batch["labels"] != IGNORED, draw(text)
        again = (chance * 1000) % 1  # independent of the first, or nearly so
        read = torch.where(hidden, 2, text)
        read = torch.where(hidden & (chance < 0.1), 3 + (again * 90).long(), read)
        return {**batch, "input_ids": torch.where(hidden & (again < 0.1), text, read)}


class SpecialsAsReplacements(Wrong):
    def breaks(self, batch, text, examples):
        replaced = (batch["labels"] != IGNORED) & (batch["input_ids"] != 2) & (batch["input_ids"] != text)
        return {**batch, "input_ids": batch["input_ids"].masked_fill(replaced & (draw(text) < 0.1), 150)}


class WrongLabels(Wrong):
    def breaks(self, batch, text, examples):
        return {**batch, "labels": batch["labels"].roll(1, 1)}


class NoMinimum(Wrong):
    def breaks(self, batch, text, examples):
        hidden = (draw(text) < 0.15) & (text > 2)
        return {
            **batch,
            "input_ids": text.masked_fill(hidden, 2),
            "labels": text.masked_fill(~hidden, IGNORED),
        }


class HidesTheEnd(Wrong):
    def breaks(self, batch, text, examples):
        end = text == SPECIAL.eos
        return {
            **batch,
            "input_ids": batch["input_ids"].masked_fill(end, 2),
            "labels": torch.where(end, text, batch["labels"]),
        }


class Mutates(Wrong):
    def breaks(self, batch, text, examples):
        for example in examples:
            example["input_ids"][0] = 2
        return batch


class Frozen(Wrong):
    def set_epoch(self, epoch):
        pass


class FrozenMasks(Wrong):
    """Each text keeps its loss positions; the random replacements change with the epoch."""

    def __init__(self):
        super().__init__()

        def by_text(tokens, maskable, generator):
            noise = torch.rand(len(tokens), generator=torch.Generator().manual_seed(int(tokens.sum())))
            return exact_count_mask(maskable, noise, 0.15)

        self.inner = MaskedLM(scheme=by_text).collator(SPECIAL)


class GlobalRandomState(Wrong):
    def breaks(self, batch, text, examples):
        self.inner.set_epoch(int(torch.randint(10**6, (1,))))
        return self.inner(examples)


class OneStream(Wrong):
    """Noise from one stream, as a generator with a seed gives it: what Hugging Face's does."""

    def __init__(self):
        self.seed = 0

    def set_epoch(self, epoch):
        pass

    def __call__(self, examples):
        self.seed += 1
        texts = [torch.as_tensor(example["input_ids"]) for example in examples]
        text = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=0)
        noise = torch.rand(text.shape, generator=torch.Generator().manual_seed(self.seed)) + (text <= 2)
        hidden = noise <= noise.sort(1).values[:, : 1 + text.shape[1] // 10].amax(1, keepdim=True)
        hidden &= text > 2
        return {
            "input_ids": text.masked_fill(hidden, 2),
            "labels": text.masked_fill(~hidden, IGNORED),
            "attention_mask": (text != 0).long(),
        }


@pytest.mark.parametrize(
    ("collator", "expected"),
    [
        (AllInTheLoss, "loss positions"),
        (ReplacesUnselected, "unselected"),
        (IndependentDraws, "partition"),
        (SpecialsAsReplacements, "replacements"),
        (WrongLabels, "unselected"),
        (NoMinimum, "targets"),
        (HidesTheEnd, "protected"),
        (Mutates, "unchanged"),
        (Frozen, "epochs"),
        (FrozenMasks, "epochs"),
        (GlobalRandomState, "global state"),
        (OneStream, "order"),
        (OneStream, "workers"),
        (OneStream, "ranks"),
    ],
)
def test_each_mistake_is_found_by_its_name(collator, expected):
    report = faults(collator(), kind="masked", shares=None if collator is OneStream else (0.8, 0.1, 0.1))
    assert expected in report.faults
    assert report.findings[expected].why or expected in str(report)


def test_shares_that_are_off_by_one_percent_take_more_rows_to_find():
    assert check_collator(DrawnOneOverTheOther(), workers=0).passed
    assert faults(DrawnOneOverTheOther(), workers=0, rows=1000).faults == ["partition"]
    assert check_collator(MaskedLM().collator(SPECIAL), workers=0, rows=1000).passed


def test_a_right_one_of_that_form_passes():
    """Or the test above would prove nothing."""
    assert check_collator(Wrong()).passed


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda b: {**b, "labels": b["labels"].flip(1)}, "round trip"),
        (lambda b: {**b, "input_ids": b["input_ids"].masked_fill(b["input_ids"] == 199, 198)}, "round trip"),
        (lambda b: {**b, "labels": b["labels"].masked_fill(b["labels"] == 1, IGNORED)}, "end of text"),
        (lambda b: {**b, "decoder_input_ids": b["labels"].clamp(min=0)}, "decoder"),
        (lambda b: {**b, "labels": b["labels"].float()}, "returns"),
        (lambda b: list(b.values()), "returns"),
    ],
)
def test_spans_that_are_out_of_step_are_found(change, expected):
    inner = SpanCorruption().collator(SPECIAL)
    report = faults(lambda examples: change(inner(examples)), kind="span", skip=["epochs"])
    assert expected in report.faults


def test_lengths_are_held_against_their_plan():
    collate = SpanCorruption(noise_density=0.3, mean_noise_span_length=3.0).collator(SPECIAL)
    assert faults(collate, spans=(0.15, 3.0)).faults == ["lengths"]


def pad_is_end(examples):
    """What becomes of the end of text where pad = eos and padding is recognised by its id."""
    texts = [torch.as_tensor(example["input_ids"]) for example in examples]
    text = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=1)
    lengths = torch.tensor([len(row) for row in texts])
    real = torch.arange(text.shape[1]) < lengths[:, None]
    return {"input_ids": text, "attention_mask": real.long(), "labels": text.masked_fill(text == 1, IGNORED)}


def test_an_end_of_text_that_is_taken_for_padding_is_found():
    special = SpecialIds(vocab_size=200, pad=1, eos=1)
    with pytest.raises(CheckFailed) as failed:
        check_collator(pad_is_end, special)
    assert failed.value.report.faults == ["end of text"]
    assert check_collator(CausalLM().collator(special)).passed


def test_what_cannot_be_checked_says_why():
    with pytest.raises(InputError, match="special ids of this collator are not known"):
        check_collator(pad_is_end)
    with pytest.raises(InputError, match="kind must be one of"):
        check_collator(pad_is_end, SPECIAL, kind="mlm")
    with pytest.raises(InputError, match="rows >= 64"):
        check_collator(pad_is_end, SPECIAL, rows=10)
