"""Each fault that is planted in an objective is found, by the check that is named for it."""

import pytest
import torch
from torch import nn

from clozelab import CausalLM, FillInTheMiddle, MaskedDiffusion, MaskedLM, PrefixLM, SpecialIds
from clozelab.data import IGNORED
from clozelab.objectives import Likelihood, Loss, Part, Target, next_token_labels, options
from clozelab.testing import CheckFailed, check_objective

V = 60
SPECIAL = SpecialIds(V, pad=0, eos=1, mask=2)


def small(objective, **fields):
    torch.manual_seed(0)
    return objective.build_model(V, "tiny", **{"d_model": 16, "n_layers": 2, "n_heads": 2, **fields})


def found(objective, model=None, batch=None):
    """The checks that find a fault."""
    with pytest.raises(CheckFailed) as failed:
        check_objective(objective, small(objective) if model is None else model, batch)
    return failed.value.report.faults


@options
class PrefixWithoutRank(PrefixLM):
    """The prefix is read from the left alone: the corruption forgets the rank."""

    name, likelihood, reads = "no-rank", Likelihood.EXACT, PrefixLM.reads

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        del batch["reading_rank"]
        return batch


@options
class PrefixInTheLoss(PrefixLM):
    name, likelihood, reads = "prefix-in-loss", Likelihood.EXACT, PrefixLM.reads

    def corrupt(self, examples):
        return super().corrupt(examples) | {"labels": examples.tokens.masked_fill(~examples.is_token, IGNORED)}


@options
class WeightsDropped(MaskedDiffusion):
    """The weights are computed and ignored."""

    name, likelihood = "weights-dropped", Likelihood.BOUND

    def targets(self, batch):
        return {"logits": Target(batch["labels"], count=batch["count"])}


@options
class WeightsNeverMade(MaskedDiffusion):
    name, likelihood = "weights-never-made", Likelihood.BOUND

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        del batch["weights"]
        return batch

    def targets(self, batch):
        return {"logits": Target(batch["labels"], count=batch["count"])}


@options
class WeightsReadAndIgnored(MaskedDiffusion):
    name, likelihood = "weights-read-and-ignored", Likelihood.BOUND

    def targets(self, batch):
        return {"logits": Target(batch["labels"], 0 * batch["weights"] + 1, batch["count"])}


@options
class WeightsAndCountIgnored(MaskedDiffusion):
    """Still ln V at a uniform guess."""

    name = "weights-and-count-ignored"

    def targets(self, batch):
        ones = torch.ones_like(batch["weights"]) + 0 * batch["count"][:, None]
        return {"logits": Target(batch["labels"], ones)}


@options
class NeitherWeightsNorCount(MaskedDiffusion):
    name = "neither-weights-nor-count"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        del batch["weights"], batch["count"]
        return batch

    def targets(self, batch):
        return {"logits": Target(batch["labels"])}


@options
class DividedByHidden(MaskedDiffusion):
    name, likelihood = "divided-by-hidden", Likelihood.BOUND

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"count": (batch["labels"] != IGNORED).sum(1)}


@options
class MiddleCut(FillInTheMiddle):
    """The row is cut to its old width, and with it the end of a middle."""

    name = "middle-cut"

    def corrupt(self, examples):
        return {key: value[:, : examples.tokens.shape[1]] for key, value in super().corrupt(examples).items()}


@options
class EndCut(FillInTheMiddle):
    """All of the text is there, and the id that ends a middle is not."""

    name = "end-cut"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        end = batch["input_ids"] == examples.special["fim_end"]
        for key, fill in (("input_ids", 0), ("attention_mask", 0), ("labels", IGNORED)):
            batch[key] = batch[key].masked_fill(end, fill)
        return batch


@options
class ShiftedTwice(CausalLM):
    name = "shifted-twice"

    def targets(self, batch):
        once = next_token_labels(batch)
        return {"logits": Target(next_token_labels(batch | {"labels": once}))}


