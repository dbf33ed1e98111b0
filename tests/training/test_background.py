"""Checkpoints that are written while the run goes on: the same files, and no error that is lost."""

import errno
import json
import logging
import threading
from dataclasses import replace

import pytest

from clozelab.errors import NotFinite
from clozelab.objectives import CausalLM
from clozelab.training import checkpoint, latest_checkpoint, loop, read_checkpoint
from clozelab.training.report import Report

SECONDS = 30


@pytest.fixture
def run_of(small_run):
    """`run_of(folder)` trains for 12 steps, with checkpoints at steps 4, 8 and 12."""

    def run(folder, *, in_background=True, **changes):
        config = replace(small_run.config, async_checkpoints=in_background, eval_every=0, **changes)
        return small_run(CausalLM(), config, run=folder)[1]

    return run


def content(path):
    """The tensors of a checkpoint as bytes, and its state without what differs between two runs."""
    state = json.loads((path / "state.json").read_text())
    return {name: (path / name).read_bytes() for name in state["sha256"]}, {
        key: value for key, value in state.items() if key not in ("seconds", "sha256_of_this", "identity")
    }


def hidden(run):
    return [path.name for path in run.rglob("*") if path.name.startswith(".")]


@pytest.fixture
def writing(monkeypatch):
    """`writing(before)` calls `before(step)` in the thread that writes, before it does."""
    real = checkpoint.write_checkpoint

    def patch(before):
        def write(run, step, *rest):
            before(step)
            real(run, step, *rest)

        monkeypatch.setattr(checkpoint, "write_checkpoint", write)

    return patch


@pytest.fixture
def after_step(monkeypatch):
    """`after_step(n)` is an event that is set once the run has reported step n."""
    events = {}
    real = Report.step

    def step(self, number, *rest, **settings):
        real(self, number, *rest, **settings)
        if number in events:
            events[number].set()

    monkeypatch.setattr(Report, "step", step)
    return lambda number: events.setdefault(number, threading.Event())


def test_a_run_goes_on_while_the_weights_that_it_had_are_written(run_of, writing, after_step, tmp_path):
    """The checkpoint of step 4 is begun to be written after step 6, and equals the one that was written at once."""
    run_of(tmp_path / "at once", in_background=False, checkpoint_every=4)
    two_more, threads = after_step(6), set()

    def wait(step):
        threads.add(threading.current_thread())
        assert step != 4 or two_more.wait(SECONDS)

    writing(wait)
    assert run_of(tmp_path / "run", checkpoint_every=4).finished
    assert threading.main_thread() not in threads
    first, second = (sorted((tmp_path / name / "checkpoints").glob("*")) for name in ("at once", "run"))
    assert [path.name for path in first] == [path.name for path in second] == ["step-00000008", "step-00000012"]
    for one, other in zip(first, second):
        (files, state), (others, its) = content(one), content(other)
        assert {name for name in files if files[name] != others[name]} == set()
        assert state == its
    assert read_checkpoint(second[-1]).step == 12  # seal and sums are right
    assert not hidden(tmp_path)


def test_without_copies_later_steps_would_be_found_in_an_earlier_checkpoint(
    run_of, writing, after_step, tmp_path, monkeypatch
):
    """What the test above would look like were nothing staged."""
    run_of(tmp_path / "at once", in_background=False, checkpoint_every=8)
    later = after_step(10)
    writing(lambda step: step != 8 or later.wait(SECONDS))
    monkeypatch.setattr("clozelab.training.run_folder.stage_on_host", lambda: dict)
    run_of(tmp_path / "run", checkpoint_every=8)
    first, second = (tmp_path / name / "checkpoints" / "step-00000008" for name in ("at once", "run"))
    assert content(first)[0] != content(second)[0]


def test_the_next_checkpoint_waits_for_the_one_before_it(run_of, writing, tmp_path):
    inside, most = [], []

    def count(step):
        inside.append(step)
        most.append(len(inside))
        inside.pop()

    writing(count)
    run_of(tmp_path / "run", checkpoint_every=1)
    assert most == [1] * 12
    assert latest_checkpoint(tmp_path / "run").step == 12


def full(*steps):
    """Raises the error of a full disk at some steps."""

    def before(step):
        if step in steps:
            raise OSError(errno.ENOSPC, "No space left on device", f"step {step}")

    return before


@pytest.mark.parametrize(("bad", "reported"), [(8, range(8, 12)), (12, (12,))], ids=["on the way", "at the end"])
def test_a_full_disk_is_raised_at_a_later_step_or_at_the_end(run_of, writing, tmp_path, monkeypatch, bad, reported):
    steps = []
    real = Report.step
    monkeypatch.setattr(Report, "step", lambda self, step, *a, **k: steps.append(step) or real(self, step, *a, **k))
    writing(full(bad))
    with pytest.raises(OSError, match="No space left on device"):
        run_of(tmp_path / "run", checkpoint_every=4)
    assert steps[-1] in reported
    assert latest_checkpoint(tmp_path / "run").step == bad - 4
    assert not hidden(tmp_path)


def test_a_failed_checkpoint_is_logged_where_another_error_ends_the_run(run_of, writing, tmp_path, monkeypatch, caplog):
    """In the evaluation at the end, which does not wait for the checkpoint of the last step."""
    ended = threading.Event()

    def evaluate(self, step):
        if step == 12:
            ended.set()
            raise NotFinite("the held-out loss is nan")
        return True

    def before(step):
        if step == 12:
            assert ended.wait(SECONDS)
            full(12)(step)

    writing(before)
    monkeypatch.setattr(loop.Evaluator, "at", evaluate)
    with pytest.raises(NotFinite, match="the held-out loss is nan"), caplog.at_level(logging.WARNING):
        run_of(tmp_path / "run", checkpoint_every=6)
    assert "the checkpoint of step 12 was not written: [Errno 28] No space left on device" in caplog.text
    assert latest_checkpoint(tmp_path / "run").step == 6


def test_a_loss_that_is_not_finite_names_the_checkpoint_that_was_still_being_written(
    run_of, writing, tmp_path, monkeypatch
):
    real, begun = loop.train_step, threading.Event()

    def step(*arguments, **settings):
        result = real(*arguments, **settings)
        return result._replace(grad_norm=float("nan")) if begun.is_set() else result

    def slowly(_):
        begun.set()
        threading.Event().wait(0.2)

    writing(slowly)
    monkeypatch.setattr(loop, "train_step", step)
    with pytest.raises(NotFinite, match="; the checkpoint of step 4 is kept"):
        run_of(tmp_path / "run", checkpoint_every=4)
