"""Right things that look like a fault of the noise, the progress or the levels, and are none."""

import pytest
import torch

from clozelab import MaskedDiffusion, MaskedLM, PrefixLM, SpanCorruption
from clozelab.data import IGNORED
from clozelab.objectives import Likelihood, options
from clozelab.objectives.prefix_lm import places_in_documents, prefix_batch
from clozelab.testing import check_objective

from .catalogue_noise import diffused
from .catalogue_objectives import small


@options
class DeclaredProgress(MaskedLM):
    """A schedule of the masked share that the class declares."""

    name, schedule = "declared-progress", "masks at first"

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        early = batch["labels"] != IGNORED if examples.progress < 0.01 else torch.zeros_like(batch["labels"]).bool()
        return batch | {"input_ids": batch["input_ids"].masked_fill(early, examples.special.mask)}


def every_seventh(tokens, maskable, generator):
    first = int(torch.randint(7, (1,), generator=generator))
    mask = maskable & (torch.arange(len(tokens)) % 7 == first)
    return mask if bool(mask.any()) else maskable & (torch.arange(len(tokens)) == int(maskable.nonzero()[0]))


@options
class HalfPrefix(PrefixLM):
    """No noise at all: the first half is the prefix."""

    name, reads, likelihood = "half-prefix", PrefixLM.reads, Likelihood.EXACT

    def corrupt(self, examples):
        place, length, _ = places_in_documents(examples)
        return prefix_batch(examples, place, (length + 1) // 2)


@pytest.mark.parametrize(
    "objective",
    [DeclaredProgress(), HalfPrefix(), MaskedLM(scheme=every_seventh), SpanCorruption(scheme="rolled-spans")],
)
def test_what_looks_like_such_a_fault_and_is_none_passes(objective):
    report = check_objective(objective, small(objective, n_layers=1))
    assert report.passed
    assert report.not_checked == []


def test_a_scheme_that_asks_for_data_is_tried_with_it():
    def of_a_kind(tokens, maskable, generator, kinds):
        free = maskable & (kinds == 1)
        return free if bool(free.any()) else maskable

    def scheme(tokens, maskable, generator, kinds):
        noise = torch.rand(len(tokens), generator=generator).masked_fill(~of_a_kind(tokens, maskable, None, kinds), 2)
        return noise == noise.min()

    objective = MaskedLM(scheme=scheme)
    report = check_objective(
        objective, small(objective, n_layers=1), example=lambda ids: {"kinds": [token % 2 for token in ids]}
    )
    assert report.passed
    assert report.not_checked == []


@options
class RightLevels(MaskedDiffusion):
    """Every level is as likely."""

    name, likelihood = "right-levels", Likelihood.BOUND

    def corrupt(self, examples):
        return diffused(examples, examples.uniform_row(0), examples.uniform(1))


def test_a_level_that_is_drawn_uniformly_passes():
    assert check_objective(RightLevels(), small(RightLevels(), n_layers=1)).passed
