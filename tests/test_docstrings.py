"""Every worked example in a docstring is executed."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import clozelab
from clozelab.data import SpecialIds

MODULES = [
    name for _, name, _ in pkgutil.walk_packages(clozelab.__path__, "clozelab.") if not name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_say_the_truth(name, monkeypatch, tmp_path):
    """Walks the installed package: collecting `src` by path would import everything a second time."""
    monkeypatch.setenv("CLOZELAB_CACHE", str(tmp_path))
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(
        module, extraglobs={"torch": torch, "SpecialIds": SpecialIds}, optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert failed == 0


def test_every_objective_shows_a_worked_example():
    for name in ("causal_lm", "masked_lm", "span_corruption", "objective"):
        module = importlib.import_module(f"clozelab.objectives.{name}")
        examples = sum(len(test.examples) for test in doctest.DocTestFinder().find(module))
        assert examples > 0
