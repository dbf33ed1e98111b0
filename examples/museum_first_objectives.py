"""Exhibits of the museum of mistakes: causal LM, masked LM, prefix LM and span corruption."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import fmean

import torch
import torch.nn.functional as F
from museum_shared import (
    BATCH,
    CAUSAL,
    LENGTH,
    MASKED,
    OTHER,
    PREFIX,
    SOURCE,
    SPAN,
    SPECIAL,
    Exhibit,
    collators,
    correct,
    fresh,
    held_out,
    nats_of_next,
    prompts,
    student,
    unseen,
)
from torch import Tensor, nn

from clozelab.data import IGNORED, Batch, Collator, Examples, SpecialIds, split_spans
from clozelab.evaluation import evaluate
from clozelab.generation import fill_spans, generate
from clozelab.models import DecoderOnly, model_config
from clozelab.objectives import CausalLM, Loss, PrefixLM, options
from clozelab.testing import check_collator, check_objective


def shifted_twice(seed: int, steps: int) -> Exhibit:
    """The collator shifts the labels, and the loss shifts them again."""

    def corrupt(examples: Examples) -> Batch:
        shifted = F.pad(examples.tokens[:, 1:], (0, 1), value=IGNORED)
        return Batch(input_ids=examples.tokens, labels=shifted)  # correct: labels=examples.tokens

    def loss_fn(model: nn.Module, batch: Batch) -> Loss:
        return CAUSAL(model.unembed(model(batch["input_ids"])), batch["labels"])  # a loss that never sees the inputs

    wrong = student(seed, steps, CAUSAL, fresh(seed, CAUSAL, corrupt), loss_fn)
    two_on = SOURCE.transition @ SOURCE.transition
    entropy_of_two = float(-(SOURCE.stationary[:, None] * torch.xlogy(two_on, two_on)).sum())
    return Exhibit(
        (correct(seed, steps, CAUSAL), wrong),
        f"the training loss settles at {fmean(wrong[1][-20:]):.3f} nats; the entropy of the token after the next is "
        f"{entropy_of_two:.3f}, that of the next {SOURCE.entropy_rate:.3f}",
        tuple(lambda way=way: CAUSAL(wrong[0], fresh(seed, CAUSAL, way)(0)) for way in (None, corrupt)),
        {"nats per held-out token": held_out(seed, CAUSAL), "nats per generated token": nats_of_next(seed, own=True)},
        SOURCE.entropy_rate,
    )


class UnmaskedDecoder(DecoderOnly):
    """A decoder that calls itself causal, and in which every token attends to every other."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, document_ids: Tensor | None = None):
        nobody_waits = torch.zeros_like(input_ids)  # correct: leave the reading rank out
        return super().forward(input_ids, attention_mask, document_ids=document_ids, reading_rank=nobody_waits)


@options
class Unmasked(CausalLM):
    """Causal LM for that decoder."""

    name = "unmasked"

    def build_model(self, vocab_size: int, size: str = "tiny", **overrides: int) -> UnmaskedDecoder:
        return UnmaskedDecoder(model_config("decoder-only", size, vocab_size, **overrides))


def no_causal_mask(seed: int, steps: int) -> Exhibit:
    """The next token is predicted by a model that reads both sides, the answer among them."""
    wrong = student(seed, steps, Unmasked(), fresh(seed, CAUSAL))
    right = correct(seed, steps, CAUSAL)
    return Exhibit(
        (right, wrong),
        f"the training loss ends at {fmean(wrong[1][-20:]):.3f} nats; without a leak none is below the entropy of the "
        f"language, {SOURCE.entropy_rate:.3f}",
        tuple(lambda model=model: check_objective(CAUSAL, model) for model, _ in (right, wrong)),
        {
            "nats per held-out token, given the past": nats_of_next(seed, own=False),
            "nats per generated token": nats_of_next(seed, own=True),
        },
        SOURCE.entropy_rate,
    )


