"""The command line: one command from text to a trained model, one clear line for whatever is wrong."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clozelab.cli import main
from clozelab.training import read_metrics

DOCUMENTS = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}, which is odd." for n in range(300)]
FAST = ["--length", "32", "--batch-size", "4", "--vocab-size", "400"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A folder of its own, and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLOZELAB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"text": d}) + "\n" for d in DOCUMENTS))


def train(objective, *more, run="run", steps="6"):
    return main(
        ["train", "--objective", objective, "--corpus", "corpus.jsonl", "--steps", steps, "--run", run, *FAST, *more]
    )


@pytest.mark.parametrize(
    ("objective", "use"),
    [
        ("causal", ["generate", "run", "Document 7", "--tokens", "8"]),
        ("masked", ["fill", "run", "Document ___ says that", "--order", "left_to_right"]),
        ("span", ["fill", "run", "Document ___ says that ___ make", "--greedy"]),
    ],
)
def test_each_objective_is_trained_and_used(objective, use, capsys):
    assert train(objective) == 0
    assert re.search(rf"{objective}: held-out loss \d\.\d+ nats", capsys.readouterr().out)
    assert main(use) == 0
    assert "Document" in capsys.readouterr().out


def test_a_run_goes_on_as_it_was_described(capsys):
    assert train("span", "--noise-density", "0.3", "--checkpoint-every", "2") == 0
    assert main(["train", "--run", "run", "--resume"]) == 0
    assert train("span", "--noise-density", "0.3", "--resume") == 0
    assert train("span", "--noise-density", "0.2", "--resume") == 2
    assert "noise_density = 0.3 there, 0.2 here" in capsys.readouterr().err
    assert [line["step"] for line in read_metrics("run/metrics.jsonl") if "loss" in line] == list(range(1, 7))


def test_compare_ends_in_a_table_a_file_and_a_picture(capsys):
    assert main(["compare", "--corpus", "corpus.jsonl", "--tokens", "3000", "--out", "out", *FAST]) == 0
    printed = capsys.readouterr().out
    for word in ("hides", "reads", "predicts", "positions paid", "unigram guess", "uniform guess", "tokens per second"):
        assert word in printed
    rows = json.loads(Path("out/comparison.json").read_text())
    assert [row["objective"] for row in rows] == ["causal", "masked", "span"]
    assert all(row["heldout"]["nats"] > 0 and row["unigram"] < row["uniform"] for row in rows)
    assert max(row["tokens"] for row in rows) < 1.1 * min(row["tokens"] for row in rows)
    assert Path("out/comparison.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["compare", "--corpus", "corpus.jsonl", "--tokens", "3000", "--out", "out", *FAST]) == 2


def test_show_says_what_pays(capsys):
    assert main(["show", "Thank you for inviting me to your party last week ."]) == 0
    printed = capsys.readouterr().out
    assert "paid: 10 of 11" in printed  # causal: every token but the first
    assert "<mask>" in printed or "masked" in printed
    assert "<extra_id_0>" in printed
    assert printed.count("must say") == 3


def test_help_is_helpful(capsys):
    for command in ([], ["train"], ["compare"], ["show"], ["generate"], ["fill"]):
        with pytest.raises(SystemExit) as stopped:
            main([*command, "--help"])
        assert stopped.value.code == 0
        assert "clozelab" in capsys.readouterr().out


# ------------------------------------------------------------------ bad input


def refused(capsys, arguments, message):
    capsys.readouterr()  # what came before
    code = main(arguments)
    error = capsys.readouterr().err
    assert code == 2, error
    assert len(error.strip().splitlines()) == 1, error
    assert error.startswith("clozelab: ")
    assert re.search(message, error), error


def write(name, content):
    Path(name).write_bytes(content)
    return str(name)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ["--corpus", "nowhere.txt"], r"no such corpus file or folder \(nowhere.txt\)"),
        (lambda: ["--corpus", write("empty.txt", b"")], "holds no text"),
        (lambda: ["--corpus", write("latin.txt", b"caf\xe9 " * 50)], "not UTF-8 text: byte 3"),
        (lambda: ["--corpus", write("short.txt", b"too short")], "does not fill one block of 128"),
        (lambda: ["--corpus", "corpus.jsonl", "--column", "body"], r"no column 'body': it has 'text'"),
        (lambda: ["--corpus", "corpus.jsonl", "--objective", "span", "--noise-density", "1.0"], "strictly between 0"),
        (lambda: ["--corpus", "corpus.jsonl", "--objective", "masked", "--noise-density", "-1"], "strictly between 0"),
        (lambda: ["--corpus", "corpus.jsonl", "--objective", "span", "--sentinels", "2"], "sentinels are needed"),
        (lambda: ["--corpus", "corpus.jsonl", "--vocab-size", "100"], "vocab_size 100 is too small"),
        (lambda: ["--corpus", "corpus.jsonl", "--tokenizer", "nowhere.json"], "no tokenizer file"),
        (lambda: ["--corpus", "corpus.jsonl", "--steps", "0"], "steps must be at least 1"),
        (lambda: ["--corpus", "corpus.jsonl", "--learning-rate", "0"], "learning_rate must be positive"),
        (lambda: ["--corpus", "corpus.jsonl", "--micro-batch", "3"], "must divide"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(make, message, capsys):
    refused(capsys, ["train", "--steps", "2", *make()], message)


def test_a_hub_name_without_network_is_one_line(capsys, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    refused(capsys, ["train", "--corpus", "nobody/nothing"], "could not be had from the hub")


def test_a_run_folder_that_holds_a_run_is_left_alone(capsys):
    assert train("masked") == 0
    before = Path("run/metrics.jsonl").read_text()
    refused(
        capsys, ["train", "--objective", "masked", "--corpus", "corpus.jsonl", "--run", "run"], "already holds a run"
    )
    assert Path("run/metrics.jsonl").read_text() == before


def test_a_checkpoint_of_another_objective_or_none_is_named(capsys):
    assert train("masked") == 0
    refused(capsys, ["generate", "run", "Document"], "holds a masked objective, but this needs causal")
    refused(capsys, ["fill", "run", "no blanks"], "expected a text with blanks")
    refused(capsys, ["fill", "nowhere", "a ___"], "holds no run")
    refused(capsys, ["train", "--run", "nowhere", "--resume"], "holds no run")
    assert train("span", run="span") == 0
    refused(capsys, ["fill", "span", "a ___", "--order", "all"], "--order is for masked")
    refused(capsys, ["fill", "span", "a ___", "--temperature", "0"], "temperature")


def test_a_damaged_checkpoint_is_named(capsys):
    assert train("causal") == 0
    [weights] = Path("run/checkpoints").glob("*/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 255
    write(weights, content)
    refused(capsys, ["generate", "run", "Document"], "is damaged: model.safetensors is not what was written")
    refused(capsys, ["train", "--run", "run", "--resume"], "is damaged")


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


def test_wrong_usage_is_argparses_own_exit_code_2():
    done = subprocess.run([sys.executable, "-m", "clozelab.cli", "tarin"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "invalid choice" in done.stderr
    assert "Traceback" not in done.stderr
