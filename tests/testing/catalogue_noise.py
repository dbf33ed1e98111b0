"""Planted faults of objectives whose noise, ids or levels are wrong in a way that few batches show."""

from __future__ import annotations

import dataclasses

from clozelab import FillInTheMiddle, MaskedDiffusion, MaskedLM, SpanCorruption
from clozelab.data import IGNORED, Collator, Noise, smallest
from clozelab.objectives import options

from .catalogue_objectives import objective


def constant(examples, seeds):
    """The same noise for every example: the keys of other ids."""
    return dataclasses.replace(examples, noise=Noise.of(0, 0, seeds))


@objective("noise")
@options
class OneNoiseForAllRows(MaskedLM):
    """Every row gets the noise of the first, as from a generator that is seeded anew for each."""

    name = "one-noise"

    def corrupt(self, examples):
        return super().corrupt(constant(examples, [0] * len(examples.tokens)))


@objective("noise")
@options
class PlacesOfTheText(MaskedLM):
    """Each text keeps its hidden places; the random replacements are fresh."""

    name = "places-of-the-text"

    def choose(self, examples, maskable):
        return super().choose(constant(examples, [sum(row) for row in examples.token_lists()]), maskable)


@objective("noise")
@options
class EpochsAlike(MaskedLM):
    """`set_epoch` is overridden, and forgets the epoch."""

    name = "epochs-alike"

    def collator(self, special, **settings):
        made = super().collator(special, **settings)

        class Frozen(Collator):
            def set_epoch(self, epoch):
                super().set_epoch(0)

        return Frozen(made.corrupt, special, **settings)


@objective("noise")
@options
class ThreeMasks(MaskedLM):
    """The noise has three values alone, as of a pool of masks that were made beforehand (RoBERTa's ten copies)."""

    name = "three-masks"

    def corrupt(self, examples):
        return super().corrupt(constant(examples, (examples.uniform_row(5)[:, 0] * 3).long()))


@objective("special ids")
@options
class SentinelsOutOfStep(SpanCorruption):
    """Inputs and targets count their first two sentinels in another order."""

    name = "sentinels-out-of-step"

    def corrupt(self, examples):
        batch, known = super().corrupt(examples), examples.special.sentinels
        for key in ("decoder_input_ids", "labels"):
            one, two = batch[key] == known[0], batch[key] == known[1]
            batch[key] = batch[key].masked_fill(one, known[1]).masked_fill(two, known[0])
        return batch


@objective("special ids")
@options
class NoEndOfText(SpanCorruption):
    """The end of the targets is not in the loss."""

    name = "no-end"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"labels": batch["labels"].masked_fill(batch["labels"] == examples.special.eos, IGNORED)}


@objective("special ids")
@options
class EndOfMiddleNotInTheLoss(FillInTheMiddle):
    """The id that ends a middle is read and not predicted."""

    name = "end-not-in-the-loss"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"labels": batch["labels"].masked_fill(batch["labels"] == examples.special["fim_end"], IGNORED)}


def diffused(examples, level, noise):
    text = examples.is_token
    n = text.sum(1, keepdim=True)
    k = 1 + (level * n).long().clamp(max=n - 1)
    hidden = smallest(noise, k, text)
    return {
        "input_ids": examples.tokens.masked_fill(hidden, examples.special.mask),
        "labels": examples.answers.masked_fill(~hidden, IGNORED),
        "weights": (n.double() / k * text).float(),
        "count": n[:, 0],
        **examples.reading_keys(),
    }


@objective("likelihood")
@options
class NeverSmall(MaskedDiffusion):
    """Of n tokens at least half are hidden."""

    name = "never-small"

    def corrupt(self, examples):
        level = 0.5 + 0.5 * examples.uniform_row(0)
        return diffused(examples, level, examples.uniform(1))


@objective("likelihood")
@options
class LevelFromTheSameStream(MaskedDiffusion):
    """The level is the first number of the noise that chooses the tokens."""

    name = "level-from-the-same-stream"

    def corrupt(self, examples):
        return diffused(examples, examples.uniform_row(1), examples.uniform(1))


@objective("likelihood")
@options
class NeverAll(MaskedDiffusion):
    """k is drawn from 1 .. n - 1: a text of masks alone, from which generation starts, is never seen."""

    name = "never-all"

    def corrupt(self, examples):
        n = examples.is_token.sum(1, keepdim=True)
        return diffused(examples, examples.uniform_row(0) * (n - 1).clamp(min=1) / n, examples.uniform(1))


def replaced_by(which, batch, tokens, special):
    """The batch with another id where a random one stands."""
    random = (batch["input_ids"] != tokens) & (batch["input_ids"] != special.mask)
    return batch | {"input_ids": batch["input_ids"].masked_fill(random, which)}


@objective("special ids")
@options
class ReplacedByTheEnd(MaskedLM):
    """Ends of text stand in the place of hidden tokens, as of `randint(0, V)` with unlucky bounds."""

    name = "replaced-by-the-end"

    def corrupt(self, examples):
        special = examples.special
        return replaced_by(special.eos, super().corrupt(examples), examples.tokens, special)


@objective("special ids")
@options
class ReplacedByOne(MaskedLM):
    """A random id is drawn once for all."""

    name = "replaced-by-one"

    def corrupt(self, examples):
        special = examples.special
        return replaced_by(int(special.replacements[5]), super().corrupt(examples), examples.tokens, special)
