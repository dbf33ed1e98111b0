"""Every worked example in a docstring can be pasted: it imports what it uses, and prints what it claims."""

import ast
import doctest
import importlib
import inspect
import pkgutil

import pytest

import clozelab
import clozelab.data.packing
from clozelab.objectives import OBJECTIVES

MODULES = [
    name for _, name, _ in pkgutil.walk_packages(clozelab.__path__, "clozelab.") if not name.endswith("__main__")
]


class Finder(doctest.DocTestFinder):
    """Finds the examples of functions whose errors are explained, which are wrapped."""

    def _from_module(self, module, object):
        return super()._from_module(module, inspect.unwrap(object) if callable(object) else object)


def test_wrapped_functions_have_their_examples_found():
    assert any(test.examples for test in Finder().find(clozelab.data.packing, globs={}) if test.name.endswith(".pack"))


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_can_be_pasted_and_tell_the_truth(name, monkeypatch, tmp_path):
    """Each in a namespace of its own, without the names of its module, as it is after a paste."""
    monkeypatch.setenv("CLOZELAB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for example in Finder().find(importlib.import_module(name), globs={}):
        runner.run(example)
    assert runner.summarize().failed == 0


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_shows_a_worked_example_and_its_source(name):
    lines = OBJECTIVES[name].__doc__ or ""
    assert len(doctest.DocTestParser().get_examples(lines)) >= 3
    assert "Source: " in lines


@pytest.mark.parametrize("name", MODULES)
def test_every_public_function_has_a_docstring(name):
    module = importlib.import_module(name)
    with open(module.__file__) as file:  # type: ignore[arg-type]
        tree = ast.parse(file.read())
    for node in ast.walk(tree):
        public = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
        if public and node in tree.body:
            assert ast.get_docstring(node), f"{name}.{node.name} has no docstring"
