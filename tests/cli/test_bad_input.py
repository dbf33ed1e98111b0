"""What cannot be used is one line on standard error and exit code 2, and nothing is lost."""

import io
import os
import sys
from pathlib import Path

import pytest

from clozelab.cli import main

from .commands import FAST, refused, train, write


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ["--corpus", "nowhere.txt"], r"no such corpus file or folder \(nowhere.txt\)"),
        (lambda: ["--corpus", write("empty.txt", b"")], "holds no text"),
        (lambda: ["--corpus", write("latin.txt", b"caf\xe9 " * 50)], "not UTF-8 text: byte 3"),
        (lambda: ["--corpus", write("short.txt", b"too short")], "does not fill one block of 128"),
        (
            lambda: ["--corpus", write("small.txt", b"The lamp is dark. " * 50), "--tokenizer", "characters"],
            "too little is held out: the text of 1 documents has 91 tokens, which does not fill one block of 128",
        ),
        (lambda: ["--corpus", "corpus.jsonl", "--column", "body"], r"no column 'body': it has 'text'"),
        (
            lambda: ["--corpus", "corpus.jsonl", "--objective", "span", "--noise-density", "1.0"],
            r"clozelab: --noise-density must lie in \(0, 1\)",
        ),
        (
            lambda: ["--corpus", "corpus.jsonl", "--objective", "masked", "--mask-rate", "-1"],
            r"clozelab: --mask-rate must lie in \(0, 1\]",
        ),
        (lambda: ["--corpus", "corpus.jsonl", "--objective", "span", "--sentinels", "2"], "sentinels are needed"),
        (lambda: ["--corpus", "corpus.jsonl", "--vocab-size", "100"], "clozelab: --vocab-size 100 is too small"),
        (
            lambda: ["--corpus", "corpus.jsonl", "--vocab-size", "300"],
            "need 359: take a larger --vocab-size, or fewer sentinels .--sentinels.",
        ),
        (lambda: ["--corpus", "corpus.jsonl", "--tokenizer", "nowhere.json"], "no tokenizer file"),
        (
            lambda: ["--corpus", "corpus.jsonl", "--learning-rate", "inf"],
            "--learning-rate: expected a number above 0, got 'inf'",
        ),
        (lambda: ["--corpus", "corpus.jsonl", "--minutes", "nan"], "--minutes: expected a number above 0"),
        (lambda: ["--corpus", "corpus.jsonl", "--seed", "1" + "0" * 30], "--seed: expected a whole number from 0"),
        (lambda: ["--corpus", "corpus.jsonl", "--batch-size", "100000000"], "--batch-size: expected"),
        (
            lambda: ["--corpus", "corpus.jsonl", "--vocab-size", "1000000000"],
            "clozelab: --vocab-size must be at most 2000000, got",
        ),
        (
            lambda: ["--corpus", "corpus.jsonl", "--objective", "span", "--mean-noise-span-length", "inf"],
            "clozelab: --mean-noise-span-length must be at least 1, and finite",
        ),
        (lambda: ["--corpus", "corpus.jsonl", "--objective", "span", "--length", "1000000"], "does not fill one block"),
        (lambda: ["--corpus", "corpus.jsonl", "--objective", "causal", "--length", "1"], "nothing to predict"),
        (lambda: ["--corpus", "corpus.jsonl", "--ste", "3"], "there is no option --ste"),
        (lambda: ["--corpus", "corpus.jsonl", "--run", ""], "--run: expected a path"),
        (lambda: ["--corpus", "corpus.jsonl", "--run", "corpus.jsonl"], "expected a folder for the run"),
        (lambda: ["--corpus", ""], "is it a variable that was never set"),
        (lambda: ["--corpus", "/dev/zero"], "neither a file nor a folder"),
        (lambda: ["--corpus", "~nobody-here/x"], "no such corpus file"),
        (lambda: ["--corpus", write("header.csv", b"text\n")], "header.csv holds no rows"),
        (
            lambda: ["--corpus", write("broken.jsonl", b'{"text": "a"}\n{"text": "b"\n')],
            "broken.jsonl, line 2: no JSON",
        ),
        (lambda: ["--corpus", write("latin.csv", b"text\ncaf\xe9\n")], "latin.csv, line 2: not UTF-8: byte 0xe9"),
        (
            lambda: ["--corpus", write("ragged.csv", b"text\na\nb,c,d\n")],
            "line 3: the number of cells is 3, expected 1",
        ),
        (lambda: ["--corpus", write("half.jsonl", b'{"text": "a \\ud800 b"}\n' * 9)], "half"),
        (lambda: ["--corpus", "corpus.jsonl", "--micro-batch-size", "3"], "must divide"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(make, message, capsys):
    refused(capsys, ["train", *make()], message)


def test_a_hub_name_without_network_is_one_line(capsys, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    refused(capsys, ["train", "--corpus", "nobody/nothing"], "could not be loaded from the hub")


def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(capsys, monkeypatch):
    import clozelab.training.checkpoint as checkpoint

    real = checkpoint.save_file

    def full(tensors, path):
        if "step-00000004" in str(path):
            raise OSError(28, "No space left on device", str(path))
        real(tensors, path)

    monkeypatch.setattr(checkpoint, "save_file", full)
    assert train("masked", "--checkpoint-every", "2") == 2
    assert "no space left on the disk" in capsys.readouterr().err
    assert os.listdir("run/checkpoints") == ["step-00000002"]
    monkeypatch.undo()


def test_files_that_are_of_no_run_are_left_alone(capsys):
    Path("mine").mkdir()
    for name in ("tokenizer.json", "metrics.jsonl"):
        write(f"mine/{name}", b"precious")
        refused(capsys, ["train", "--corpus", "corpus.jsonl", "--run", "mine", *FAST], f"holds a {name} that is of no")
        assert Path(f"mine/{name}").read_bytes() == b"precious"
        Path(f"mine/{name}").unlink()


def test_floors_refuses_before_it_trains(capsys):
    refused(capsys, ["floors", "--out", write("taken", b"")], "exists")


def test_output_for_a_terminal_that_knows_only_ascii(monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    assert main(["show", "caf\u00e9 \u4e16", "--objective", "causal"]) == 0
    assert b"caf" in written.getvalue()
