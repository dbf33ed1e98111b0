"""Fourteen mistakes, each beside its correct counterpart: the curve, the check that finds it, the cost.

    python examples/museum_of_mistakes.py             some minutes on one core; writes runs/museum.png and museum.json
    python examples/museum_of_mistakes.py --quick     15 seconds: one seed, 40 steps, enough for the checks

The language is known exactly (a Markov source, 0.7 nats a token), the models have two layers of width 32, 400 steps
each. What came out, over three seeds (weights, text, masks), mean and standard deviation:

    mistake                    found by         in the end                        correct         mistaken
    labels shifted twice       InputError       nats per held-out token           0.700 ± 0.003   1.738 ± 0.019
    no causal mask             reads            the same, given the past alone    0.706 ± 0.000   5.244 ± 0.033
    prefix in the loss         reads            nats after the prefix             0.700 ± 0.005   0.704 ± 0.005
    mean of means              accumulation     nats per hidden token             0.604 ± 0.048   0.662 ± 0.032
    81/9/10 for 80/10/10       partition        nats per hidden token             0.533 ± 0.047   0.511 ± 0.019
    random tokens anywhere     unselected       nats per hidden token             0.533 ± 0.047   0.540 ± 0.037
    frozen masks               epochs           nats per hidden token             0.519 ± 0.021   1.223 ± 0.131
    pad = end of text          end of text      % of texts that end               100.0 ± 0.0     0.0 ± 0.0
    sentinels out of step      round trip       nats per target                   0.498 ± 0.065   4.230 ± 1.400
    weights dropped            uniform          nats per token, at most           0.934 ± 0.162   0.886 ± 0.102
    sign of a weight           returns          nats per token after the next     0.701 ± 0.003   172.091 ± 2.326
    end of the middle cut      text             % of middles that end             100.0 ± 0.0     0.0 ± 0.0
    means of two kinds         accumulation     nats per token of masked rows     0.494 ± 0.016   0.511 ± 0.026
    gradient into the generator  separate parts nats per hidden token             0.469 ± 0.014   2.117 ± 0.143

Five of them have no cost that three seeds can show: the prefix in the loss (+0.004 ± 0.002 nats), the shares of
80/10/10 by independent draws (-0.022 ± 0.028), dropped weights (-0.048 ± 0.060, but the loss that they leave, 0.522 of
the first seed, is below what the language has), the means of two kinds (+0.017 ± 0.018, and causal rows, which count
too much, are better by 0.041 ± 0.015), and random tokens outside the loss (+0.007 ± 0.010), although the
training loss of the last is visibly higher. Of the first nine, four training losses end well below the correct one
(no causal mask, prefix in the loss, frozen masks, pad = end of text), the first two below what is possible; the others
look wrong only beside it, and sentinels out of step not even there. The correct model fills 60.6% of the spans as they
were, the one out of step 44.4%; the most frequent token everywhere would fill 56.7%.
"""

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean, stdev

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn

from clozelab.data import IGNORED, Batch, Collator, Corruption, Examples, SpecialIds, split_spans
from clozelab.errors import InputError
from clozelab.evaluation import evaluate
from clozelab.generation import fill_spans, generate, sample_token
from clozelab.languages import MarkovSource
from clozelab.models import DecoderOnly, GeneratorDiscriminator, eval_mode, model_config
from clozelab.objectives import (
    CausalLM,
    Electra,
    FillInTheMiddle,
    Loss,
    MaskedDiffusion,
    MaskedLM,
    MaskedNextToken,
    MultiTokenPrediction,
    Objective,
    Prediction,
    PrefixLM,
    SpanCorruption,
    Target,
    options,
)
from clozelab.testing import CheckFailed, check_collator, check_objective
from clozelab.testing.objective import CHECKS
from clozelab.training import TrainConfig, fit

