"""Progress in a log file: lines, and not too many of them."""

import pytest

from clozelab import progress
from clozelab.progress import LogClock, LogLines, progress_bar, tracked


class Clock:
    """A time that each look moves on by some seconds."""

    def __init__(self, step=1.0):
        self.seconds, self.step = 0.0, step

    def __call__(self):
        self.seconds += self.step
        return self.seconds


def test_a_week_of_work_makes_less_than_two_hundred_lines(capsys):
    lines = LogLines("causal", 60_000, 0, "steps")
    lines.clock = LogClock(Clock(10.0))
    for step in range(1, 60_001):
        lines.update(step, "loss 4.000 nats")
    printed = capsys.readouterr().err.splitlines()
    assert 100 < len(printed) < 200
    assert printed[0] == "causal: 1 of 60,000 steps, loss 4.000 nats, 7 days left"


def test_lines_that_are_printed_are_limited_too(capsys):
    lines = LogLines("causal", None, 0, "steps")
    lines.clock = LogClock(Clock())
    for n in range(10_000):
        lines.print_line(f"evaluation {n}")
    printed = capsys.readouterr().err.splitlines()
    assert printed[:200] == [f"evaluation {n}" for n in range(200)]
    assert printed[200] == "(further lines are printed now and then)"
    assert 210 < len(printed) < 400


def test_what_is_done_between_two_steps_is_said(capsys):
    lines = LogLines("masked", 100, 5, "steps")
    lines.clock = LogClock(Clock())
    for number in range(1, 61):
        lines.doing(f"evaluating {number} of 60")
    assert capsys.readouterr().err.splitlines() == [
        "masked: 5 of 100 steps, evaluating 5 of 60",
        "masked: 5 of 100 steps, evaluating 35 of 60",
    ]


def test_items_are_counted_and_quick_work_prints_nothing(capsys, monkeypatch):
    assert list(tracked(["a", "b"], "tokenising", unit="documents")) == ["a", "b"]
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress, "FIRST", 0.0)
    assert list(tracked(["a", "b"], "tokenising", unit="documents")) == ["a", "b"]
    assert capsys.readouterr().err.splitlines()[0].startswith("tokenising: 1 of 2 documents")


@pytest.mark.parametrize("is_visible", [True, False])
def test_a_bar_on_a_terminal_shows_name_and_note(is_visible, capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress_bar("causal", 10, visible=is_visible) as bar:
        bar.update(3, "loss 1.000 nats")
        bar.print_line("a line \x1b[31m[bold]")
    printed = capsys.readouterr().err
    assert ("loss 1.000 nats" in printed) is is_visible
    assert ("a line ␛[31m[bold]" in printed) is is_visible
