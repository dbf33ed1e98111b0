"""A breakdown that is declared wrongly is found; labels that an objective refuses are no fault."""

import pytest

from clozelab import CausalLM, MaskedDiffusion
from clozelab.data import IGNORED
from clozelab.errors import InputError
from clozelab.objectives import options
from clozelab.testing import CheckFailed, check_objective
from clozelab.testing.report import OK

from .catalogue_objectives import small


def broken_down_by(values):
    @options
    class Breakdown(CausalLM):
        name = "breakdown"

        def breakdown(self, batch):
            return {"kind": values(batch["labels"])}

    return Breakdown


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lambda labels: labels[:, 1:], r"int64 \(6, 23\)"),
        (lambda labels: labels[:, :1], r"int64 \(6, 1\)"),
        (lambda labels: labels[0], r"int64 \(24,\)"),
        (lambda labels: labels.double().mean(1), r"float64 \(6,\)"),
        (lambda labels: labels[:, 0] > 5, r"bool \(6,\)"),
        (lambda labels: labels[:, 0].tolist(), "list"),
    ],
    ids=["a position less", "a column", "a row", "floats", "flags", "a list"],
)
def test_a_breakdown_that_is_not_one_integer_a_row_or_a_position_is_found(values, message):
    with pytest.raises(CheckFailed, match=rf"FAULT +returns: breakdown\(\) has .*{message} as 'kind'"):
        check_objective(broken_down_by(values)(), small(CausalLM()))


@pytest.mark.parametrize(
    "values", [lambda labels: labels[:, 0], lambda labels: labels.clamp(max=1)], ids=["by row", "by position"]
)
def test_a_breakdown_may_go_by_rows_or_by_positions(values):
    assert check_objective(broken_down_by(values)(), small(CausalLM())).findings["returns"].verdict == OK


def test_a_breakdown_by_positions_of_a_weighted_loss_is_found():
    """Its count is the row's: there is none of each position."""

    @options
    class Weighted(MaskedDiffusion):
        name = "weighted"

        def breakdown(self, batch):
            return {"kind": batch["labels"].clamp(min=0)}

    with pytest.raises(CheckFailed, match=r"FAULT +returns: .*as 'kind', not integers \(6,\)"):
        check_objective(Weighted(), small(MaskedDiffusion()))


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