STEPS, SEEDS = 400, 3
ROWS, TEXTS = 2000, 300  # of held-out text, and generated
BATCH, LENGTH = 32, 24
# Two languages that are known exactly, and ids for models of both. Seeds draw weights, text and masks.
SOURCE, OTHER = (MarkovSource.random(6, entropy=0.7, seed=seed) for seed in (0, 1))
SPECIAL = SOURCE.special_ids(sentinels=120)
CAUSAL, MASKED, PREFIX, ELECTRA = CausalLM(), MaskedLM(), PrefixLM(), Electra()
DIFFUSION, AHEAD, FIM = MaskedDiffusion(), MultiTokenPrediction(), FillInTheMiddle(fim_rate=0.9, form="psm")
HYBRID = MaskedNextToken(causal_share=0.125)
# The last sentinels are the roles of fill-in-the-middle: a vocabulary of the same size has the same first weights.
ROLES = replace(SPECIAL, sentinels=SPECIAL.sentinels[:-4], roles=dict(zip(FIM.roles, SPECIAL.sentinels[-4:])))
SPAN = SpanCorruption(noise_density=0.2, mean_noise_span_length=1.0)  # spans of one token are learned fastest
READING = ("reads", "documents", "answers")  # names of checks
LINES = (("correct", "#0072B2", "-"), ("mistaken", "#D55E00", "--"))  # of Okabe and Ito's palette

Student = tuple[nn.Module, list[float]]
"""A trained model, and its training losses."""


@dataclass(frozen=True)
class Exhibit:
    """A mistake and its correct counterpart, of one seed. In all pairs the correct one comes first."""

    students: tuple[Student, Student]
    numbers: str
    """Numbers of a batch, or of a loss, in which the mistake shows."""
    checks: tuple[Callable[[], object], Callable[[], object]]
    """The same check on both."""
    costs: dict[str, Callable[[nn.Module], float]]
    """What is measured on both models after training."""
    floor: float | None = None
    """The least training loss that is possible without a leak, where it is known."""


# ------------------------------------------------------------------ what the exhibits share


def student(seed: int, steps: int, objective: Objective, batches: Callable, loss_fn: Callable | None = None) -> Student:
    """A small trained model. One seed means the same initial weights and the same text, correct or mistaken."""
    torch.manual_seed(seed)
    shape = {"d_model": 32, "n_layers": 2, "n_heads": 2, **({"n_decoder_layers": 1} if objective is SPAN else {})}
    model = objective.build_model(SPECIAL.vocab_size, "tiny", **shape)
    config = TrainConfig(steps=steps, learning_rate=1e-2, weight_decay=0.0, decay=0.6, precision="float32")
    return model, fit(loss_fn or objective, model, batches, config)


def fresh(seed: int, objective: Objective, corrupt: Corruption | None = None) -> Callable[[int], Batch]:
    """New text in each step, with the objective's corruption, or another."""
    special = ROLES if objective.roles == FIM.roles else SPECIAL
    collate, length = Collator(corrupt or objective.corrupt, special, seed=seed), objective.source_length(LENGTH)

    def batch(step: int, rows: int = BATCH) -> Batch:
        text = SOURCE.sample(rows, length, seed=seed * 10**6 + step)
        return collate.block(text, range(step * rows, (step + 1) * rows))

    return batch


@cache
def correct(seed: int, steps: int, objective: Objective) -> Student:
    """The correct counterpart of all exhibits that differ from it by their mistake alone."""
    return student(seed, steps, objective, fresh(seed, objective))


def held_out(seed: int, objective: Objective) -> Callable[[nn.Module], float]:
    """Nats per loss position on fresh text with the correct corruption, whatever the model was trained on."""
    batch = fresh(seed, objective)(-1, ROWS)
    return lambda model: evaluate(objective, model, [batch]).nats


def nats_of_next(seed: int, own: bool) -> Callable[[nn.Module], float]:
    """Nats a token given what came before and no more; `own`: of generated text, under the true language."""

    def measure(model: nn.Module) -> float:
        text, generator, nats = SOURCE.sample(TEXTS, LENGTH, seed=-2), torch.Generator().manual_seed(seed), 0.0
        with eval_mode(model):
            for t in range(1, LENGTH):
                logits = model.unembed(model(text[:, :t])[:, -1])[:, : SOURCE.symbols]
                if own:
                    text[:, t] = sample_token(logits, generator=generator)
                truth = SOURCE.transition.log()[text[:, t - 1]]
                nats -= float((truth if own else logits.log_softmax(-1)).gather(1, text[:, t : t + 1]).mean())
        return nats / (LENGTH - 1)

    return measure


