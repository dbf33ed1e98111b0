"""A run on several processes is the run on one: the same examples, masks, mean and weights."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clozelab.errors import InputError
from clozelab.objectives import OBJECTIVES, Loss
from clozelab.training import Processes, init_processes, load_run, read_metrics

from .one_of_several import EVERY, FEW, runs

SCRIPT = Path(__file__).parent / "one_of_several.py"
NAMES = [objective.name for objective in EVERY]
FEW_NAMES = [objective.name for objective in FEW]
ROUNDING = 1e-8
"""What rounding of 1e-16 can become where AdamW divides a gradient of nothing but rounding by its eps of 1e-8."""


def launch(count, *arguments):
    """Run under torchrun; its output where it failed."""
    words = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(list(map(str, words)), env=environment, capture_output=True, text=True, timeout=240)


def train_on(count, folder, *flags):
    done = launch(count, SCRIPT, folder, *flags)
    assert done.returncode == 0, done.stderr[-3000:]


def losses(folder, name):
    return [line["loss"] for line in read_metrics(folder / name / "metrics.jsonl") if "loss" in line]


def weights(folder, name):
    return load_file(folder / name / "checkpoints" / "step-00000006" / "model.safetensors")


def forget_the_end(folder, names=NAMES):
    """Delete what a run that was killed after its checkpoint of step 3 would not have."""
    for name in names:
        shutil.rmtree(folder / name / "checkpoints" / "step-00000006")


def assert_same(folder, reference, within, names=NAMES):
    for name in names:
        mine, theirs = weights(folder, name), weights(reference, name)
        assert mine.keys() == theirs.keys()
        assert max(float((mine[key] - theirs[key]).abs().max()) for key in mine) < within, name
        assert losses(folder, name) == pytest.approx(losses(reference, name), abs=within), name


@pytest.fixture(scope="module")
def few_alone(tmp_path_factory):
    """The runs of one process, of one objective of each architecture and one of two parts."""
    folder = tmp_path_factory.mktemp("few_alone")
    runs(folder, Processes(), objectives=FEW)
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The runs of one process, of every objective."""
    folder = tmp_path_factory.mktemp("alone")
    runs(folder, Processes())
    return folder


@pytest.fixture(scope="module")
def by_two(tmp_path_factory):
    """The runs of two processes, replicated and sharded, which are started once for both."""
    folder = tmp_path_factory.mktemp("two")
    train_on(2, folder, "--replicated", "--sharded", "--few")
    return folder


def test_two_processes_make_the_run_of_one_and_one_goes_on_with_it(few_alone, by_two):
    """Of a few objectives; the slow tests below have them all."""
    folder = by_two / "replicated"
    assert_same(folder, few_alone, within=1e-12, names=FEW_NAMES)
    forget_the_end(folder, FEW_NAMES)
    runs(folder, Processes(), resume=True, objectives=FEW)
    assert_same(folder, few_alone, within=1e-12, names=FEW_NAMES)


def test_shards_make_the_run_of_one_and_any_number_goes_on_with_them(few_alone, by_two):
    folder, name = by_two / "sharded", next(name for name in FEW_NAMES if name in OBJECTIVES)
    assert_same(folder, few_alone, within=1e-12, names=FEW_NAMES)
    forget_the_end(folder, FEW_NAMES)
    with pytest.raises(InputError, match="in shards"):
        load_run(folder / name)
    train_on(1, folder, "--sharded", "--resume", "--few")
    assert_same(folder, few_alone, within=1e-12, names=FEW_NAMES)
    assert load_run(folder / name).step == 6


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--sharded"]], ids=["replicated", "sharded"])
def test_two_processes_make_the_run_of_one_for_every_objective(alone, tmp_path, flags):
    train_on(2, tmp_path, *flags)
    assert_same(tmp_path, alone, within=1e-12)
    forget_the_end(tmp_path)
    train_on(1, tmp_path, "--resume", *flags)
    assert_same(tmp_path, alone, within=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [[], ["--sharded"]], ids=["replicated", "sharded"])
def test_four_processes_with_uneven_shares_make_the_run_of_one(alone, tmp_path, flags):
    train_on(4, tmp_path, *flags)
    assert_same(tmp_path, alone, within=ROUNDING)
    forget_the_end(tmp_path)
    train_on(3, tmp_path, "--resume", *flags)
    assert_same(tmp_path, alone, within=ROUNDING)


@pytest.mark.slow
def test_muon_in_shards_makes_the_run_of_one(tmp_path):
    """A cut matrix is gathered before its step is made orthogonal."""
    runs(tmp_path / "alone", Processes(), optimizer="muon")
    train_on(2, tmp_path / "two", "--muon")
    assert_same(tmp_path / "two", tmp_path / "alone", within=1e-12)
    train_on(2, tmp_path / "shards", "--muon", "--sharded")
    assert_same(tmp_path / "shards", tmp_path / "alone", within=1e-10)


def test_the_command_line_runs_under_torchrun_and_a_bad_flag_is_no_traceback(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOZELAB_CACHE", str(tmp_path / "cache"))
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(80)))
    flags = ["--corpus", corpus, "--vocab-size", 400, "--length", 24, "--steps", 4, "--batch-size", 5]
    # Without the `--` torchrun takes our --run for an abbreviation of two flags of its own.
    words = ["-m", "--", "clozelab", "train", *flags, "--precision", "float32", "--run", tmp_path / "run"]
    done = launch(2, *words, "--sample-every", 2)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("causal: held-out loss") == 1  # one of them prints
    assert [line["step"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in line] == [1, 2, 3, 4]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["train"]["batch_size"] == 5
    again = launch(1, *words)  # the folder holds a run
    assert again.returncode != 0
    assert "clozelab: " in again.stderr
    assert "already holds a run" in again.stderr
    assert 'cli.py", line' not in again.stderr  # torchrun's own traceback is all there is


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_shares_are_the_batch_in_order(count):
    rows = list(range(6))
    shares = [Processes(rank, count).share(rows) for rank in range(count)]
    assert [row for share in shares for row in share] == rows
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_fewer_rows_than_processes_are_refused():
    with pytest.raises(InputError, match="2 examples cannot be divided among 3 processes"):
        Processes(0, 3).share([1, 2])


def test_sharded_processes_must_all_make_as_many_forward_passes():
    """Each of them waits for all others in every one."""
    Processes(0, 2, sharded=True).check_batch_size(6, 2)  # 3 and 3 rows: 2 passes each
    Processes(0, 2).check_batch_size(5, 2)  # replicated ones wait for each other once a step
    with pytest.raises(InputError, match="one forward pass more than others"):
        Processes(0, 2, sharded=True).check_batch_size(5, 2)  # 3 and 2 rows


def test_a_single_process_sends_nothing():
    loss = Loss.single(torch.tensor(3.0), torch.tensor(2))
    with init_processes() as processes:
        assert processes == Processes()
        assert processes.total(loss) is loss
        assert processes.all_max(1.5, 2.5) == [1.5, 2.5]
        assert processes.broadcast(lambda: "word") == "word"


def test_sharding_needs_torchrun(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match="torchrun"), init_processes(sharded=True):
        pass