@options
class PrefixInLoss(PrefixLM):
    """The prefix, whose tokens attend to one another, is in the loss."""

    name, reads = "prefix-in-loss", PrefixLM.reads

    def corrupt(self, examples: Examples) -> Batch:
        return {
            **super().corrupt(examples),
            "labels": CAUSAL.corrupt(examples)["labels"],
        }  # correct: -100 in the prefix

    def check_batch(self, batch: Mapping[str, Tensor]) -> None:
        """Takes any batch; that of `PrefixLM` refuses this one."""


def prefix_in_loss(seed: int, steps: int) -> Exhibit:
    """The prefix, whose tokens attend to one another, is in the loss: each sees its own answer."""
    right, wrong = correct(seed, steps, PREFIX), student(seed, steps, PrefixInLoss(), fresh(seed, PrefixInLoss()))
    share = fmean(wrong[1][-20:]) / SOURCE.entropy_rate
    return Exhibit(
        (right, wrong),
        f"the training loss ends at {share:.2f} of the entropy of the language: about half of the tokens are copied",
        (lambda: check_objective(PREFIX, right[0]), lambda: check_objective(PrefixInLoss(), wrong[0])),
        {"nats per token after the prefix": held_out(seed, PREFIX)},
        SOURCE.entropy_rate,
    )


