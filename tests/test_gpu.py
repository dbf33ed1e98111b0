"""On a GPU, where there is one: the command line trains, resumes, samples and completes there as on the processor."""

import json
import shutil
import subprocess
import sys

import pytest

from clozelab.objectives import OBJECTIVES

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
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "17", "-m", "--", "clozelab")
    words = ("train", "--corpus", corpus, *SMALL, "--run", tmp_path / "run")
    assert "of this machine has no device" in clozelab(*words, code=1, starter=torchrun)


@needs_gpu
def test_a_run_moves_between_the_gpu_and_the_processor(clozelab, corpus, tmp_path):
    run = ("train", "--run", tmp_path / "run")
    clozelab(*run, "--corpus", corpus, *SMALL, "--steps", "2", "--sample-every", "0")
    clozelab(*run, "--extend", "2", "--device", "cpu")
    clozelab(*run, "--extend", "2", "--compile")
    assert "The cat" in clozelab("generate", tmp_path / "run", "The cat", "--tokens", "3")


@needs_gpu
def test_compare_and_floors_train_on_the_gpu(clozelab, corpus, tmp_path):
    words = ("--objectives", "causal", "span", "--tokens", "2000", "--out", tmp_path / "compare")
    clozelab("compare", "--corpus", corpus, *SMALL, *words)
    clozelab("floors", "--objectives", "masked", "--steps", "2", "--out", tmp_path / "floors")
