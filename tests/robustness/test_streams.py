"""Text larger than memory: a streamed run or a packing is killed, or one of its workers is, and continues."""

import json
import random
import signal
import time
from contextlib import suppress

import psutil
import pytest

from clozelab.data import open_shards

GONE = 20.0
"""Seconds after which a worker whose process was killed must be gone as well."""


@pytest.fixture(scope="module")
def tables(corpus, tmp_path_factory):
    """The small texts as rows, of four files."""
    folder = tmp_path_factory.mktemp("tables")
    for number in range(4):
        with open(folder / f"{number}.jsonl", "w", encoding="utf-8") as file:
            for path in sorted(corpus.iterdir())[number::4]:
                for line in path.read_text(encoding="utf-8").split(". "):
                    file.write(json.dumps({"text": line}) + "\n")
    return folder


@pytest.fixture
def whole_stream(child, begin, tables, undisturbed, tmp_path):
    """A streamed run that nothing disturbed, without workers."""
    alone = child(begin("span", tmp_path / "whole", "--stream", text=tables))
    assert alone.end() == 0, alone.output()
    return undisturbed(tmp_path / "whole")


def workers_of(process):
    """Those that read, once there are two of them."""
    until = time.monotonic() + 60
    while time.monotonic() < until and process.code is None:
        with suppress(psutil.NoSuchProcess):
            found = psutil.Process(process.process.pid).children()
            if len(found) >= 2:
                return found
        time.sleep(0.01)
    raise TimeoutError(f"no two workers within a minute, or before the end: {process.output()}")


def kill_within(seconds, victim, fault, moment, tally):
    """Kill a process that has workers, at a moment within so many seconds; where it has ended before nothing counts."""
    time.sleep(moment.uniform(0, seconds))
    workers = psutil.Process(victim.process.pid).children() if victim.code is None else []
    victim.kill()
    if victim.code == -signal.SIGKILL:
        with tally.trying(fault):
            _, alive = psutil.wait_procs(workers, timeout=GONE)
            assert not alive


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(3))
def test_a_streamed_run_killed_thrice_ends_with_the_same_bytes(
    child, begin, go_on, tables, whole_stream, tmp_path, tally, seed
):
    """And leaves no worker behind."""
    moment, run = random.Random(seed), tmp_path / "run"
    words = begin("span", run, "--stream", "--workers", 2, text=tables)
    for _ in range(3):
        victim = child(words, alone=True)
        assert victim.await_phase("training")
        kill_within(1, victim, "SIGKILL while streaming, with two workers", moment, tally)
        if (run / "run.json").exists():
            words = [*go_on(run), "--workers", "2"]
    with tally.trying("a streamed run goes on after SIGKILL"):
        last = child(words, alone=True)
        assert last.end() == 0, last.output()
        assert whole_stream.is_equal_to(run)


@pytest.mark.faults
@pytest.mark.parametrize("which", [0, 1])
def test_a_run_whose_worker_is_killed_says_so_and_goes_on(
    child, begin, go_on, tables, whole_stream, tmp_path, tally, which
):
    run = tmp_path / "run"
    with tally.trying("a worker of a stream killed"):
        victim = child(begin("span", run, "--stream", "--workers", 2, text=tables), alone=True)
        assert victim.await_phase("checkpointing", nth=2)
        workers_of(victim)[which].send_signal(signal.SIGKILL)
        assert victim.end() == 2
        message = victim.output().strip().splitlines()[-1]
        assert message.startswith("clozelab: a worker that reads tables")
        assert "--resume" in message
        assert "Traceback" not in victim.output()
        last = child(go_on(run))
        assert last.end() == 0, last.output()
        assert whole_stream.is_equal_to(run)


@pytest.mark.faults
def test_sigterm_to_a_streamed_run_and_its_workers_saves_the_step(
    child, begin, go_on, tables, whole_stream, tmp_path, tally
):
    run = tmp_path / "run"
    with tally.trying("SIGTERM to a streamed run and its workers"):
        victim = child(begin("span", run, "--stream", "--workers", 2, text=tables), alone=True)
        assert victim.await_phase("checkpointing", nth=2)
        for process in (psutil.Process(victim.process.pid), *workers_of(victim)):
            process.terminate()
        assert victim.end() == 130, victim.output()
        assert "all saved; continue: clozelab train" in victim.output()
        last = child(go_on(run))
        assert last.end() == 0, last.output()
        assert whole_stream.is_equal_to(run)


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(3))
def test_packing_killed_at_any_moment_goes_on_and_makes_the_same_shards(child, tables, tmp_path, tally, seed):
    moment = random.Random(seed)

    def words(folder):
        return ["pack", "--corpus", tables, "--out", folder, "--vocab-size", 500, "--workers", 2]

    alone = child(map(str, words(tmp_path / "whole")))
    assert alone.end() == 0, alone.output()
    expected = [part.tokens.tolist() for part in open_shards(tmp_path / "whole")[1].parts]
    for _ in range(3):
        victim = child(map(str, words(tmp_path / "packed")), alone=True)
        assert victim.await_phase("packing")
        kill_within(0.3, victim, "SIGKILL while packing shards, with two workers", moment, tally)
    with tally.trying("packing of shards goes on after SIGKILL"):
        last = child(map(str, words(tmp_path / "packed")))
        assert last.end() == 0, last.output()
        assert [part.tokens.tolist() for part in open_shards(tmp_path / "packed")[1].parts] == expected
        assert not list((tmp_path / "packed").glob(".*"))


@pytest.mark.faults
def test_packing_whose_worker_is_killed_says_so_and_goes_on(child, tables, tmp_path, tally):
    words = [
        "pack",
        "--corpus",
        str(tables),
        "--out",
        str(tmp_path / "packed"),
        "--vocab-size",
        "500",
        "--workers",
        "2",
    ]
    with tally.trying("a worker that packs shards killed"):
        victim = child(words, alone=True)
        assert victim.await_phase("packing")
        workers_of(victim)[0].kill()
        assert victim.end() == 2, victim.output()
        message = victim.output().strip().splitlines()[-1]
        assert message.startswith("clozelab: a worker that tokenises died")
        last = child(words, alone=True)
        assert last.end() == 0, last.output()
