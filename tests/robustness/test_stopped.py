"""Asked to stop, as a scheduler asks: SIGTERM, and ten seconds until it kills."""

import signal
import time

import pytest

from clozelab.training import latest_checkpoint, read_metrics

GRACE = 10.0
"""Seconds that a scheduler waits before it kills."""


def stop(running, number) -> float:
    """Seconds that it took to stop; fails where a scheduler would have killed it."""
    asked = time.monotonic()
    running.send(number)
    running.end(GRACE)
    return time.monotonic() - asked


@pytest.mark.faults
@pytest.mark.parametrize(
    ("number", "objective"),
    [
        (signal.SIGTERM, "causal"),
        (signal.SIGTERM, "masked"),
        (signal.SIGTERM, "span"),
        (signal.SIGINT, "masked"),
    ],
)
def test_a_run_that_is_asked_to_stop_saves_and_continues_to_the_same_weights(
    child, begin, go_on, whole, tmp_path, tally, number, objective
):
    run = tmp_path / "run"
    with tally.trying(f"{number.name} while training"):
        running = child(begin(objective, run))
        assert running.await_phase("training", nth=2)
        time.sleep(0.05)
        stop(running, number)
        assert running.code == 130, running.output()
        stopped = latest_checkpoint(run).step
        message = f"stopped after step {stopped}, all saved; continue: clozelab train --run {run} --resume"
        assert message in running.output()
        assert max(line["step"] for line in read_metrics(run / "metrics.jsonl")) == stopped  # no step was lost
        assert 0 < stopped < 80
        rest = child(go_on(run))
        assert rest.end() == 0, rest.output()
        assert whole(objective).is_equal_to(run)


@pytest.mark.faults
@pytest.mark.parametrize("nth", [1, 2], ids=["before the first step", "along the way"])
@pytest.mark.parametrize("times", [1, 3], ids=["", "thrice"])
def test_an_evaluation_longer_than_the_grace_is_interrupted_and_made_later(
    child, begin, go_on, whole, tmp_path, tally, nth, times
):
    """Its 32 batches take a second each. SIGTERM may come thrice: from the scheduler, the shell, torchrun."""
    run = tmp_path / "run"
    with tally.trying("SIGTERM while evaluating, which lasts 30 s"):
        if nth == 2:  # a run that has got as far as the evaluation after step 10
            running = child(begin("masked", run))
            assert running.await_phase("checkpointing", nth=2)
            running.kill()
        running = child(go_on(run) if nth == 2 else begin("masked", run), "--slow-evaluation")
        assert running.await_phase("evaluating")
        time.sleep(1.5)
        for _ in range(times - 1):
            running.send(signal.SIGTERM)
            time.sleep(0.05)
        assert stop(running, signal.SIGTERM) < GRACE
        assert running.code == 130, running.output()
        assert "all saved" in running.output()
        rest = child(go_on(run))
        assert rest.end() == 0, rest.output()
        assert whole("masked").is_equal_to(run)


@pytest.mark.faults
@pytest.mark.parametrize("phase", ["starting", "tokenising", "packing"])
def test_what_comes_before_training_stops_at_once_and_is_begun_again(child, begin, whole, tmp_path, tally, phase):
    """One call of the tokenizer lasts for seconds, in which Python handles no signal."""
    book = tmp_path / "book.txt"
    book.write_text(" ".join(f"{n * n} {n:x}" for n in range(400_000)), encoding="utf-8")
    run = tmp_path / "run"
    with tally.trying(f"SIGTERM while {phase}"):
        running = child(begin("causal", run, text=book))
        assert running.await_phase(phase)
        time.sleep(0.3)
        assert stop(running, signal.SIGTERM) < 1
        assert running.code == -signal.SIGTERM, running.output()
        assert not run.exists()
        again = child(begin("causal", run))
        assert again.end() == 0, again.output()
        assert whole("causal").is_equal_to(run)
