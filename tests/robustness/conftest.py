"""Fixtures of the robustness tests: a small run in a process that can be stopped, and the record of the outcomes.

    pytest tests/robustness -m faults --record docs/faults.json

runs all of them and records what was tried, survived and lost; the table of docs/faults.md is made from that. When a
single file is run so, only its faults are counted again.
"""

import json
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from clozelab.data import packing
from clozelab.models import presets
from clozelab.training import read_metrics

sys.path.insert(0, str(Path(__file__).parent))
import one_run  # where the processes find it too

FORKSERVER = multiprocessing.get_context("forkserver")
"""Forks processes from one that has done the imports, which take longer than these runs."""
FORKSERVER.set_forkserver_preload(["one_run", "one_rank", "torch._dynamo", "pytest"])
STEPS = 80
WORDS = ["the", "cat", "dog", "house", "tree", "river", "night", "sees", "hears", "finds", "loses", "under", "near"]


@pytest.fixture(scope="session")
def forkserver():
    """Starts processes that have done the imports."""
    return FORKSERVER


# ------------------------------------------------------------------ the record


def pytest_addoption(parser):
    parser.addoption("--record", metavar="FILE", help="write what was tried, survived and lost as JSON")


@dataclass
class Tally:
    """How often each fault was tried, and how often nothing was lost."""

    faults: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, fault: str, survived: bool) -> None:
        """Count one more of a fault."""
        counts = self.faults.setdefault(fault, {"tried": 0, "survived": 0, "lost": 0})
        counts["tried"] += 1
        counts["survived" if survived else "lost"] += 1

    @contextmanager
    def trying(self, fault: str):
        """Count one more of a fault, survived if every assertion inside holds."""
        try:
            yield
        except BaseException:
            self.add(fault, survived=False)
            raise
        self.add(fault, survived=True)


def table(record: dict) -> str:
    """The record as it stands in docs/faults.md."""
    rows = [
        f"| {fault} | {counts['tried']} | {counts['survived']} | {counts['lost']} |"
        for fault, counts in record["faults"].items()
    ]
    return "\n".join(["| fault | tried | survived | lost |", "|---|---|---|---|", *rows])


@pytest.fixture(scope="session")
def tally(request) -> Tally:
    return request.config.stash.setdefault(TALLY, Tally())


@pytest.fixture
def table_of():
    return table


TALLY = pytest.StashKey[Tally]()


def pytest_sessionfinish(session):
    path, tally = session.config.getoption("--record", None), session.config.stash.get(TALLY, None)
    if path and tally:
        old = json.loads(Path(path).read_text(encoding="utf-8"))["faults"] if Path(path).exists() else {}
        faults = {**old, **tally.faults}
        record = {
            "faults": dict(sorted(faults.items(), key=lambda item: item[0].casefold())),
            "torch": torch.__version__,
        }
        Path(path).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print("\n" + table(record))


# ------------------------------------------------------------------ a run that can be stopped


