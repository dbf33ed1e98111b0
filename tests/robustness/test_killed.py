"""Killed at any moment, by a signal that nobody can catch: a rerun ends with the same weights, bit for bit."""

import random
import signal
import time

import pytest

from clozelab.training import latest_checkpoint

NAMES = ("causal", "masked", "span")
PREPARING, TRAINING = ("tokenising", "packing"), ("training", "evaluating", "checkpointing")


def kill_in(phase, child, words, whole, moment):
    """The phase that it died in, most often the one that was asked for; None where it was too late."""
    victim = child(words())
    if not victim.await_phase(phase, nth=1 if phase in PREPARING else moment.randint(1, 3)):
        return None
    lasts = whole.took[phase]
    time.sleep(moment.uniform(0, sorted(lasts)[len(lasts) // 2]))
    victim.kill()
    return victim.phases()[-1][1] if victim.code == -signal.SIGKILL else None


def ends_alike_though_killed(phases, objective, child, begin, go_on, whole, run, moment, tally=None, flags=()):
    """Kill a run in each of the phases, one life after another; the last life ends as an undisturbed run."""
    whole, met = whole(objective), []

    def words():
        return go_on(run) if (run / "run.json").exists() else begin(objective, run, *flags)

    for phase in phases:
        before = latest_checkpoint(run).step if any(run.glob("checkpoints/step-*")) else 0
        died = next(filter(None, (kill_in(phase, child, words, whole, moment) for _ in range(3))))
        met.append(died)
        after = latest_checkpoint(run).step if any(run.glob("checkpoints/step-*")) else 0
        assert after >= before  # and is whole, or it would have been refused
    last = child(words())
    assert last.end() == 0, last.output()
    equal = whole.is_equal_to(run)
    if tally is not None:
        for phase in met:
            tally.add(f"SIGKILL while {phase}{' with --async-checkpoints' if flags else ''}", survived=equal)
    assert equal
    assert not [path for path in run.rglob("*") if path.name.startswith(".")]  # nothing half written is left
    assert not list((run.parent / "cache").glob(".*"))
    return met


def test_a_run_killed_while_it_trains_and_while_it_saves_ends_with_the_same_bytes(child, begin, go_on, whole, tmp_path):
    phases = ("checkpointing", "training")
    ends_alike_though_killed(phases, "masked", child, begin, go_on, whole, tmp_path / "run", random.Random(0))


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(10))
def test_a_run_killed_in_each_phase_ends_with_the_same_bytes(child, begin, go_on, whole, tmp_path, tally, seed):
    """Five moments in each of ten runs."""
    moment = random.Random(seed)
    phases = (*PREPARING, *moment.sample(TRAINING, len(TRAINING)))
    run = tmp_path / "run"
    ends_alike_though_killed(phases, NAMES[seed % 3], child, begin, go_on, whole, run, moment, tally)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(4))
def test_a_run_killed_while_it_trains_and_a_thread_saves_ends_with_the_same_bytes(
    child, begin, go_on, whole, tmp_path, tally, seed
):
    """What is half written lies beside the checkpoints, and is deleted by the next one."""
    moment, flags = random.Random(seed), ("--async-checkpoints",)
    arguments = (child, begin, go_on, whole, tmp_path / "run", moment, tally, flags)
    met = ends_alike_though_killed(("checkpointing",) * 3, NAMES[seed % 3], *arguments)
    assert set(met) <= {"checkpointing", "training", "evaluating", "written"}
