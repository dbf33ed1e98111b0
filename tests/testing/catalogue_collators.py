"""Planted faults of collators for masked LM: a right batch, and what a function makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import get_worker_info

from clozelab import MaskedLM, SpecialIds
from clozelab.data import IGNORED
from clozelab.data.masking import exact_count_mask
from clozelab.testing import check_collator

from .catalogue import faults_of, plant

SPECIAL = SpecialIds(vocab_size=200, pad=0, eos=1, mask=2, sentinels=range(199, 99, -1))


class Masked:
    """Masked LM's collator; `change(batch, text)` gets its batch and the text (B, T) as it was."""

    special = SPECIAL

    def __init__(self, change: Callable = lambda batch, text: batch) -> None:
        self.change, self.inner = change, MaskedLM().collator(SPECIAL)

    def set_epoch(self, epoch: int) -> None:
        self.inner.set_epoch(epoch)

    def __call__(self, examples: list) -> dict:
        texts = [torch.as_tensor(example["input_ids"]) for example in examples]
        return self.change(self.inner(examples), pad_sequence(texts, batch_first=True, padding_value=0))


def masked(*checks: str, says: str = "", **settings: Any) -> Callable[[Any], Any]:
    """Plant a change of a batch, or a class of collators."""

    def decorate(thing: Any) -> Any:
        collator = thing() if isinstance(thing, type) else Masked(thing)
        asked = {"kind": "masked", "workers": 2 if "workers" in checks else 0, **settings}
        plant("collator", thing, checks, lambda: faults_of(check_collator, collator, SPECIAL, **asked), says)
        return thing

    return decorate


def draw(text, stream=0):
    """Numbers in [0, 1) that depend on the text alone."""
    seeds = [1000 * stream + int(row.sum()) for row in text]
    return torch.stack(
        [torch.rand(len(row), generator=torch.Generator().manual_seed(s)) for s, row in zip(seeds, text)]
    )


def hidden_of(batch):
    return batch["labels"] != IGNORED


# ------------------------------------------------------------------ what is in the loss


@masked("loss positions")
def all_in_the_loss(batch, text):
    """Labels are the whole text, read or hidden: the loss is mostly copying."""
    return {**batch, "labels": text.masked_fill(batch["attention_mask"] == 0, IGNORED)}


@masked("unselected")
def labels_after_masking(batch, text):
    """Labels are cloned from the inputs after these were masked, so the answer is [MASK]."""
    return {**batch, "labels": torch.where(hidden_of(batch), batch["input_ids"], IGNORED)}


@masked("unselected")
def labels_one_on(batch, text):
    """Labels are shifted as for causal LM."""
    return {**batch, "labels": batch["labels"].roll(1, 1)}


@masked("unselected")
def random_not_in_the_loss(batch, text):
    """Only tokens that became [MASK] are in the loss: those replaced at random damage the text."""
    return {**batch, "labels": batch["labels"].masked_fill(batch["input_ids"] != SPECIAL.mask, IGNORED)}


@masked("partition")
def kept_not_in_the_loss(batch, text):
    """Labels where input and text differ, so kept tokens teach nothing."""
    return {**batch, "labels": text.masked_fill(batch["input_ids"] == text, IGNORED)}


@masked("protected")
def hides_the_end(batch, text):
    """The end of text is hidden and predicted."""
    end = text == SPECIAL.eos
    read = batch["input_ids"].masked_fill(end, 2)
    return {**batch, "input_ids": read, "labels": torch.where(end, text, batch["labels"])}


@masked("protected")
def hides_padding(batch, text):
    """The mask is drawn over the padded block."""
    pads = (text == 0) & (draw(text) < 0.15)
    read = batch["input_ids"].masked_fill(pads, 2)
    return {**batch, "input_ids": read, "labels": torch.where(pads, text, batch["labels"])}


@masked("nothing to hide", "protected")
def labels_of_padding(batch, text):
    """Labels at padding are the padding id, where -100 is meant."""
    return {**batch, "labels": batch["labels"].masked_fill(batch["attention_mask"] == 0, SPECIAL.pad)}


@masked("targets")
def independent_draws(batch, text):
    """Each token by itself at 15%: short texts have no target (Hugging Face's collator)."""
    hidden = (draw(text) < 0.15) & (text > 2)
    return {**batch, "input_ids": text.masked_fill(hidden, 2), "labels": text.masked_fill(~hidden, IGNORED)}


# ------------------------------------------------------------------ what stands in the place of a hidden token


@masked("unselected")
def replaces_unselected(batch, text):
    """Random tokens are put anywhere, instead of among the hidden ones."""
    elsewhere = ~hidden_of(batch) & (draw(text) < 0.1)
    return {**batch, "input_ids": batch["input_ids"].masked_fill(elsewhere, 50)}


@masked("partition")
def independent_parts(batch, text):
    """One draw for "random?" and one for "mask?", the second over the first."""
    hidden, chance = hidden_of(batch), draw(text)
    again = torch.where(chance < 0.9, chance / 0.9, (chance - 0.9) / 0.1)
    read = torch.where(hidden & (chance > 0.9), 3 + (again * 90).long(), text)
    return {**batch, "input_ids": torch.where(hidden & (again < 0.8), 2, read)}


@masked("partition", rows=1000)
def eighty_one_nine_ten(batch, text):
    """First 10% become random, then 10% of all stay, whichever they were: 81/9/10."""
    hidden, chance, again = hidden_of(batch), draw(text), draw(text, 1)
    read = torch.where(hidden, 2, text)
    read = torch.where(hidden & (chance < 0.1), 3 + (draw(text, 2) * 90).long(), read)
    return {**batch, "input_ids": torch.where(hidden & (again < 0.1), text, read)}


