"""Command lines in messages can be pasted."""

import re
from pathlib import Path

import pytest

from clozelab.cli import main
from clozelab.cli.hints import command_line, with_flags

from .commands import pasted, refused, stop_at, train

NAMES = ["runs/a", "my run", "it's", 'say "x"', "a\nb", "a\tb", "$HOME", "`x`", "é 世", "-x", "a\\b", "*", "a;b"]
NAMES += ["\x1b[31m", "a'\n"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_command_line_reaches_the_program_as_it_was_meant(name):
    assert pasted(command_line("train", "--run", name, "--resume")) in (
        ["train", "--run", name, "--resume"],
        ["train", f"--run={name}", "--resume"],
    )


@pytest.mark.parametrize(("name", "spelled"), [("a\udcff", r"$'a\xff'"), ("\ud800", r"$'\xed\xa0\x80'")], ids=ascii)
def test_a_name_that_is_no_unicode_text_is_spelled_in_bytes(name, spelled):
    """The first is how Python reads a byte that is not UTF-8; no shell gives the second, but a caller of `main` may."""
    assert command_line("train", "--run", name) == f"clozelab train --run {spelled}"


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


# ------------------------------------------------------------------ flags in place of keywords


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lines"], "--lines would have no effect: corpus.jsonl is no text file"),
        (["--corpus", "same.jsonl"], "all are equal, .*; --split position cuts through .* --validation FILE holds out"),
        (["--corpus", "a.txt", "--stream"], r"or text with one document a line \(--lines\)"),
        (["--corpus", "a.txt", "--column", "n"], "--column 'n' would have no effect: a.txt has no columns"),
        (["--micro-batch-size", "3"], "--micro-batch-size 3 must divide --batch-size 16"),
        (["--vocab-size", "3"], "--vocab-size 3 is too small: .* take a larger --vocab-size"),
        (["--split", "hash", "--validation", "a.txt"], "--split hash would have no effect"),
        (["--corpus", "bad.jsonl"], r"bad.jsonl, line 2: no JSON: .* \(--skip-bad-rows leaves out such rows\)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_message_of_the_library_names_flags_and_not_keywords(words, message, capsys):
    Path("same.jsonl").write_text('{"text": "the same"}\n' * 50)
    Path("bad.jsonl").write_text('{"text": "good"}\n{"text\n')
    Path("a.txt").write_text("some text")
    corpus = [] if "--corpus" in words else ["--corpus", "corpus.jsonl"]
    refused(capsys, ["train", *corpus, *words], message)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("lines=True", "--lines"),
        ("exact_count=False", "--no-exact-count"),
        ('split="position", validation=FILE', "--split position, --validation FILE"),
        ("text_column 'x', streaming=True", "--column 'x', --stream"),
        ("load_run(run, objective=...)", "load_run(run, objective=...)"),
        (
            "runs/batch_size/run.json, 'batch_size', batch_size.txt",
            "runs/batch_size/run.json, 'batch_size', batch_size.txt",
        ),
        ("of another command: top_k, greedy=True", "of another command: top_k, greedy=True"),
        ("split=3, lines=Truely", "split=3, lines=Truely"),
        ("set permute_sentences=False", "set --no-permute-sentences (of clozelab train --objective bart)"),
        ("more of them (batch_size=...), f(objective=...)", "more of them (--batch-size), f(objective=...)"),
        ("--split: split must be", "--split must be"),
        ("--split: splits are", "--split: splits are"),
    ],
)
def test_only_keywords_that_are_flags_of_the_command_are_spelled_so(message, expected):
    names = ("lines", "no-exact-count", "split", "validation", "column", "stream", "objective", "batch-size")
    assert with_flags(message, {f"--{name}" for name in names}) == expected
