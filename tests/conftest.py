"""Fixtures for all tests: one small set of special ids, and a tokenizer trained on the spot."""

import gc
import json
import os
from contextlib import suppress
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported, and for every process that a test starts
os.environ.setdefault("GPUS_OF_TESTS", os.environ.get("CUDA_VISIBLE_DEVICES", "all"))  # also in processes of xdist
os.environ["CUDA_VISIBLE_DEVICES"] = ""  # all tests but test_gpu.py compute on the processor

import pytest
import torch

from clozelab.data import SpecialIds, Tokenizer, train_bpe
from clozelab.data.corpora.sealed import unsealed, write_sealed
from clozelab.objectives import OBJECTIVES
from clozelab.training.run_description import fingerprint_of

torch.set_num_threads(1)  # the models here are too small for two, which would wait for each other


def pytest_collection_finish():
    """Python's collector no longer looks through the libraries and the thousands of tests, which stay to the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


SENTENCES = [
    "Thank you for inviting me to your party last week .",
    "The cat sat on the mat, and the dog sat on the cat.",
    "A cloze is a text with blanks to fill in; every pretraining objective is one.",
    "What a model may read decides what it can be asked.",
] * 4


@pytest.fixture(scope="session")
def with_gpus() -> dict[str, str]:
    """The environment of a process that may use the GPUs that this one was given."""
    gpus = os.environ["GPUS_OF_TESTS"]
    others = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    return others if gpus == "all" else {**others, "CUDA_VISIBLE_DEVICES": gpus}


@pytest.fixture
def special() -> SpecialIds:
    """Ids 3 .. 79 are text; the sentinels run downwards from 99, as T5's do."""
    return SpecialIds(vocab_size=100, pad=0, eos=1, mask=2, sentinels=range(99, 79, -1))


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """With the ids of every objective's roles."""
    roles = [role for objective in OBJECTIVES.values() for role in objective.roles]
    return train_bpe(SENTENCES, vocab_size=500, sentinels=100, roles=roles)


@pytest.fixture(scope="session")
def write_run():
    """`write_run(run, described)` writes a run.json whose checksum is right, and with which the checkpoints agree."""

    def write(run, described):
        write_sealed(Path(run, "run.json"), described)
        for path in Path(run).glob("checkpoints/step-*/state.json"):
            state = unsealed(json.loads(path.read_text()), path)
            with suppress(KeyError, AttributeError):  # of a description that is none
                write_sealed(path, {**state, "identity": fingerprint_of(described)})

    return write
