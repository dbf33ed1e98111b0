"""Two processes train together, and one of them is gone: the other ends too, says so, and both can go on."""

import os
import signal
import socket
import time

import pytest

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--")
SOON = 60.0
"""Seconds within which the one that is left must have ended; nothing but the other's silence tells it."""


def two(child, words):
    """Two processes of one run, each started by itself."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [child(words, RANK=str(rank), LOCAL_RANK=str(rank), **common) for rank in range(2)]


def both_end(processes):
    for process in processes:
        assert process.end() == 0, process.output()


@pytest.fixture(scope="module")
def undisturbed(whole):
    """What two processes come to: not the bits of one, since sums are added up in another order."""
    return whole("span", launcher=TORCHRUN)


@pytest.mark.faults
@pytest.mark.parametrize("gone", [0, 1], ids=["the first, which writes", "the second"])
@pytest.mark.parametrize("phase", ["training", "evaluating", "checkpointing"])
def test_the_other_ends_says_so_and_both_go_on(child, begin, go_on, undisturbed, tmp_path, tally, gone, phase):
    run = tmp_path / "run"
    with tally.trying("one of two processes killed"):
        processes = two(child, begin("span", run))
        assert processes[0].await_phase(phase, nth=2)
        processes[gone].kill()
        begun, left = time.monotonic(), processes[1 - gone]
        assert left.end(SOON) == 1
        assert time.monotonic() - begun < SOON
        said = left.output().strip().splitlines()[-1]
        assert said.startswith("clozelab: another process of this run has gone"), said
        assert "what was saved is kept: go on by --resume" in said
        both_end(two(child, go_on(run) if (run / "run.json").exists() else begin("span", run)))
        assert undisturbed.is_equal_to(run)


@pytest.mark.faults
@pytest.mark.parametrize("gone", [0, 1], ids=["the first, which writes", "the second"])
def test_under_torchrun_as_well(child, begin, go_on, undisturbed, tmp_path, tally, gone):
    run = tmp_path / "run"
    with tally.trying("one of two processes killed"):
        running = child(begin("span", run), launcher=TORCHRUN)
        assert running.await_phase("checkpointing", nth=2)
        os.kill(running.pid(gone), signal.SIGKILL)
        assert running.end(SOON) != 0
        both_end([child(go_on(run), launcher=TORCHRUN)])
        assert undisturbed.is_equal_to(run)


@pytest.mark.faults
def test_torchrun_that_is_asked_to_stop_has_both_save(child, begin, go_on, undisturbed, tmp_path, tally):
    """torchrun hands the signal on to processes that a scheduler has told already."""
    run = tmp_path / "run"
    with tally.trying("SIGTERM to torchrun and both processes"):
        running = child(begin("span", run), launcher=TORCHRUN)
        assert running.await_phase("checkpointing", nth=1)
        for rank in range(2):
            os.kill(running.pid(rank), signal.SIGTERM)
        running.process.terminate()
        running.end(10)
        assert "stopped after step" in running.output()
        both_end([child(go_on(run), launcher=TORCHRUN)])
        assert undisturbed.is_equal_to(run)
