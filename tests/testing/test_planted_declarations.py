"""A breakdown that is declared wrongly is found; labels that an objective refuses are no fault."""

import pytest

from clozelab import CausalLM
from clozelab.data import IGNORED
from clozelab.errors import InputError
from clozelab.objectives import options
from clozelab.testing import CheckFailed, check_objective

from .catalogue_objectives import small


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
