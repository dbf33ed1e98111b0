"""On a GPU, where there is one: the command line trains, resumes, samples and completes there as on the processor."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from clozelab.errors import InputError
from clozelab.objectives import OBJECTIVES
from clozelab.training.processes import init_processes

needs_gpu = pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="this machine has no GPU")

SMALL = ("--size", "tiny", "--length", "64", "--batch-size", "4", "--vocab-size", "700")
TEXT = "The cat sat on the mat, and the dog sat on the cat. Thank you for inviting me to your party last week."


@pytest.fixture
def clozelab(with_gpus):
    """`clozelab(*words)` runs the command with the GPUs, and gives what it printed."""

    def run(*words, code=0, starter=("-m", "clozelab")):
        command = [sys.executable, *starter, *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, env=with_gpus, timeout=300)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("gpu") / "corpus.txt"
    path.write_text("\n\n".join(f"{n} {TEXT}" for n in range(200)))
    return path


@needs_gpu
@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_objective_trains_resumes_and_samples_on_a_gpu(clozelab, name, corpus, tmp_path):
    def losses():
        lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
        return [value for line in lines for key, value in json.loads(line).items() if key == "heldout"]

    evaluated = ("--steps", "4", "--eval-every", "2", "--checkpoint-every", "2", "--sample-every", "2")
    clozelab("train", "--objective", name, "--corpus", corpus, *SMALL, *evaluated, "--run", tmp_path / "run")
    whole = losses()
    shutil.rmtree(max((tmp_path / "run" / "checkpoints").glob("step-*")))
    clozelab("train", "--resume", "--run", tmp_path / "run")
    assert len(whole) == 3
    assert losses() == pytest.approx(whole, rel=1e-3)


@needs_gpu
def test_more_processes_than_gpus_are_refused(clozelab, corpus, tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "17", "-m", "clozelab")
    words = ("train", "--corpus", corpus, *SMALL, "--run", tmp_path / "run")
    assert "of this machine has no GPU" in clozelab(*words, code=1, starter=torchrun)


def test_a_process_without_a_gpu_of_its_own_is_refused(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(InputError, match="process 2 of this machine has no GPU: the machine shows 1"), init_processes():
        raise AssertionError("it was joined")
