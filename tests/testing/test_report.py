"""A report counts what passed, what failed, and what was not checked, which is not a pass."""

import json

import pytest

from clozelab.errors import InputError
from clozelab.testing import CheckFailed, Finding, Report
from clozelab.testing.report import FAULT, NOT_CHECKED, NOTE, OK, run_checks

FINDINGS = {
    "rate": Finding(OK, "15.1%"),
    "position": Finding(NOTE, "a bias", why="know it"),
    "targets": Finding(FAULT, "rows without <b>", "tokens 5", "nothing is learned"),
    "reads": Finding(NOT_CHECKED, "no outputs"),
}


def test_the_first_line_counts_and_names_what_is_missing():
    report = Report("mine", FINDINGS, essential=["reads", "rate"])
    assert str(report).splitlines()[0] == "mine: 2 passed, 1 failed, 1 not checked; essential, and not checked: reads"


def test_faults_come_first_and_the_unchecked_before_what_passed():
    lines = [line.split(":")[0].strip() for line in str(Report("mine", FINDINGS)).splitlines() if line.startswith("  ")]
    assert [line for line in lines if "why" not in line and line != "tokens 5"] == [
        "FAULT       targets",
        "not checked reads",
        "note        position",
        "ok          rate",
    ]


@pytest.mark.parametrize(
    ("names", "essential", "passed"),
    [
        (["rate", "position"], [], True),
        (["rate", "targets"], [], False),
        (["rate", "reads"], [], True),
        (["rate", "reads"], ["reads"], False),
    ],
)
def test_what_passes_has_no_fault_and_every_essential_check_ran(names, essential, passed):
    assert Report("mine", {name: FINDINGS[name] for name in names}, essential).passed is passed


def test_a_report_is_json_and_html():
    report = Report("mine", FINDINGS, ["reads"])
    again = json.loads(json.dumps(report.to_dict()))
    assert again["counts"] == {"passed": 2, "failed": 1, "not checked": 1}
    assert again["missing"] == ["reads"]
    assert again["findings"]["targets"]["example"] == "tokens 5"
    html = report._repr_html_()
    assert "rows without &lt;b&gt;" in html
    assert html.index("targets") < html.index("rate")


def raises(trial):
    raise ValueError("too many")


def fine(trial):
    return Finding(OK, "fine")


def test_whatever_a_check_raises_is_a_fault():
    with pytest.raises(CheckFailed, match=r"FAULT +one: raises ValueError \(too many\)"):
        run_checks("mine", {"one": raises, "two": fine}, None, [])


def test_after_a_fault_in_returns_nothing_else_is_checked():
    with pytest.raises(CheckFailed) as failed:
        run_checks("mine", {"returns": raises, "two": fine}, None, [])
    assert failed.value.report.counts == {"passed": 0, "failed": 1, "not checked": 1}


def test_a_skipped_check_is_not_a_pass():
    report = run_checks("mine", {"one": raises, "two": fine}, None, ["one"])
    assert report.counts == {"passed": 1, "failed": 0, "not checked": 1}
    with pytest.raises(InputError, match="no check is called three; the names are one, two"):
        run_checks("mine", {"one": raises, "two": fine}, None, ["three"])
