"""Planted faults of collators for span corruption and causal LM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

from clozelab import CausalLM, SpanCorruption, SpecialIds
from clozelab.data import IGNORED, shift_targets
from clozelab.testing import check_collator

from .catalogue import faults_of, plant

SPECIAL = SpecialIds(vocab_size=200, pad=0, eos=1, mask=2, sentinels=range(199, 99, -1))
SPAN, CAUSAL = SpanCorruption().collator(SPECIAL), CausalLM().collator(SPECIAL)


class Changed:
    """A right collator, and what a function makes of its batch."""

    def __init__(self, inner: Any, change: Callable) -> None:
        self.inner, self.change = inner, change

    def set_epoch(self, epoch: int) -> None:
        self.inner.set_epoch(epoch)

    def __call__(self, examples: list) -> Any:
        return self.change(self.inner(examples))


def collated(inner: Any, kind: str, *checks: str, says: str = "", **settings: Any) -> Callable[[Callable], Callable]:
    """Plant a change of the batches of a right collator."""

    def decorate(change: Callable) -> Callable:
        asked = {"kind": kind, "workers": 0, **settings}
        find = lambda: faults_of(check_collator, Changed(inner, change), SPECIAL, **asked)  # noqa: E731
        plant("collator", change, checks, find, says)
        return change

    return decorate


def span(*checks: str, **settings: Any) -> Callable[[Callable], Callable]:
    return collated(SPAN, "spans", *checks, **settings)


def causal(*checks: str, **settings: Any) -> Callable[[Callable], Callable]:
    return collated(CAUSAL, "next-token", *checks, **settings)


def is_sentinel(ids):
    return torch.isin(ids, torch.tensor(SPECIAL.sentinels))


# ------------------------------------------------------------------ span corruption


@span("round trip")
def targets_backwards(batch):
    """Targets come in the wrong order."""
    return {**batch, "labels": batch["labels"].flip(1)}


@span("round trip")
def sentinels_out_of_step(batch):
    """Inputs count the sentinels from the second one, targets from the first."""
    ids = batch["input_ids"]
    return {**batch, "input_ids": torch.where(is_sentinel(ids), ids - 1, ids)}


@span("round trip")
def one_sentinel_for_all(batch):
    """Every span stands behind <extra_id_0>."""
    return {key: value.masked_fill(is_sentinel(value), 199) for key, value in batch.items()}


@span("round trip")
def sentinels_count_upwards(batch):
    """Sentinels are numbered upwards in the vocabulary, where T5's run downwards from its end."""
    return {key: torch.where(is_sentinel(value), 299 - value, value) for key, value in batch.items()}


@span("round trip")
def no_sentinels_in_the_inputs(batch):
    """Hidden spans are cut out, and nothing stands where they were."""
    rows = [row[(row != 0) & ~is_sentinel(row)] for row in batch["input_ids"]]
    ids = pad_sequence(rows, batch_first=True, padding_value=0)
    return {**batch, "input_ids": ids, "attention_mask": (ids != 0).long()}


@span("round trip")
def targets_are_the_text(batch):
    """The decoder spells out the whole text, as BART's does, and not the hidden spans."""
    labels = torch.where(batch["input_ids"] == 0, IGNORED, batch["input_ids"])
    return {**batch, "labels": labels, "decoder_input_ids": shift_targets(labels.clamp(min=0), 0)}


@span("end of text")
def end_not_in_the_loss(batch):
    """The end of the targets is taken for padding, so the decoder never learns to stop."""
    return {**batch, "labels": batch["labels"].masked_fill(batch["labels"] == 1, IGNORED)}


@span("padding")
def padding_of_the_targets_in_the_loss(batch):
    """Targets are padded with the padding id and never set to -100 (the most common T5 notebook)."""
    return {**batch, "labels": batch["labels"].clamp(min=0)}


@span("decoder")
def decoder_reads_its_labels(batch):
    """The decoder's inputs are not shifted."""
    return {**batch, "decoder_input_ids": batch["labels"].clamp(min=0)}


@span("decoder")
def decoder_reads_ignored(batch):
    """Labels are shifted with their -100, which no embedding has."""
    return {**batch, "decoder_input_ids": shift_targets(batch["labels"], 0)}


@span("decoder")
def decoder_starts_with_the_end(batch):
    """BART's convention for a model of T5's: `generate` would start with an id that was never seen there."""
    start = batch["decoder_input_ids"].clone()
    start[:, 0] = SPECIAL.eos
    return {**batch, "decoder_input_ids": start}


@span("returns")
def labels_are_floats(batch):
    """Labels went through numpy's NaN for padding."""
    return {**batch, "labels": batch["labels"].float()}


@span("returns")
def a_list_of_tensors(batch):
    """A tuple, as `TensorDataset` gives it, where keys are read."""
    return list(batch.values())


def twice_the_density():
    """30% is hidden where the blocks were cut for 15%."""


plant(
    "collator",
    twice_the_density,
    ("lengths",),
    lambda: faults_of(
        check_collator, SpanCorruption(noise_density=0.3).collator(SPECIAL), SPECIAL, spans=(0.15, 3.0), workers=0
    ),
)


# ------------------------------------------------------------------ causal LM


@causal("labels")
def labels_are_what_came_before(batch):
    """Shifted to the wrong side: each position predicts the token before it."""
    return {**batch, "labels": batch["labels"].roll(1, 1)}


@causal("labels")
def labels_shifted_twice(batch):
    """Labels of the token after the next."""
    return {**batch, "labels": batch["labels"].roll(-2, 1)}


@causal("padding")
def padding_in_the_loss(batch):
    """labels = input_ids.clone(), padding included."""
    return {**batch, "labels": batch["input_ids"].clone()}


@causal("padding")
def padding_is_text(batch):
    """No attention mask is made, or one of ones."""
    return {**batch, "attention_mask": torch.ones_like(batch["input_ids"])}


def pad_is_the_end(examples):
    """pad = eos, and padding is recognised by its id: the end of text is never in the loss (GPT-2 everywhere)."""
    texts = [torch.as_tensor(example["input_ids"]) for example in examples]
    text = pad_sequence(texts, batch_first=True, padding_value=1)
    real = torch.arange(text.shape[1]) < torch.tensor([len(row) for row in texts])[:, None]
    return {"input_ids": text, "attention_mask": real.long(), "labels": text.masked_fill(text == 1, IGNORED)}


plant(
    "collator",
    pad_is_the_end,
    ("end of text",),
    lambda: faults_of(check_collator, pad_is_the_end, SpecialIds(vocab_size=200, pad=1, eos=1)),
)