def collators(objective: Objective, corrupt: Corruption, **settings: int) -> tuple[Callable, Callable]:
    """`check_collator` on the correct corruption and on another."""
    right, wrong = objective.collator(SPECIAL), Collator(corrupt, SPECIAL)
    return lambda: check_collator(right, workers=0, **settings), lambda: check_collator(wrong, workers=0, **settings)


def kit(pairs: Sequence[tuple[Objective, nn.Module]], *names: str) -> tuple[Callable, ...]:
    """The named checks of `check_objective` on the correct objective and on another one."""
    skip = CHECKS.keys() - set(names)
    return tuple(lambda pair=pair: check_objective(*pair, skip=skip) for pair in pairs)


def random_ids(examples: Examples) -> Tensor:
    """(B, T) random ids of text, from the noise of each example."""
    choice = examples.special.replacements
    return choice[(examples.uniform(4) * len(choice)).long()]


# ------------------------------------------------------------------ the exhibits


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
        prompts, generator = SOURCE.sample(TEXTS, 1, seed=-3), torch.Generator().manual_seed(seed)
        texts = generate(model, prompts, max_new_tokens=2 * LENGTH, eos=special.eos, generator=generator)
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

    test, seen = fresh(seed, SPAN)(-1, ROWS), fresh(seed, SPAN, corrupt)(0)

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


class TaughtToBeFound(GeneratorDiscriminator):
    """The discriminator reads a straight-through sample: the drawn token, with the gradient of the expected one."""

    def forward(self, input_ids: Tensor, attention_mask=None, document_ids=None, sampling_noise=None):
        outputs = super().forward(input_ids, attention_mask, document_ids, sampling_noise)
        if sampling_noise is None:
            return outputs
        generated, sampled = outputs["generator"], outputs["discriminator"].sampled
        p = F.linear(generated.states, generated.table).softmax(-1) * (sampling_noise > 0)[..., None]
        passes = (p - p.detach()) @ self.discriminator.embedding.weight  # 0, with a gradient; correct: leave it out
        hook = self.discriminator.embedding.register_forward_hook(lambda _, __, embedded: embedded + passes)
        states = self.discriminator(sampled, attention_mask, document_ids)
        hook.remove()
        return {"generator": generated, "discriminator": Prediction(states, self.verdict, sampled)}


@options
class Conniving(Electra):
    """ELECTRA with that model."""

    name = "conniving"

    def build_model(self, vocab_size: int, size: str = "tiny", **overrides: int) -> TaughtToBeFound:
        return TaughtToBeFound(model_config("encoder-only", size, vocab_size, **overrides), self.generator_size)


def gradient_into_generator(seed: int, steps: int) -> Exhibit:
    """The discriminator's gradient passes through the sample, so the generator learns to be found out."""
    batch = fresh(seed, ELECTRA)(-1, ROWS)

    def of_generator(model: nn.Module) -> float:
        return evaluate(ELECTRA, model, [batch]).parts["generator"].mean

    def on_other_fakes(model: nn.Module) -> float:
        """Of the discriminator, where 15% of the tokens are replaced by any of the symbols alike."""
        text, generator = SOURCE.sample(ROWS, LENGTH, seed=-3), torch.Generator().manual_seed(seed)
        put = torch.randint(SOURCE.symbols, text.shape, generator=generator)
        read = torch.where(torch.rand(text.shape, generator=generator) < ELECTRA.mask_rate, put, text)
        with eval_mode(model):
            prediction = model(read)["discriminator"]
            logits = F.linear(prediction.states, prediction.table)
        return float(F.cross_entropy(logits.flatten(0, 1), (read != text).long().flatten()))

    right, wrong = correct(seed, steps, ELECTRA), student(seed, steps, Conniving(), fresh(seed, ELECTRA))
    detection = [evaluate(ELECTRA, model, [batch]).parts["discriminator"].mean for model, _ in (right, wrong)]
    return Exhibit(
        (right, wrong),
        f"the discriminator's own loss {'falls' if detection[1] < detection[0] else 'rises'} by the help: "
        f"{detection[0]:.3f} -> {detection[1]:.3f} nats a token",
        # Who reads whom is as it should be, and takes longest to check.
        tuple(lambda model=model: check_objective(ELECTRA, model, skip=READING) for model, _ in (right, wrong)),
        {"nats per hidden token": of_generator, "nats per token, of uniform fakes": on_other_fakes},
    )


