"""`clozelab check module:name` finds the thing and the check that fits it."""

import os
import sys

import pytest

from clozelab.cli import main
from clozelab.errors import InputError
from clozelab.objectives import OBJECTIVES
from clozelab.testing import target

from ..objectives.cases import SAMPLED_NAMES

SOURCE = """
import torch
from clozelab import MaskedLM, SpecialIds
from clozelab.data import bernoulli_mask

def scheme(tokens, maskable, generator):
    return maskable & (torch.rand(len(tokens), generator=generator) < 0.5)

def bernoulli(tokens, maskable, generator):
    return bernoulli_mask(maskable, torch.rand(len(tokens), generator=generator), 0.3)

collator = MaskedLM().collator(SpecialIds(vocab_size=100, pad=0, eos=1, mask=2))
both = lambda one, two: None
number = 3
"""


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


def test_a_scheme_with_a_fault_ends_in_code_1_and_says_which(module, capsys):
    assert main(["check", f"{module}:scheme"]) == 1
    assert "FAULT       targets: rows with something to hide are left without a target" in capsys.readouterr().out
    assert main(["check", f"{module}:scheme", "--skip", "targets"]) == 0


def test_a_file_is_read_as_it_is_now_and_nothing_is_written_beside_it(tmp_path, monkeypatch):
    """An import would take the bytecode of the file as it was: same second, same size."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = tmp_path / "mine.py"
    for number in (3, 4):
        path.write_text(f"number = {number}")
        os.utime(path, (10**9, 10**9))
        assert target.load(f"{path}:number") == number
    assert os.listdir(tmp_path) == ["mine.py"]


@pytest.mark.parametrize("name", ["bernoulli", "collator", "MaskedLM"])
def test_what_is_right_ends_in_code_0(module, name, capsys):
    assert main(["check", f"{module}:{name}"]) == 0
    assert "passed" in capsys.readouterr().out


@pytest.mark.parametrize("name", SAMPLED_NAMES)
def test_an_objective_is_checked_by_its_name(name, capsys):
    assert isinstance(target.load(name), OBJECTIVES[name])
    assert main(["check", name]) == 0
    checks = 22 if name == "electra" else 20  # of what is drawn, two more: separate parts, replaced
    assert f"{checks} passed, 0 failed, 0 not checked" in capsys.readouterr().out


def test_a_rate_is_held_against_it(module, capsys):
    assert main(["check", f"{module}:bernoulli", "--rate", "0.15"]) == 1
    assert "15% was asked for" in capsys.readouterr().out


def test_a_rate_is_refused_by_what_has_one_of_its_own(capsys):
    assert main(["check", "masked", "--rate", "0.4"]) == 2
    assert "the rate 0.4 would have no effect" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine", "expected module:name, file.py:name, or one of causal, "),
        ("nowhere.py:scheme", "there is no file"),
        ("no.such.module:scheme", "cannot be imported"),
        ("{module}:missing", "has no missing; it has torch"),
        ("{module}:number", "got int"),
        ("{module}:both", "this takes \\(one, two\\). A loss is named together with"),
        ("torch.nn:Linear", "the class Linear cannot be made without arguments"),
    ],
)
def test_what_cannot_be_checked_is_one_line_and_code_2(module, name, message, capsys):
    name = name.format(module=module)
    with pytest.raises(InputError, match=message):
        target.check(target.load(name))
    assert main(["check", name]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_module_that_dies_is_named(tmp_path):
    path = tmp_path / "dies.py"
    path.write_text("1 / 0")
    with pytest.raises(InputError, match="raises ZeroDivisionError while it is imported"):
        target.load(f"{path}:x")
