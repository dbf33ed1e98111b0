"""Planted faults of objectives in what they predict: targets, weights, counts, terms of the loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from clozelab import CausalLM, MaskedDiffusion, MaskedLM, PrefixLM
from clozelab.data import IGNORED
from clozelab.objectives import Likelihood, Loss, Objective, Part, Target, next_token_labels, options
from clozelab.testing import check_objective

from .catalogue import faults_of, plant

V = 60
DEAR = {"reads", "documents", "answers", "noise", "likelihood", "progress", "replaced"}
"""Checks that cost more than all others: only those that must find a fault are run on it."""


def small(objective: Objective, **fields: Any) -> nn.Module:
    """The objective's own model, with weights that are always the same."""
    torch.manual_seed(0)
    return objective.build_model(V, "tiny", **{"d_model": 16, "n_layers": 1, "n_heads": 2, **fields})


def found(objective: Objective, model: nn.Module | None = None, batch: Any = None) -> list[str]:
    """The checks that find a fault in an objective, all of them run."""
    return list(faults_of(check_objective, objective, small(objective) if model is None else model, batch))


def objective(*checks: str, says: str = "", **settings: Any) -> Callable[[type], type]:
    """Plant a class of objectives, which is tried on its own model; `settings` are its options."""

    def decorate(kind: type) -> type:
        def find() -> dict[str, str]:
            planted = kind(**settings)
            return faults_of(check_objective, planted, small(planted), skip=DEAR - {*checks})

        plant("objective", kind, checks, find, says)
        return kind

    return decorate


# ------------------------------------------------------------------ weights and counts


@objective("returns", says="reads weights of the batch")
@options
class WeightsDropped(MaskedDiffusion):
    """The weights are in the batch, and targets() forgets them."""

    name = "weights-dropped"

    def targets(self, batch):
        return {"logits": Target(batch["labels"], count=batch["count"])}


@objective("uniform")
@options
class WeightsNeverMade(MaskedDiffusion):
    """Diffusion without the factor n / k, as a masked LM of all rates."""

    name = "weights-never-made"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        del batch["weights"]
        return batch

    def targets(self, batch):
        return {"logits": Target(batch["labels"], count=batch["count"])}


@objective("uniform")
@options
class WeightsReadAndIgnored(MaskedDiffusion):
    """The weights are read, and multiplied by nothing."""

    name = "weights-read-and-ignored"

    def targets(self, batch):
        return {"logits": Target(batch["labels"], 0 * batch["weights"] + 1, batch["count"])}


@objective("keys")
@options
class WeightsAndCountIgnored(MaskedDiffusion):
    """Weights and count are both left out: still ln V at a uniform guess."""

    name = "weights-and-count-ignored"

    def targets(self, batch):
        ones = torch.ones_like(batch["weights"]) + 0 * batch["count"][:, None]
        return {"logits": Target(batch["labels"], ones)}


@objective("count")
@options
class NeitherWeightsNorCount(MaskedDiffusion):
    """Neither is ever made: a masked LM that is called a bound of the likelihood."""

    name = "neither-weights-nor-count"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        del batch["weights"], batch["count"]
        return batch

    def targets(self, batch):
        return {"logits": Target(batch["labels"])}

    def scored_ids(self, batch):
        ids = torch.where(batch["labels"] == IGNORED, batch["input_ids"], batch["labels"])
        return ids[batch["attention_mask"] != 0]


@objective("uniform")
@options
class DividedByHidden(MaskedDiffusion):
    """Weighted by n / k and divided by k once more."""

    name = "divided-by-hidden"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"count": (batch["labels"] != IGNORED).sum(1)}


@objective("uniform")
@options
class WeightsTwice(MaskedDiffusion):
    """The weight goes into the labels' loss, and into the row's once more."""

    name = "weights-twice"

    def targets(self, batch):
        return {"logits": Target(batch["labels"], batch["weights"] ** 2, batch["count"])}


@objective("value")
@options
class OwnCounts(CausalLM):
    """A step is divided by all tokens, and the sum is of those after the first."""

    name = "own-counts"

    def counts(self, batch):
        return {"logits": batch["attention_mask"].sum()}


