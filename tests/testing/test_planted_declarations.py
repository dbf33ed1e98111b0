"""What a class forgets to declare, or declares wrongly, is found; so is a fault of a few rows."""

import pytest
import torch

from clozelab import CausalLM, MaskedLM
from clozelab.data import IGNORED
from clozelab.errors import InputError
from clozelab.objectives import Loss, Part, options
from clozelab.testing import CheckFailed, check_objective

from .test_planted_faults import found, small


@options
class SomeRowsReadAhead(CausalLM):
    """One row in ten has a rank that lets it be read on both sides."""

    name = "some-rows-read-ahead"

    def corrupt(self, examples):
        place = torch.arange(examples.tokens.shape[1]).expand(examples.tokens.shape)
        return super().corrupt(examples) | {"reading_rank": place.masked_fill(examples.uniform_row(0) < 0.1, 0)}


def test_a_row_in_ten_that_is_read_on_both_sides_is_found():
    assert found(SomeRowsReadAhead()) == ["reads", "documents", "answers"]


def test_a_role_that_the_class_does_not_declare_is_found():
    @options
    class RoleForgotten(MaskedLM):
        name, roles = "role-forgotten", ()

    with pytest.raises(CheckFailed, match=r"FAULT +returns: raises InputError .*no id for the role 'mask'"):
        check_objective(RoleForgotten(), small(MaskedLM()))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda labels: labels, r"int64 \(6, 24\)"),
        (lambda labels: labels[:, :1], r"int64 \(6, 1\)"),
        (lambda labels: labels[0], r"int64 \(24,\)"),
        (lambda labels: labels.double().mean(1), r"float64 \(6,\)"),
        (lambda labels: labels[:, 0] > 5, r"bool \(6,\)"),
        (lambda labels: labels[:, 0].tolist(), "list"),
    ],
    ids=["by token", "a column", "a row", "floats", "flags", "a list"],
)
def test_a_breakdown_that_is_not_one_integer_a_row_is_found(values, message):
    @options
    class Breakdown(CausalLM):
        name = "breakdown"

        def breakdown(self, batch):
            return {"kind": values(batch["labels"])}

    with pytest.raises(CheckFailed, match=rf"FAULT +returns: breakdown\(\) has .*{message} as 'kind'"):
        check_objective(Breakdown(), small(CausalLM()))


def test_a_breakdown_of_a_loss_that_is_not_kept_by_row_is_found():
    @options
    class NoRows(CausalLM):
        name = "no-rows"

        def loss(self, outputs, batch):
            part = super().loss(outputs, batch)["logits"]
            return Loss({"logits": Part(part.sum, part.count)})

        def breakdown(self, batch):
            return {"row": torch.arange(len(batch["labels"]))}

    with pytest.raises(CheckFailed, match=r"FAULT +returns: there is a breakdown, and no row_sums of logits"):
        check_objective(NoRows(), small(CausalLM()))


def test_labels_that_are_refused_once_they_are_changed_are_no_fault():
    """An objective may hold the labels against its inputs: they are read."""

    @options
    class HoldsLabelsAgainstInputs(CausalLM):
        name = "strict"

        def check_batch(self, batch):
            labels = batch["labels"]
            if bool(((labels != IGNORED) & (labels != batch["input_ids"])).any()):
                raise InputError("these labels are of another text")

    report = check_objective(HoldsLabelsAgainstInputs(), small(CausalLM()))
    assert report.findings["keys"].found.endswith(
        "with another id as the last label of each row the batch is refused: these labels are of another text"
    )