@options
class Unweighted(MaskedDiffusion):
    """Each hidden token counts once, however many of the text are hidden."""

    name = "unweighted"

    def corrupt(self, examples: Examples) -> Batch:
        batch = super().corrupt(examples)
        return batch | {"weights": (batch["weights"] != 0).float()}  # correct: n / k


def weights_dropped(seed: int, steps: int) -> Exhibit:
    """The weights n / k of masked diffusion are left out: the loss looks half as high and is no bound."""
    right, wrong = correct(seed, steps, DIFFUSION), student(seed, steps, Unweighted(), fresh(seed, Unweighted()))
    text = held_out(seed, DIFFUSION)(right[0])
    dropped = evaluate(Unweighted(), right[0], [fresh(seed, Unweighted())(-1, ROWS)]).nats
    return Exhibit(
        (right, wrong),
        f"the correct model costs at most {text:.3f} nats a token, and without the weights {dropped:.3f}, where the "
        f"language has {SOURCE.entropy_rate:.3f}",
        kit([(DIFFUSION, right[0]), (Unweighted(), wrong[0])], "uniform", "likelihood"),
        {"nats per token, at most": held_out(seed, DIFFUSION)},
    )


@options
class Against(MultiTokenPrediction):
    """The further head is subtracted."""

    name, reads = "against", MultiTokenPrediction.reads

    def targets(self, batch: Batch) -> dict[str, Target]:
        first, *further = super().targets(batch).items()
        return dict([first, *((name, replace(target, weight=-target.weight)) for name, target in further)])


def sign_of_a_weight(seed: int, steps: int) -> Exhibit:
    """The weight of the further head has the wrong sign: the model is taught not to know the token after the next."""
    right, wrong = correct(seed, steps, AHEAD), student(seed, steps, Against(), fresh(seed, AHEAD))
    batch = fresh(seed, AHEAD)(-1, ROWS)

    def part(name: str) -> Callable[[nn.Module], float]:
        return lambda model: evaluate(AHEAD, model, [batch]).parts[name].mean

    return Exhibit(
        (right, wrong),
        f"the further head costs {part('ahead_1')(wrong[0]):.1f} nats, where a uniform guess costs "
        f"{math.log(SPECIAL.vocab_size):.1f}",
        kit([(AHEAD, right[0]), (Against(), wrong[0])], "returns"),
        {"nats per next token": part("logits"), "nats per token after it": part("ahead_1")},
    )


@options
class CutMiddle(FillInTheMiddle):
    """A moved text is four tokens longer, and is cut to its old length."""

    name = "cut-middle"

    def corrupt(self, examples: Examples) -> Batch:
        rows = super().corrupt(examples)
        length = examples.tokens.shape[1]  # correct: texts are four tokens shorter than the rows
        return {key: value[:, :length] if value.dim() > 1 else value for key, value in rows.items()}


