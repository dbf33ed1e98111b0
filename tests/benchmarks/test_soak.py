"""The soak runs, and what it makes of a run is what the run was."""

import json
import os
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="it needs /proc, which Linux has")


def looks(minutes, memory=lambda minute: 5e8, files=lambda minute: 6, speed=lambda minute: 600.0):
    """What is seen of a run once a minute: three without a step, then `speed` steps a minute, then one more look."""
    seen, step = [], 0.0
    for minute in range(minutes):
        step += speed(minute) if minute >= 3 else 0
        state = {"memory": memory(minute), "files": files(minute), "threads": 2, "processor": 60.0 * minute}
        seen.append({"minute": float(minute), **state, "step": int(step)})
    return [*seen, {**seen[-1], "minute": minutes + 1.0, "memory": 1.0}]


def compared(module, samples):
    """(the goals by name, the table) of a run."""
    soak, report = module("soak"), module("long_runs")
    parts = soak.windows(samples)
    seconds = {int(sample["step"]): 50 * sample["minute"] for sample in samples}
    record = {part: soak.figures(parts[part], 100, seconds) for part in ("beginning", "end")}
    return report.soak_goals(record), report.soak_table(record)


@pytest.mark.slow
def test_a_quick_run_is_watched_to_its_end(module, tmp_path, monkeypatch, capsys):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(f"The number {n} comes before {n + 1}." for n in range(200)))
    monkeypatch.setenv("CLOZELAB_CACHE", str(tmp_path / "cache"))
    words = ["--quick", "--corpus", str(corpus), "--run", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["soak.py", *words])
    record = module("soak").main()
    assert "memory, MB" in capsys.readouterr().out
    assert [record[kind] for kind in ("steps", "evaluations", "completions", "checkpoints")] == [100, 5, 3, 4]
    assert record["beginning"]["speed"] > 0
    assert 5e7 < record["beginning"]["memory"] < 5e9
    assert record["samples"]["step"] == sorted(record["samples"]["step"])
    assert (tmp_path / "run" / "soak.png").stat().st_size > 10_000
    (tmp_path / "soak.json").write_text(json.dumps(record, allow_nan=False))
    assert "## An hour of training" in module("report").page(tmp_path)


def test_a_run_that_stays_as_it_was_meets_its_goals(module):
    goals, table = compared(module, looks(60))
    assert all(goals.values())
    assert "60,000" not in table
    assert "| tokens a processor second, all work | 1,000 | 1,000 | +0.0% | met |" in table


@pytest.mark.parametrize(
    ("missed", "samples"),
    [
        ("memory", looks(60, memory=lambda minute: 5e8 + 1e6 * minute)),
        ("files", looks(60, files=lambda minute: 6 + minute // 20)),
        ("speed", looks(60, speed=lambda minute: 600 - 2 * minute)),
    ],
)
def test_what_grows_or_slows_down_is_seen(module, missed, samples):
    goals, _ = compared(module, samples)
    assert [name for name, met in goals.items() if not met] == [missed]


def test_start_up_and_the_end_of_the_process_are_in_no_window(module):
    """Memory that is only high before the first step and low after the last one says nothing."""
    samples = looks(60, memory=lambda minute: 9e9 if minute < 7 else 5e8)
    parts = module("soak").windows(samples)
    assert {sample["memory"] for part in ("beginning", "end") for sample in parts[part]} == {5e8}
    assert max(sample["memory"] for sample in parts["start-up"]) == 9e9


def test_too_few_looks_are_no_comparison(module):
    with pytest.raises(RuntimeError, match="too few"):
        module("soak").windows(looks(5))


def test_the_last_step_is_read_from_the_end_of_a_file_that_is_being_written(module, tmp_path):
    soak, metrics = module("soak"), tmp_path / "metrics.jsonl"
    assert soak.last_step(metrics) == 0
    metrics.write_text("".join(f'{{"step": {step}, "loss": 1.0}}\n' for step in range(1, 1000)) + '{"step": 1000, "lo')
    assert soak.last_step(metrics) == 999


def test_this_process_is_seen_and_one_that_has_ended_is_not(module, tmp_path):
    state = module("soak").state_of(os.getpid(), tmp_path / "none")
    assert state["files"] == pytest.approx(len(os.listdir("/proc/self/fd")), abs=1)
    assert state["processor"] == pytest.approx(sum(os.times()[:2]), abs=1)
    assert state["memory"] > 1e7
    assert module("soak").state_of(2**30, tmp_path / "none") is None


def test_a_training_that_fails_is_an_error_with_its_last_words(module, tmp_path):
    command = [sys.executable, "-c", "raise SystemExit('the disk is full')"]
    with pytest.raises(RuntimeError, match="the disk is full"):
        module("soak").watched(command, tmp_path / "run" / "metrics.jsonl", 0.05, dict(os.environ))