def mean_of_means(seed: int, steps: int) -> Exhibit:
    """The means of two micro-batches are averaged: one of short texts, one of long ones in another language."""

    def mean_of_both(model: nn.Module, micro_batches: list[Batch]) -> Loss:
        means = [MASKED(model, batch).mean for batch in micro_batches]
        return Loss.single(sum(means) / len(means), torch.tensor(1))

    def sum_of_both(model: nn.Module, micro_batches: list[Batch]) -> Loss:
        return sum(MASKED(model, batch) for batch in micro_batches)  # sums and counts, divided once

    collate = MASKED.collator(SPECIAL, seed=seed)

    def batches(step: int, rows: int = BATCH // 2) -> list[Batch]:
        texts = OTHER.sample(rows, 6, seed=seed * 10**6 + step), SOURCE.sample(rows, LENGTH, seed=seed * 10**6 + step)
        return [collate.block(text, range(step * rows, (step + 1) * rows)) for text in texts]

    right, wrong = (student(seed, steps, MASKED, batches, way) for way in (sum_of_both, mean_of_both))
    short, long = batches(-1, 1000)
    measured = {"all": [short, long], "short": [short], "long": [long]}
    ragged = collate([{"input_ids": row} for text in (OTHER.sample(4, 6), SOURCE.sample(4, LENGTH)) for row in text])
    few, many = (int((batch["labels"][0] != IGNORED).sum()) for batch in (short, long))
    return Exhibit(
        (right, wrong),
        f"a short text has {few} hidden token, a long one {many}, and both batches have the same weight: a hidden "
        f"token of a short text counts {many / few:.0f} times as much",
        (
            lambda: check_objective(MASKED, right[0], ragged),
            lambda: check_objective(lambda model, batch: MASKED(model, batch).mean, wrong[0], ragged),
        ),
        {
            f"nats per hidden token, {name} texts": lambda model, some=some: evaluate(MASKED, model, some).nats
            for name, some in measured.items()
        },
    )


def random_ids(examples: Examples) -> Tensor:
    """(B, T) random ids of text, from the noise of each example."""
    choice = examples.special.replacements
    return choice[(examples.uniform(4) * len(choice)).long()]


def independent_draws(seed: int, steps: int) -> Exhibit:
    """80/10/10 by two independent draws: where both hit, the second replaces the first."""

    def corrupt(examples: Examples) -> Batch:
        batch, ids = MASKED.corrupt(examples), examples.tokens.clone()
        hidden = batch["labels"] != IGNORED
        at_random = hidden & (examples.uniform(2) < 0.1)
        kept = hidden & (examples.uniform(3) < 0.1)  # correct: one draw, cut into three
        ids[hidden] = examples.special["mask"]
        ids[at_random] = random_ids(examples)[at_random]
        ids[kept] = examples.tokens[kept]
        return {**batch, "input_ids": ids}

    batch = fresh(seed, MASKED, corrupt)(-1, 20_000)
    read, answers = (batch[key][batch["labels"] != IGNORED] for key in ("input_ids", "labels"))
    replaced = (read != answers) & (read < SOURCE.symbols)
    masked, other = (float(part.float().mean()) for part in (read > SOURCE.symbols, replaced))
    random = other * SOURCE.symbols / (SOURCE.symbols - 1)  # a random token is sometimes the original
    return Exhibit(
        (correct(seed, steps, MASKED), student(seed, steps, MASKED, fresh(seed, MASKED, corrupt))),
        f"{masked:.3f} / {random:.3f} / {1 - masked - random:.3f} of {len(read)} hidden tokens",
        collators(MASKED, corrupt, rows=1000),
        {"nats per hidden token": held_out(seed, MASKED)},
    )


def replaced_anywhere(seed: int, steps: int) -> Exhibit:
    """10% become a random token, of all tokens instead of the hidden ones."""

    def corrupt(examples: Examples) -> Batch:
        batch, ids = MASKED.corrupt(examples), examples.tokens.clone()
        hidden, draw = batch["labels"] != IGNORED, examples.uniform(1)
        at_random = (draw >= 0.8) & (draw < 0.9)  # correct: hidden & ...
        ids[hidden & (draw < 0.8)] = examples.special["mask"]
        ids[at_random] = random_ids(examples)[at_random]
        return {**batch, "input_ids": ids}

    right, wrong = (fresh(seed, MASKED, way)(-1, 2000) for way in (None, corrupt))
    visible = wrong["labels"] == IGNORED
    changed = (right["input_ids"] != wrong["input_ids"])[visible].float().mean()
    return Exhibit(
        (correct(seed, steps, MASKED), student(seed, steps, MASKED, fresh(seed, MASKED, corrupt))),
        f"{changed:.1%} of the tokens that are not hidden were changed",
        collators(MASKED, corrupt),
        {"nats per hidden token": held_out(seed, MASKED)},
    )


def frozen_masks(seed: int, steps: int) -> Exhibit:
    """A small corpus, read many times, with masks that are drawn once."""
    collate, text = MASKED.collator(SPECIAL, seed=seed), SOURCE.sample(8 * BATCH, LENGTH, seed=seed)

    def frozen(examples: list[dict]) -> Batch:
        return collate([{**example, "epoch": 0} for example in examples])  # correct: the current epoch

    def batch(step: int, epoch: int) -> Batch:
        ids = torch.arange(step * BATCH, (step + 1) * BATCH) % len(text)
        return collate.block(text[ids], ids, epoch=epoch)

    ways = (lambda step: batch(step, epoch=step // 8)), (lambda step: batch(step, epoch=0))
    right, wrong = (student(seed, steps, MASKED, way) for way in ways)
    return Exhibit(
        (right, wrong),
        f"{len(text)} texts, read {steps // 8} times: each has 1 mask instead of {steps // 8}",
        (lambda: check_collator(collate, workers=0), lambda: check_collator(frozen, SPECIAL, workers=0)),
        {"nats per hidden token": held_out(seed, MASKED)},
    )


def pad_is_end(seed: int, steps: int) -> Exhibit:
    """Padding and end of text share an id, and padding is left out of the loss by that id."""

    def corrupt(examples: Examples) -> Batch:
        batch = CAUSAL.corrupt(examples)
        padding = batch["input_ids"] == examples.special.pad  # correct: ~examples.is_token, by position
        return {**batch, "labels": batch["labels"].masked_fill(padding, IGNORED)}

    special = SpecialIds(SPECIAL.vocab_size, pad=SPECIAL.eos, eos=SPECIAL.eos, mask=SPECIAL.mask)
    collate, collate_wrong = CAUSAL.collator(special), Collator(corrupt, special)

    def batch(collate: Collator, step: int) -> Batch:
        text = SOURCE.sample(BATCH, LENGTH, seed=seed * 10**6 + step).tolist()
        lengths = torch.randint(8, LENGTH, (BATCH,), generator=torch.Generator().manual_seed(step)).tolist()
        return collate([{"input_ids": [*row[:length], special.eos]} for row, length in zip(text, lengths)])

    def ended(model: nn.Module) -> float:
        generator = torch.Generator().manual_seed(seed)
        texts = generate(model, prompts(1), max_new_tokens=2 * LENGTH, eos=special.eos, generator=generator)
        return 100 * float((texts == special.eos).any(1).float().mean())

    last = batch(collate, 10**5)
    ends = {**last, "labels": last["labels"].masked_fill(last["labels"] != special.eos, IGNORED)}
    in_loss = [int((batch(way, 0)["labels"] == special.eos).sum()) for way in (collate, collate_wrong)]
    right, wrong = (
        student(seed, steps, CAUSAL, lambda step, way=way: batch(way, step)) for way in (collate, collate_wrong)
    )
    return Exhibit(
        (right, wrong),
        f"of {BATCH} ends of text {in_loss[1]} are in the loss, instead of {in_loss[0]}",
        (lambda: check_collator(collate), lambda: check_collator(collate_wrong)),
        {
            f"% of texts that end within {2 * LENGTH} tokens": ended,
            "nats per end of text": lambda model: evaluate(CAUSAL, model, [ends]).nats,
        },
    )


def out_of_step(seed: int, steps: int) -> Exhibit:
    """The sentinels of the inputs are numbered from 0, those of the targets from 1."""

    def corrupt(examples: Examples) -> Batch:
        later = replace(examples, special=replace(examples.special, sentinels=examples.special.sentinels[1:]))
        return {**SPAN.corrupt(later), "input_ids": SPAN.corrupt(examples)["input_ids"]}  # correct: of examples alone

    test, seen = unseen(seed, SPAN), fresh(seed, SPAN, corrupt)(0)

    def spans(ids: Tensor) -> list[tuple[int, list[int]]]:
        return split_spans([one for one in ids.tolist() if one not in (SPECIAL.eos, IGNORED)], SPECIAL.sentinels)

    def filled(model: nn.Module) -> float:
        ids = {"start_id": SPECIAL["decoder_start"], "eos": SPECIAL.eos, "sentinels": SPECIAL.sentinels}
        targets = fill_spans(model, test["input_ids"], max_new_tokens=test["labels"].shape[1], greedy=True, **ids)
        pairs = [(span, spans(ours)) for ours, truth in zip(targets, test["labels"]) for span in spans(truth)]
        return 100 * fmean(span in answers for span, answers in pairs)

    asked, answered = ([k for k, _ in spans(seen[key][0])] for key in ("input_ids", "labels"))
    return Exhibit(
        (correct(seed, steps, SPAN), student(seed, steps, SPAN, fresh(seed, SPAN, corrupt))),
        f"the inputs ask for spans {asked}, the targets answer {answered}",
        collators(SPAN, corrupt),
        {"nats per target": held_out(seed, SPAN), "% of spans filled as they were": filled},
    )


EXHIBITS: dict[str, Callable[[int, int], Exhibit]] = {
    "labels shifted twice": shifted_twice,
    "no causal mask": no_causal_mask,
    "prefix in the loss": prefix_in_loss,
    "mean of means": mean_of_means,
    "80/10/10 by independent draws": independent_draws,
    "random tokens anywhere": replaced_anywhere,
    "frozen masks": frozen_masks,
    "pad = end of text": pad_is_end,
    "sentinels out of step": out_of_step,
}