def middle_cut(seed: int, steps: int) -> Exhibit:
    """Texts are moved and then cut to the length of a row: the end of the middle is lost, and its end of text."""
    other = CutMiddle(fim_rate=FIM.fim_rate, form=FIM.form)
    right, wrong = correct(seed, steps, FIM), student(seed, steps, other, fresh(seed, other))
    seen = [int((fresh(seed, one)(0)["labels"] == ROLES["fim_end"]).sum()) for one in (FIM, other)]

    def ended(model: nn.Module) -> float:
        text, marks = SOURCE.sample(TEXTS, 12, seed=-3), [ROLES[role] for role in ("fim_prefix", "fim_suffix")]
        column = torch.tensor([*marks, ROLES["fim_middle"]]).expand(TEXTS, 3)
        prompts = torch.cat([column[:, :1], text[:, :6], column[:, 1:2], text[:, 6:], column[:, 2:]], 1)
        generator = torch.Generator().manual_seed(seed)
        row = generate(model, prompts, max_new_tokens=LENGTH, eos=ROLES["fim_end"], generator=generator)
        return 100 * float((row[:, prompts.shape[1] :] == ROLES["fim_end"]).any(1).float().mean())

    return Exhibit(
        (right, wrong),
        f"of {BATCH} texts {seen[1]} have the end of a middle in the loss, instead of {seen[0]}",
        kit([(FIM, right[0]), (other, wrong[0])], "text", "special ids"),
        {f"% of middles that end within {LENGTH} tokens": ended, "nats per token": held_out(seed, FIM)},
    )


@options
class HalfEach(MaskedNextToken):
    """The mean of causal rows and the mean of masked rows are averaged."""

    name, reads = "half-each", MaskedNextToken.reads

    def targets(self, batch: Batch) -> dict[str, Target]:
        [(name, target)] = super().targets(batch).items()
        causal = batch["causal"][:, None].float()
        share = torch.where(causal == 1, causal.mean(), 1 - causal.mean())  # of the rows of its kind
        return {name: replace(target, weights=target.weights / (2 * share))}  # correct: the weights as they are


def means_of_kinds(seed: int, steps: int) -> Exhibit:
    """Rows of two kinds have a mean each, and both means count half: an eighth of the rows is half of the loss."""
    other = HalfEach(causal_share=HYBRID.causal_share)
    right, wrong = correct(seed, steps, HYBRID), student(seed, steps, other, fresh(seed, other))
    batch = fresh(seed, HYBRID)(-1, ROWS)

    def of_kind(causal: int) -> Callable[[nn.Module], float]:
        rows = {key: value[batch["causal"] == causal] for key, value in batch.items()}
        return lambda model: evaluate(HYBRID, model, [rows]).nats

    share = float(fresh(seed, HYBRID)(0)["causal"].float().mean())
    return Exhibit(
        (right, wrong),
        f"a causal row counts {(1 - share) / share:.0f} times as much as a masked one in the first batch",
        kit([(HYBRID, right[0]), (other, wrong[0])], "uniform", "accumulation"),
        {"nats per token of masked rows": of_kind(0), "nats per token of causal rows": of_kind(1)},
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
    "gradient into the generator": gradient_into_generator,
    "weights dropped": weights_dropped,
    "sign of a weight": sign_of_a_weight,
    "end of the middle cut": middle_cut,
    "mean of means of two kinds": means_of_kinds,
}

# ------------------------------------------------------------------ the report


def verdict(check: Callable[[], object]) -> str:
    """What the check found, or "passed"."""
    try:
        check()
    except InputError as error:
        return f"InputError: {error}"
    except CheckFailed as failed:
        return "; ".join(f"FAULT {name}: {failed.report.findings[name].found}" for name in failed.report.faults)
    return "passed"


def in_words(what: str, pairs: Sequence[tuple[float, float]]) -> str:
    """Mean ± standard deviation over the seeds, and whether the difference is significant (paired t-test, p < 0.05)."""
    wrong_less_right, seeds = [b - a for a, b in pairs], len(pairs)
    digits = 1 if what.startswith("%") else 3

    def spread(values: Sequence[float]) -> str:
        return f"{fmean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if seeds > 1 else "")

    text = f"{' -> '.join(map(spread, zip(*pairs)))}\ndifference {spread(wrong_less_right)}"
    student_t = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}.get(seeds, 2.57)
    not_significant = seeds > 1 and abs(fmean(wrong_less_right)) <= student_t * stdev(wrong_less_right) / seeds**0.5
    return text + (f" (not significant over {seeds} seeds)" if not_significant else "")


