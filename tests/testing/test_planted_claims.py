"""A likelihood that a class claims and does not have is found: by sums over all short texts."""

import pytest
import torch

from clozelab import CausalLM, FillInTheMiddle, MaskedDiffusion, MaskedLM, PrefixLM, SpanCorruption
from clozelab.data import IGNORED
from clozelab.objectives import Likelihood, Target, next_token_labels, options
from clozelab.testing import CheckFailed, check_objective
from clozelab.testing.objective import CHECKS

from .catalogue_objectives import small


def only_likelihood(objective):
    return check_objective(
        objective, small(objective, n_layers=1), skip=[name for name in CHECKS if name not in ("returns", "likelihood")]
    ).findings["likelihood"]


def claims(kind, claim, **options_of):
    @options
    class Claims(kind):
        name, likelihood, reads = "claims", claim, kind.reads

    return Claims(**options_of)


@options
class EveryOtherTwice(CausalLM):
    """Weights of 2 and 0: ln V at a uniform guess, and no likelihood."""

    name, likelihood = "every-other-twice", Likelihood.EXACT

    def targets(self, batch):
        labels = next_token_labels(batch)
        even = torch.arange(labels.shape[1]) % 2
        return {"logits": Target(labels, (2.0 * even).expand(labels.shape))}


@options
class HalfOfTheLoss(CausalLM):
    """The sum is halved by its weights, and the class calls it a bound."""

    name, likelihood = "half", Likelihood.BOUND

    def targets(self, batch):
        labels = next_token_labels(batch)
        return {"logits": Target(labels, torch.full(labels.shape, 0.5))}


@pytest.mark.parametrize(
    "objective",
    [
        claims(MaskedLM, Likelihood.EXACT),
        claims(MaskedLM, Likelihood.BOUND),
        claims(MaskedDiffusion, Likelihood.EXACT),
        claims(FillInTheMiddle, Likelihood.EXACT),
        claims(SpanCorruption, Likelihood.EXACT),
        EveryOtherTwice(),
        HalfOfTheLoss(),
    ],
    ids=lambda one: f"{type(one).__mro__[1].__name__} {one.likelihood.name}",
)
def test_a_wrong_claim_is_found(objective):
    with pytest.raises(CheckFailed, match=r"FAULT +likelihood: .*the class claims (EXACT|BOUND)"):
        only_likelihood(objective)


@options
class SomeOfTheLoss(CausalLM):
    """Every third token is given, and so in no sum: exact of the others."""

    name, likelihood = "some", Likelihood.EXACT

    def targets(self, batch):
        labels = next_token_labels(batch)
        return {"logits": Target(labels.masked_fill(torch.arange(labels.shape[1]) % 3 == 1, IGNORED))}


@pytest.mark.parametrize(
    "objective",
    [
        CausalLM(label_smoothing=0.1, z_loss=1e-3),
        PrefixLM(),
        SomeOfTheLoss(),
        MaskedDiffusion(exact_count=False),
        FillInTheMiddle(fim_rate=1.0, form="spm"),
        claims(CausalLM, Likelihood.BOUND),
        claims(MaskedLM, Likelihood.EXACT, mask_replace_prob=1.0, random_replace_prob=0.0),
    ],
    ids=repr,
)
def test_a_right_claim_passes(objective):
    assert only_likelihood(objective).verdict == "ok"


def test_a_class_that_claims_nothing_is_held_to_nothing():
    assert only_likelihood(MaskedLM()).found == "the class claims no likelihood"


@options
class ScoresTheMask(MaskedDiffusion):
    name = "scores-the-mask"

    def scored_ids(self, batch):
        return batch["input_ids"][batch["weights"] != 0]


@options
class TooLong(FillInTheMiddle):
    name = "too-long"

    def source_length(self, length):
        return length


@options
class ReadsOtherDocuments(CausalLM):
    """What it says of itself excuses every leak across documents."""

    name = "reads-other-documents"

    def reads(self, batch):
        length = batch["input_ids"].shape[1]
        return {("logits", "input_ids"): torch.ones(len(batch["input_ids"]), length, length).tril().bool()}


@pytest.mark.parametrize(
    ("fault", "check", "message"),
    [
        (ScoresTheMask, "count", "holds ids that the texts do not have"),
        (TooLong, "text", "become rows of"),
        (ReadsOtherDocuments, "documents", "which is of another document"),
    ],
)
def test_what_a_class_says_of_itself_is_held_against_its_batches(fault, check, message):
    with pytest.raises(CheckFailed, match=rf"FAULT +{check}: .*{message}"):
        check_objective(
            fault(), small(fault(), n_layers=1), skip=[name for name in CHECKS if name not in ("returns", check)]
        )
