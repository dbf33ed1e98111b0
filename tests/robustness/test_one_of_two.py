"""Two processes train together and one of them dies: the other ends with one line, and both can continue."""

import os
import signal
import time

import pytest

SHARDED = ("--sharded", "--zero-stage", "2", "--micro-batch-size", "2", "--recompute")
SOON = 60.0
"""Seconds within which the surviving process must have ended."""


def both_end(processes):
    for process in processes:
        assert process.end() == 0, process.output()


@pytest.fixture
def ends_alike(two, begin, go_on, undisturbed, tmp_path):
    """Check that two processes which resume a run end like two that nothing disturbed.

    They differ from one process by rounding, since sums are added in another order.
    """

    def check(run, *flags):
        both_end(two(go_on(run) if (run / "run.json").exists() else begin("span", run, *flags)))
        both_end(two(begin("span", tmp_path / "undisturbed", *flags)))
        return undisturbed(tmp_path / "undisturbed").is_equal_to(run)

    return check


@pytest.mark.faults
@pytest.mark.parametrize("gone", [0, 1], ids=["the first, which writes", "the second"])
@pytest.mark.parametrize(
    ("phase", "flags"),
    [
        ("training", ()),
        ("evaluating", ()),
        ("checkpointing", ()),
        ("training", SHARDED),
        ("checkpointing", SHARDED),
        ("checkpointing", (*SHARDED, "--async-checkpoints")),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value) or "replicated",
)
def test_the_survivor_ends_with_one_line_and_both_continue(two, begin, ends_alike, tmp_path, tally, gone, phase, flags):
    run = tmp_path / "run"
    with tally.trying(f"one of two {'sharded ' if flags else ''}processes killed"):
        processes = two(begin("span", run, *flags))
        assert processes[0].await_phase(phase, nth=2)
        processes[gone].kill()
        begun, left = time.monotonic(), processes[1 - gone]
        assert left.end(SOON) == 1
        assert time.monotonic() - begun < SOON
        message = left.output().strip().splitlines()[-1]
        assert message.startswith("clozelab: another process of this run died, refused its input"), message
        assert "the last checkpoint is kept: continue by --resume" in message
        assert ends_alike(run, *flags)


@pytest.mark.faults
def test_under_torchrun_as_well(child, begin, ends_alike, tmp_path, tally):
    run = tmp_path / "run"
    with tally.trying("one of two processes killed"):
        running = child(begin("span", run), torchrun=2)
        assert running.await_phase("checkpointing", nth=2)
        os.kill(running.pid(rank=1), signal.SIGKILL)
        assert running.end(SOON) != 0
        assert ends_alike(run)


@pytest.mark.faults
def test_torchrun_that_is_asked_to_stop_has_both_save(child, begin, ends_alike, tmp_path, tally):
    """torchrun forwards the signal to processes that a scheduler has signalled already."""
    run = tmp_path / "run"
    with tally.trying("SIGTERM to torchrun and both processes"):
        running = child(begin("span", run), torchrun=2)
        assert running.await_phase("checkpointing")
        for rank in range(2):
            os.kill(running.pid(rank), signal.SIGTERM)
        running.send(signal.SIGTERM)
        running.end(10)
        assert "stopped after step" in running.output()
        assert ends_alike(run)