def draw(axes: Axes, exhibits: list[Exhibit]) -> None:
    """Training losses in 20 bins: the line is their mean over the seeds, the shade their range."""
    curves = torch.tensor([[curve for _, curve in exhibit.students] for exhibit in exhibits])  # (seeds, 2, steps)
    width = max(1, curves.shape[2] // 20)
    bins = curves[..., : curves.shape[2] // width * width].unflatten(2, (-1, width)).mean(3)
    steps, ends = (torch.arange(bins.shape[2]) + 0.5) * width, bins[:, :, -1].mean(0).tolist()
    floors = [exhibit.floor for exhibit in exhibits if exhibit.floor is not None]
    if floors:
        axes.axhline(fmean(floors), color="#555555", linestyle=":", linewidth=1)
        place = {"xytext": (0, -3), "textcoords": "offset points", "va": "top", "color": "#555555"}
        axes.annotate(f"least possible {fmean(floors):.2f}", (steps[len(steps) // 4], fmean(floors)), **place)
    for which, (word, colour, style) in enumerate(LINES):
        lines = bins[:, which]
        axes.fill_between(steps, lines.amin(0), lines.amax(0), color=colour, alpha=0.2, linewidth=0)
        axes.plot(steps, lines.mean(0), color=colour, linewidth=2, linestyle=style)
        above = ends[which] > ends[1 - which] or ends[which] < 0.3  # no room below
        place = {"xytext": (0, 7 if above else -7), "ha": "right", "va": "bottom" if above else "top", "color": colour}
        axes.annotate(f"{word} {ends[which]:.2f}", (steps[-1], ends[which]), textcoords="offset points", **place)
    axes.set_ylim(bottom=0)


def main(steps: int = STEPS, seeds: int = SEEDS, out: Path = Path("runs/museum.png")) -> dict[str, dict]:
    """Run all exhibits; returns for each what the checks found and what was measured."""
    rows = math.ceil(len(EXHIBITS) / 3)
    figure, results = Figure(figsize=(13, 4.3 * rows), layout="constrained"), {}
    places = figure.subplots(rows, 3).flat
    for axes in places[len(EXHIBITS) :]:
        axes.set_axis_off()
    for axes, (name, make) in zip(places, EXHIBITS.items()):
        exhibits = [make(seed, steps) for seed in range(seeds)]
        right, wrong = (verdict(check) for check in exhibits[0].checks)
        costs = {
            what: [tuple(exhibit.costs[what](model) for model, _ in exhibit.students) for exhibit in exhibits]
            for what in exhibits[0].costs
        }
        print(f"\n{name}: {make.__doc__}\n  the numbers    {exhibits[0].numbers}")
        print(f"  the check      {wrong}\n  if correct     {right}")
        for what, pairs in costs.items():
            print(f"  the cost       {what}: {in_words(what, pairs)}".replace("\n", ", "), flush=True)
        draw(axes, exhibits)
        axes.set_title(f"{name}\nfound: {wrong.split(':')[0]}", fontsize=11, loc="left")
        what, pairs = next(iter(costs.items()))
        axes.set_xlabel(f"step\nin the end: {what}\n{in_words(what, pairs)}", fontsize=9)
        curves = [[curve for _, curve in exhibit.students] for exhibit in exhibits]
        checked = {"numbers": exhibits[0].numbers, "check": wrong, "check_if_correct": right}
        results[name] = {**checked, "costs": costs, "curves": curves}
    figure.supylabel("training loss (nats per loss position)", fontsize=11)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=110)
    record = {"steps": steps, "seeds": seeds, "pairs": [word for word, _, _ in LINES], "exhibits": results}
    out.with_suffix(".json").write_text(json.dumps(record))
    print(f"\nthe curves: {out}, all numbers: {out.with_suffix('.json')}")
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--out", type=Path, default=Path("runs/museum.png"), help="the picture; the numbers are written beside it"
    )
    parser.add_argument("--quick", action="store_true", help="one seed, 2 steps: enough for the checks alone")
    arguments = parser.parse_args()
    main(*((2, 1) if arguments.quick else (STEPS, SEEDS)), out=arguments.out)
