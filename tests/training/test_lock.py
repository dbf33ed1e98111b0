"""One run writes to a folder at a time; the lock of a process that died is nobody's."""

import multiprocessing
import os
import signal

import pytest
from filelock import FileLock

from clozelab.errors import InputError
from clozelab.objectives import CausalLM, MaskedLM
from clozelab.training import loop, read_metrics, read_run
from clozelab.training.run_folder import RunFolder


def hold(path, held, free):
    """Hold the lock of a run folder in a process of its own."""
    with FileLock(path):
        path.write_text("process 4711 on another machine")
        held.set()
        free.wait(60)


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of `run`; set the event to have it let go."""
    (tmp_path / "run").mkdir(exist_ok=True)
    fork = multiprocessing.get_context("fork")
    held, free = fork.Event(), fork.Event()
    process = fork.Process(target=hold, args=(tmp_path / "run" / "run.lock", held, free))
    process.start()
    assert held.wait(60)
    yield process
    process.kill()
    process.join()


def test_a_run_that_begins_while_another_one_writes_is_refused_and_changes_nothing(small_run, holder, tmp_path):
    with pytest.raises(
        InputError, match=r"another run writes to .*run \(process 4711 on another machine\): wait until"
    ):
        small_run(MaskedLM(), run=tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.lock"]


def test_a_lock_of_a_process_that_was_killed_is_taken_over(small_run, holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    small_run(MaskedLM(), run=tmp_path / "run")
    assert (tmp_path / "run" / "run.lock").read_text().startswith(f"process {os.getpid()} on ")


def test_a_run_is_not_resumed_while_it_runs_and_is_afterwards(small_run, tmp_path, monkeypatch):
    """Here in the middle of its own first step."""
    run, refused, real = tmp_path / "run", [], loop.train_step

    def resuming(*arguments, **settings):
        if not refused:
            with pytest.raises(InputError, match=r"another run writes to") as caught:
                small_run(MaskedLM(), run=run, resume=True)
            refused.append(caught.value)
        return real(*arguments, **settings)

    monkeypatch.setattr(loop, "train_step", resuming)
    small_run(MaskedLM(), run=run)
    assert len(refused) == 1
    steps = [line["step"] for line in read_metrics(run / "metrics.jsonl") if "loss" in line]
    assert steps == sorted(set(steps))
    small_run(MaskedLM(), run=run, resume=True)


def test_of_two_runs_that_begin_at_once_one_is_refused_and_the_other_is_whole(small_run, tmp_path, monkeypatch):
    """Both find an empty folder: what is looked at before the lock is looked at again behind it."""
    real, met = RunFolder._refuse_strangers, []

    def slow(self, path, tokenizer):
        real(self, path, tokenizer)
        if not met:
            met.append(path)
            small_run(CausalLM(), run=path)  # the other one begins and ends here

    monkeypatch.setattr(RunFolder, "_refuse_strangers", slow)
    with pytest.raises(InputError, match="already holds a run"):
        small_run(MaskedLM(), run=tmp_path / "run")
    assert read_run(tmp_path / "run")["objective"] == "causal"


def test_the_lock_is_let_go_when_a_run_fails(small_run, tmp_path, monkeypatch):
    def failing(*_, **__):
        raise RuntimeError("a bug of somebody's")

    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", failing)
        with pytest.raises(RuntimeError, match="a bug"):
            small_run(MaskedLM(), run=tmp_path / "run")
    small_run(MaskedLM(), run=tmp_path / "run", resume=True)