@objective("accumulation")
@options
class MeanInTheSum(CausalLM):
    """The part holds a mean where a sum belongs: a mean of means under accumulation."""

    name = "mean-in-the-sum"

    def loss(self, outputs, batch):
        part = super().loss(outputs, batch)["logits"]
        return Loss({"logits": Part(part.mean, torch.ones_like(part.count))})


# ------------------------------------------------------------------ which label for which output


@objective("alignment")
@options
class ShiftedTwice(CausalLM):
    """Labels are shifted in the batch, and in the loss again."""

    name = "shifted-twice"

    def targets(self, batch):
        once = next_token_labels(batch)
        return {"logits": Target(next_token_labels(batch | {"labels": once}))}


@objective("answers")
@options
class NotShifted(CausalLM):
    """Each output predicts the token that it reads."""

    name = "not-shifted"

    def targets(self, batch):
        return {"logits": Target(batch["labels"])}


@objective("alignment")
@options
class ShiftedBack(CausalLM):
    """logits[:, 1:] against labels[:, :-1]: each output predicts the token before."""

    name = "shifted-back"

    def targets(self, batch):
        return {"logits": Target(batch["labels"].roll(1, 1).index_fill(1, torch.tensor([0]), IGNORED))}


@objective("alignment")
@options
class RolledLabels(MaskedLM):
    """No label is where it belongs, and nothing leaks."""

    name = "rolled"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        return batch | {"labels": torch.where(batch["labels"] == IGNORED, IGNORED, examples.tokens.roll(2, 1))}


@objective("documents")
@options
class DocumentStartPredicted(CausalLM):
    """The end of a document predicts the first token of the next one, which has nothing to do with it."""

    name = "document-start-predicted"

    def targets(self, batch):
        following = F.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)
        return {"logits": Target(following.masked_fill(batch["attention_mask"] == 0, IGNORED))}


@objective("returns", says="at padding")
@options
class PaddingInTheLoss(CausalLM):
    """Labels are the tokens, padding included."""

    name = "padding-in-the-loss"

    def corrupt(self, examples):
        return super().corrupt(examples) | {"labels": examples.tokens.clone()}


# ------------------------------------------------------------------ terms of the loss


def with_terms(part: Part, extra: torch.Tensor) -> Loss:
    return Loss({"logits": Part(part.sum + extra, part.count, costs=part.costs)})


@objective("gradient", label_smoothing=0.1)
@options
class SmoothingOnPadding(MaskedLM):
    """Label smoothing over all positions, where the nll alone was masked (an old fairseq and many copies)."""

    name = "smoothing-on-padding"

    def loss(self, outputs, batch):
        part, states = super().loss(outputs, batch)["logits"], outputs["logits"]
        logits = states.states if states.table is None else states.states @ states.table.T
        elsewhere = logits.log_softmax(-1).mean(-1)[batch["labels"] == IGNORED]
        return with_terms(part, -self.label_smoothing * elsewhere.sum())


@objective("value", z_loss=1e-2)
@options
class ZLossTwice(CausalLM):
    """The z-loss is an option already, and a subclass adds its own."""

    name = "z-loss-twice"

    def loss(self, outputs, batch):
        part = super().loss(outputs, batch)["logits"]
        return with_terms(part, part.terms["z_loss"])


@objective("gradient", z_loss=1e-2)
@options
class ZLossEverywhere(CausalLM):
    """The z-loss of all positions, padding included."""

    name = "z-loss-everywhere"

    def loss(self, outputs, batch):
        part, states = super().loss(outputs, batch)["logits"], outputs["logits"]
        logits = states.states if states.table is None else states.states @ states.table.T
        elsewhere = logits.logsumexp(-1)[next_token_labels(batch) == IGNORED]
        return with_terms(part, self.z_loss * elsewhere.square().sum())


# ------------------------------------------------------------------ a prefix


@objective("answers")
@options
class PrefixInTheLoss(PrefixLM):
    """All tokens have labels, also those of the prefix, whose outputs read them."""

    name, likelihood, reads = "prefix-in-loss", Likelihood.EXACT, PrefixLM.reads

    def corrupt(self, examples):
        return super().corrupt(examples) | {"labels": examples.tokens.masked_fill(~examples.is_token, IGNORED)}

    def check_batch(self, batch):
        """Of its author, who wrote none."""