@masked("partition")
def nothing_is_kept(batch, text):
    """80/20/0: the 10% that should stay are forgotten."""
    kept = hidden_of(batch) & (batch["input_ids"] == text)
    return {**batch, "input_ids": torch.where(kept, 3 + (draw(text) * 90).long(), batch["input_ids"])}


@masked("partition")
def hides_behind_padding(batch, text):
    """[PAD] or [UNK] stands for [MASK], as where a tokenizer has no mask token and `mask_token_id` is another's."""
    return {**batch, "input_ids": batch["input_ids"].masked_fill(batch["input_ids"] == SPECIAL.mask, SPECIAL.pad)}


@masked("replacements")
def specials_as_replacements(batch, text):
    """Random ids are drawn from the whole vocabulary, special ids among them (`randint(len(tokenizer))`)."""
    replaced = hidden_of(batch) & (batch["input_ids"] != 2) & (batch["input_ids"] != text)
    return {**batch, "input_ids": batch["input_ids"].masked_fill(replaced & (draw(text) < 0.1), 150)}


@masked("replacements")
def one_replacement_for_all(batch, text):
    """A random id is drawn once, and broadcast over all places of all texts."""
    replaced = hidden_of(batch) & (batch["input_ids"] != 2) & (batch["input_ids"] != text)
    return {**batch, "input_ids": batch["input_ids"].masked_fill(replaced, 57)}


# ------------------------------------------------------------------ rows beside one another


def flags(hidden, text):
    """A batch that hides these places behind [MASK]."""
    return {
        "input_ids": text.masked_fill(hidden, 2),
        "labels": text.masked_fill(~hidden, IGNORED),
        "attention_mask": (text != 0).long(),
    }


class Bare:
    """Masked LM without replacements, from noise (B, T) of the texts and the epoch."""

    special, epoch = SPECIAL, 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __call__(self, examples):
        texts = [torch.as_tensor(example["input_ids"]) for example in examples]
        text = pad_sequence(texts, batch_first=True, padding_value=0)
        return flags(self.hides(text, draw(text, 1 + self.epoch).masked_fill(text <= 2, 2)), text)


@masked("order", shares=None)
class CountOfThePaddedLength(Bare):
    """round(0.15 * T) of the padded length: a short text beside a long one loses most of its tokens."""

    def hides(self, text, noise):
        return (noise.argsort(1).argsort(1) < max(1, round(0.15 * text.shape[1]))) & (text > 2)


@masked("order", shares=None)
class NoiseOfThePadding(Bare):
    """The text is hashed with its padding, so its mask depends on its longest neighbour."""

    def hides(self, text, noise):
        noise = draw(text * 1009 + (text == 0) * 7, 1 + self.epoch)
        return exact_count_mask(text > 2, noise.double(), 0.15)


@masked("order", "workers", "ranks", shares=None)
class OneStream(Bare):
    """One generator with a seed for all: noise follows the place in the stream, and every process draws the same."""

    calls = 0

    def hides(self, text, noise):
        self.calls += 1
        noise = torch.rand(text.shape, generator=torch.Generator().manual_seed(self.calls)) + (text <= 2)
        return (noise <= noise.sort(1).values[:, : 1 + text.shape[1] // 10].amax(1, keepdim=True)) & (text > 2)


@masked("recovered", "order")
def cut_to_the_shortest(batch, text):
    """All texts are cut to the length of the shortest, to avoid padding."""
    width = int(batch["attention_mask"].sum(1).min())
    return {key: value[:, :width] for key, value in batch.items()}


@masked("padding")
def mask_of_ones(batch, text):
    """The attention mask is ones_like(input_ids): padding is text."""
    return {**batch, "attention_mask": torch.ones_like(text)}


@masked("padding")
def mask_is_inverted(batch, text):
    """The mask is PyTorch's key_padding_mask, 1 = padding, under Hugging Face's name."""
    return {**batch, "attention_mask": 1 - batch["attention_mask"]}


# ------------------------------------------------------------------ where the noise comes from


@masked("unchanged")
class Mutates(Masked):
    """[MASK] is written into the caller's lists, and the next epoch begins with it."""

    def __call__(self, examples):
        for example in examples:
            example["input_ids"][0] = 2
        return self.inner(examples)


@masked("epochs")
class NeverTold(Masked):
    """`set_epoch` does nothing: masks are made once, as in a data set that was masked before it was saved."""

    def set_epoch(self, epoch):
        pass


@masked("epochs")
class FrozenPlaces(Masked):
    """Each text keeps its loss positions, and only the random replacements change with the epoch."""

    def __init__(self):
        super().__init__()

        def by_text(tokens, maskable, generator):
            noise = torch.rand(len(tokens), generator=torch.Generator().manual_seed(int(tokens.sum())))
            return exact_count_mask(maskable, noise, 0.15)

        self.inner = MaskedLM(scheme=by_text).collator(SPECIAL)


@masked("global state")
class GlobalRandomState(Masked):
    """The seed of each batch comes from torch's global state."""

    def __call__(self, examples):
        self.inner.set_epoch(int(torch.randint(10**6, (1,))))
        return self.inner(examples)


@masked("workers")
class SeededByWorker(Masked):
    """The worker's number is added to the seed, so two machines with other numbers of workers train otherwise."""

    def __call__(self, examples):
        worker = get_worker_info()
        return MaskedLM().collator(SPECIAL, seed=0 if worker is None else worker.id, epoch=self.inner.epoch)(examples)


@masked("repeatable")
class HashOfStrings(Masked):
    """The seed is the memory address of the example, or a salted `hash()`: no copy and no second run repeats it."""

    def __call__(self, examples):
        return MaskedLM().collator(SPECIAL, seed=id(examples) % 10**9)(examples)
