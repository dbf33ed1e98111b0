"""Command lines in messages can be pasted."""

import re

import pytest

from clozelab.cli import main
from clozelab.cli.hints import command_line

from .commands import pasted, refused, stop_at, train

NAMES = ["runs/a", "my run", "it's", 'say "x"', "a\nb", "a\tb", "$HOME", "`x`", "é 世", "-x", "a\\b", "*", "a;b"]
NAMES += ["\x1b[31m", "a'\n"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_command_line_reaches_the_program_as_it_was_meant(name):
    assert pasted(command_line("train", "--run", name, "--resume")) in (
        ["train", "--run", name, "--resume"],
        ["train", f"--run={name}", "--resume"],
    )


@pytest.mark.parametrize("name", ["it's my run", "a\nb"], ids=ascii)
def test_the_hints_of_train_are_pasted_one_after_the_other(name, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        stop_at(patch, 3)
        assert train("causal", run=name) == 130
    [hint] = re.findall("continue: (clozelab .*)", capsys.readouterr().out)
    assert hint in refused(capsys, ["train", "--run", name], "already holds a run: continue it by")
    assert main(pasted(hint)) == 0
    capsys.readouterr()
    assert main(pasted(hint)) == 0
    [hint] = re.findall("this run was finished before; train it further: (clozelab .*)", capsys.readouterr().out)
    assert pasted(hint) == ["train", "--run", name, "--extend", "6"]
    assert main(pasted(hint)) == 0


def test_a_run_by_the_clock_names_the_way_to_go_on(capsys):
    words = "train --corpus corpus.jsonl --minutes 0.001 --run run --vocab-size 400 --length 32"
    assert main(words.split()) == 0
    error = refused(capsys, ["train", "--run", "run", "--extend", "3"], "only a run of a number of steps can be")
    [hint] = re.findall(r"from its weights, (clozelab .*)", error)
    assert main([*pasted(hint), "--corpus", "corpus.jsonl", "--steps", "1", "--length", "32"]) == 0
