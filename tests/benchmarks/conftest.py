"""What the tests of the benchmarks share: the modules of their folder, and running one of its scripts."""

import gc
import importlib
import os
import runpy
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@contextmanager
def as_in_a_process_of_its_own():
    """The folder can be imported from; what a script sets for itself is as before afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        patch.setattr(os, "environ", dict(os.environ))  # it sets threads and caches for what it starts
        try:
            yield patch
        finally:
            torch.set_flush_denormal(False)
            gc.unfreeze()


@pytest.fixture
def module():
    """A module of the folder by its name."""
    with as_in_a_process_of_its_own():
        yield importlib.import_module


@pytest.fixture(scope="module")
def run_script():
    """`run_script("gpu", "--quick")`: what `python benchmarks/gpu.py --quick` does, in this process.

    A process of its own would import PyTorch and `transformers` for ten seconds before it does anything.
    """

    def run(name, *words):
        path = BENCHMARKS / f"{name}.py"
        with as_in_a_process_of_its_own() as patch:
            patch.setattr(sys, "argv", [str(path), *map(str, words)])
            runpy.run_path(str(path), run_name="__main__")

    return run