@options
class NotShifted(CausalLM):
    name = "not-shifted"

    def targets(self, batch):
        return {"logits": Target(batch["labels"])}


@options
class NothingHidden(MaskedLM):
    name = "nothing-hidden"

    def corrupt(self, examples):
        return super().corrupt(examples) | {"input_ids": examples.tokens.clone()}


@options
class RolledLabels(MaskedLM):
    """No label is where it belongs, and nothing leaks."""

    name = "rolled"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        wrong = examples.tokens.roll(2, 1)
        return batch | {"labels": torch.where(batch["labels"] == IGNORED, IGNORED, wrong)}


@options
class MeanInTheSum(CausalLM):
    """The part holds a mean where a sum belongs: a mean of means under accumulation."""

    name = "mean-in-the-sum"

    def loss(self, outputs, batch):
        part = super().loss(outputs, batch)["logits"]
        return Loss({"logits": Part(part.mean, torch.ones_like(part.count))})


@options
class OwnCounts(CausalLM):
    """What a step is divided by is not what its sum is of."""

    name = "own-counts"

    def counts(self, batch):
        return {"logits": batch["attention_mask"].sum()}


@options
class HeadOnTheObjective(CausalLM):
    name = "head"

    def __post_init__(self):
        super().__post_init__()
        self.head = nn.Linear(4, 4)


@options
class IgnoresUnknownKeys(CausalLM):
    name = "lenient"

    def forward(self, model, batch):
        return super().forward(model, {key: batch[key] for key in ("input_ids", "attention_mask", "labels")})


@options
class NoiseFromTheBatch(MaskedLM):
    """The mask depends on the row's place among its neighbours."""

    name = "noise-of-the-place"

    def choose(self, examples, maskable):
        noise = torch.rand(maskable.shape, generator=torch.Generator().manual_seed(3))
        return maskable & (noise.masked_fill(~maskable, 2).argsort(1).argsort(1) < 2)


@options
class SomeDocumentsJoined(CausalLM):
    """One packed row in ten is read as one document."""

    name = "some-documents-joined"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        if "document_ids" in batch:
            batch["document_ids"] = batch["document_ids"].masked_fill(examples.uniform_row(0) < 0.1, 0)
        return batch

    def reads(self, batch):
        ends = batch["input_ids"] == 1
        return super().reads(batch | {"document_ids": ends.cumsum(1) - ends.long()})


@options
class OptionLost(MaskedLM):
    """`options()` forgets the rate, so a run comes back with another."""

    name = "option-lost"

    def options(self):
        return {name: value for name, value in super().options().items() if name != "mask_rate"}


CONTRACT = {
    PrefixWithoutRank: "reads",
    PrefixInTheLoss: "answers",
    WeightsNeverMade: "uniform",
    WeightsReadAndIgnored: "uniform",
    WeightsAndCountIgnored: "keys",
    NeitherWeightsNorCount: "count",
    DividedByHidden: "uniform",
    MiddleCut: "text",
    EndCut: "text",
    ShiftedTwice: "alignment",
    NotShifted: "answers",
    NothingHidden: "answers",
    RolledLabels: "alignment",
    MeanInTheSum: "accumulation",
    OwnCounts: "value",
    HeadOnTheObjective: "parameters",
    IgnoresUnknownKeys: "keys",
    NoiseFromTheBatch: "corruption",
    OptionLost: "options",
    SomeDocumentsJoined: "documents",
}


def test_weights_that_are_computed_and_dropped_are_refused_by_name():
    with pytest.raises(CheckFailed, match=r"FAULT +returns: raises InputError .*reads weights of the batch"):
        check_objective(WeightsDropped(), small(MaskedDiffusion()))


@pytest.mark.parametrize(("fault", "check"), CONTRACT.items(), ids=lambda one: getattr(one, "__name__", one))
def test_a_fault_of_an_objective_is_found_by_its_check(fault, check):
    assert check in found(fault())
