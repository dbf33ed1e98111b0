"""Planted faults of objectives in what the class says of itself: options, roles, breakdowns, progress, reads."""

from __future__ import annotations

import torch
from torch import nn

from clozelab import CausalLM, MaskedLM, SpanCorruption
from clozelab.data import smallest
from clozelab.objectives import UL2, Loss, Part, options

from .catalogue_objectives import objective


@objective("parameters")
@options
class HeadOnTheObjective(CausalLM):
    """A layer on the objective, which no optimiser and no checkpoint walks."""

    name = "head"

    def __post_init__(self):
        super().__post_init__()
        self.head = nn.Linear(4, 4)


@objective("keys")
@options
class IgnoresUnknownKeys(CausalLM):
    """The batch is cut down to known keys, so a key that was meant to do something vanishes."""

    name = "lenient"

    def forward(self, model, batch):
        return super().forward(model, {key: batch[key] for key in ("input_ids", "attention_mask", "labels")})


@objective("options")
@options
class OptionLost(MaskedLM):
    """`options()` forgets the rate, so a run comes back with another."""

    name = "option-lost"

    def options(self):
        return {name: value for name, value in super().options().items() if name != "mask_rate"}


@objective("returns", says="no id for the role 'mask'")
@options
class RoleForgotten(MaskedLM):
    """The class does not declare that it needs a mask token."""

    name, roles = "role-forgotten", ()


@objective("returns", says="breakdown")
@options
class BreakdownByToken(CausalLM):
    """A breakdown has a value for some tokens, where evaluation splits rows or positions."""

    name = "breakdown-by-some-tokens"

    def breakdown(self, batch):
        return {"kind": batch["labels"][:, :3]}


@objective("returns", says="kinds the words")
@options
class KindWithoutAWord(UL2):
    """A breakdown has three values, and the class has words for two of them."""

    name, kinds = "kind-without-a-word", {"mode": ("R", "S")}


@objective("returns", says="no costs")
@options
class BreakdownWithoutRows(CausalLM):
    """There is a breakdown, and the loss does not keep the sums of its rows."""

    name = "breakdown-without-rows"

    def loss(self, outputs, batch):
        part = super().loss(outputs, batch)["logits"]
        return Loss({"logits": Part(part.sum, part.count)})

    def breakdown(self, batch):
        return {"row": torch.arange(len(batch["labels"]))}


@objective("progress")
@options
class ProgressUndeclared(MaskedLM):
    """The rate falls with the progress of the run, and the class does not say so: no resumed run has the same masks."""

    name = "progress-undeclared"

    def choose(self, examples, maskable):
        count = 1 + int(4 * (1 - examples.progress))
        return smallest(examples.uniform(0), torch.full((len(maskable), 1), count), maskable)


@objective("progress")
@options
class NoProgress(MaskedLM):
    """The class says that it changes with the run, and it does not: runs by the clock are refused for nothing."""

    name, schedule = "no-progress", "the rate falls"


@objective("reads")
@options
class DeclaresNoReads(MaskedLM):
    """reads() is empty, so no probe has anything to compare."""

    name = "declares-no-reads"

    def reads(self, batch):
        return {}


@objective("reads")
@options
class ReadsOneSideOnly(SpanCorruption):
    """reads() leaves the decoder out, so a decoder that reads ahead would pass."""

    name = "one-side-only"

    def reads(self, batch):
        return {pair: matrix for pair, matrix in super().reads(batch).items() if pair[1] == "input_ids"}