@pytest.fixture(scope="session")
def corpus(tmp_path_factory) -> Path:
    """A folder of small texts, enough that to tokenise and to pack them takes a moment."""
    folder, words = tmp_path_factory.mktemp("corpus"), random.Random(0)
    for n in range(80):
        sentences = (" ".join(words.choices(WORDS, k=words.randint(4, 12))) for _ in range(80))
        text = ". ".join(f"{sentence} {words.randrange(10_000)}" for sentence in sentences)
        (folder / f"{n:03d}.txt").write_text(f"{text}.\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def begin(corpus):
    """The words of a command that begins a run: `begin("causal", run)`, and more flags."""

    def words(objective, run, *more, text=corpus):
        flags = {
            "--objective": objective,
            "--corpus": text,
            "--run": run,
            "--vocab-size": 500,
            "--length": 24,
            "--batch-size": 8,
            "--steps": STEPS,
            "--eval-every": 10,
            "--checkpoint-every": 5,
            "--sample-every": 20,
            "--precision": "float32",
        }
        assert not flags.keys() & set(more), "a flag given twice: several corpora would be a mixture"
        return ["train", *(str(word) for pair in flags.items() for word in pair), *map(str, more)]

    return words


@pytest.fixture(scope="session")
def go_on():
    """The words of a command that resumes a run."""
    return lambda run: ["train", "--run", str(run), "--resume"]


class Child:
    """A process that runs `clozelab` and logs what it does; under torchrun, a process and those it starts.

    One from the fork server starts others from there as well; with `alone` it starts as a command does, with its own.
    """

    def __init__(self, folder: Path, words, *flags, torchrun: int = 0, alone: bool = False, **variables) -> None:
        self.log, self.rank = folder / f"log-{time.monotonic_ns()}", int(variables.get("RANK", 0))
        self.printed = Path(f"{self.log}.out")
        variables.setdefault("CLOZELAB_CACHE", str(folder / "cache"))
        words = [str(self.log), *flags, *words]
        if torchrun or alone:
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(torchrun), "--"]
            launcher = launcher if torchrun else []
            with open(self.printed, "w", encoding="utf-8") as printed:
                self.process = subprocess.Popen(
                    [sys.executable, *launcher, one_run.__file__, *words],
                    env={**os.environ, **variables, "OMP_NUM_THREADS": "1"},
                    stdout=printed,
                    stderr=subprocess.STDOUT,
                )
        else:
            self.process = FORKSERVER.Process(target=one_run.run, args=(words, variables, str(self.printed)))
            self.process.start()

    @property
    def code(self) -> int | None:
        """The exit code: minus the signal of a process that was killed, None while it runs."""
        return self.process.poll() if isinstance(self.process, subprocess.Popen) else self.process.exitcode

    def phases(self, rank: int | None = None) -> list[tuple[float, str]]:
        """(moment, phase) of each that began so far."""
        return [(float(moment), phase) for moment, _, phase in self._lines(rank)]

    def pid(self, rank: int) -> int:
        """The process id of one that torchrun started."""
        return int(self._lines(rank)[0][1])

    def _lines(self, rank: int | None) -> list[list[str]]:
        log = Path(f"{self.log}.{self.rank if rank is None else rank}")
        return [line.split() for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []

    def await_phase(self, phase: str, nth: int = 1, seconds: float = 120) -> bool:
        """Wait for a phase to begin for the nth time; whether it did before the process ended."""
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            if sum(name == phase for _, name in self.phases()) >= nth:
                return True
            if self.code is not None:
                return False
            time.sleep(0.001)
        raise TimeoutError(f"{phase} did not begin within {seconds} s: {self.output()}")

    def send(self, number: int) -> None:
        """Send a signal, where the process still runs."""
        if self.code is None:
            os.kill(self.process.pid, number)

    def end(self, seconds: float = 120) -> int:
        """Wait for the end and return the exit code; a process that has not ended by then is killed."""
        begun = time.monotonic()
        while self.code is None and time.monotonic() - begun < seconds:
            time.sleep(0.002)
        if self.code is None:
            self.kill()
            raise TimeoutError(f"it did not end within {seconds} s: {self.output()}")
        return self.code

    def kill(self) -> None:
        """Send SIGKILL, which cannot be caught."""
        self.send(signal.SIGKILL)
        while self.code is None:
            time.sleep(0.002)

    def output(self) -> str:
        """What it has printed."""
        return self.printed.read_text(encoding="utf-8")


@pytest.fixture
def child(tmp_path):
    """`child(words)` starts one; none outlives its test."""
    children = []

    def start(words, *flags, **settings):
        children.append(Child(tmp_path, words, *flags, **settings))
        return children[-1]

    yield start
    for one in children:
        one.kill()


@pytest.fixture
def two(child):
    """`two(words)` starts two processes of one run, each by itself."""

    def start(words):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        return [child(words, RANK=str(rank), LOCAL_RANK=str(rank), **common) for rank in range(2)]

    return start


def final_weights(run: Path) -> bytes:
    """The file of weights after the last step."""
    return (run / "checkpoints" / f"step-{STEPS:08d}" / "model.safetensors").read_bytes()


def measured(run: Path) -> list[dict]:
    """The metrics without their times."""
    return [{k: v for k, v in line.items() if k != "seconds"} for line in read_metrics(run / "metrics.jsonl")]


@dataclass(frozen=True)
class Whole:
    """A run that nothing disturbed."""

    run: Path
    took: dict[str, list[float]] = field(default_factory=dict)
    """Seconds of each phase, each time that it ran."""

    def is_equal_to(self, run: Path) -> bool:
        """Whether weights and metrics are equal, bit for bit."""
        return final_weights(self.run) == final_weights(run) and measured(self.run) == measured(run)


@pytest.fixture(scope="session")
def undisturbed():
    """A run to compare others with."""
    return Whole


@pytest.fixture(scope="session")
def whole(begin, tmp_path_factory):
    """`whole(objective)`: the run to compare the others with."""
    made = {}

    def of(objective) -> Whole:
        if objective not in made:
            folder = tmp_path_factory.mktemp(f"whole-{objective}")
            undisturbed = Child(folder, begin(objective, folder / "run"))
            assert undisturbed.end() == 0, undisturbed.output()
            took: dict[str, list[float]] = {}
            for (begun, phase), (ended, _) in pairwise(undisturbed.phases()):
                took.setdefault(phase, []).append(ended - begun)
            made[objective] = Whole(folder / "run", took)
        return made[objective]

    return of


# ------------------------------------------------------------------ the same in this process


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The small models and the cache of a child, in this process."""
    for sizes in presets.PRESETS.values():
        monkeypatch.setitem(sizes, "tiny", {"d_model": 32, "n_layers": 1, "n_heads": 2})
    monkeypatch.setitem(presets.PRESETS["encoder-decoder"]["tiny"], "n_decoder_layers", 1)
    monkeypatch.setattr(packing, "BATCH", 8)
    monkeypatch.setenv("CLOZELAB_CACHE", str(tmp_path / "cache"))
