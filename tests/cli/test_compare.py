"""Several objectives on one corpus: a table, which can be stopped and continued."""

import argparse
import importlib
import json
import os
import re
import signal
from pathlib import Path

import pytest

from clozelab import display
from clozelab.cli import main
from clozelab.cli.compare import QUICK_TOKENS, _say_rest
from clozelab.display import comparison
from clozelab.objectives import OBJECTIVES
from clozelab.training import checkpoint, estimate, evaluator, guesses, latest_checkpoint

from .commands import FAST, pasted, refused, stop_at

prepare = importlib.import_module("clozelab.training.prepare")
TWO = ["compare", "--objectives", "causal", "masked", "--corpus", "corpus.jsonl", "--tokens", "600", *FAST]


def test_compare_ends_in_a_table_a_file_and_a_picture(capsys):
    assert main(["compare", "--corpus", "corpus.jsonl", "--tokens", "1.5k", "--out", "out", *FAST]) == 0
    printed = capsys.readouterr().out
    for word in ("hides", "reads", "in the loss", "unigram guess", "uniform guess", "tokens a second"):
        assert word in printed
    rows = json.loads(Path("out/comparison.json").read_text())
    assert [row["objective"] for row in rows] == ["causal", "masked", "span"]
    assert all(row["heldout"]["nats"] > 0 and row["unigram"] < row["uniform"] for row in rows)
    assert max(row["tokens"] for row in rows) < 1.1 * min(row["tokens"] for row in rows)
    assert [*rows[0]["completions"], *rows[0]["cannot"]] == ["continue", "fill"]
    assert [*rows[1]["completions"], *rows[1]["cannot"]] == ["fill", "continue"]
    assert Path("out/comparison.png").read_bytes()[:4] == b"\x89PNG"
    assert "out/report.html" in printed
    page = Path("out/report.html").read_text()
    assert all(f"held-out loss {row['heldout']['nats']:.3f} nats" in page for row in rows)
    assert main(["compare", "--corpus", "corpus.jsonl", "--tokens", "1.5k", "--out", "out", *FAST]) == 2


@pytest.mark.usefixtures("no_picture")
def test_compare_takes_any_objectives_and_marks_a_bound(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    some = ["compare", "--objectives", "prefix", "diffusion", "fim", "causal", "--corpus", "corpus.jsonl"]
    assert main([*some, "--tokens", "1.5k", "--out", "out", *FAST]) == 0
    rows = json.loads(Path("out/comparison.json").read_text())
    assert [row["objective"] for row in rows] == ["prefix", "diffusion", "fim", "causal"]
    assert [row["heldout"]["likelihood"] for row in rows] == ["exact", "bound", "bound", "exact"]
    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if "held-out loss" in line]
    assert [cell.startswith("at most") for cell in re.split(r"  +", line.strip())[1:]] == [False, True, True, False]
    assert sum("by kind " in line for line in lines) == 1
    assert [list(row["heldout"]["bins"]) for row in rows] == [[], ["hidden tokens"], [], []]


@pytest.mark.usefixtures("no_picture")
def test_a_first_look_says_what_it_cannot_tell_and_is_continued_as_it_began(capsys, monkeypatch):
    module = importlib.import_module("clozelab.cli.compare")
    monkeypatch.setattr(module, "QUICK_TOKENS", 600)
    quick = [
        "compare",
        "--objectives",
        "causal",
        "masked",
        "--corpus",
        "corpus.jsonl",
        "--quick",
        "--out",
        "out",
        *FAST,
    ]
    assert main(quick) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "This is a first look" in printed
    assert "cannot tell yet" in printed
    assert "FLOP" not in printed
    assert all(row["tokens"] < 1000 for row in json.loads(Path("out/comparison.json").read_text()))
    monkeypatch.setattr(module, "QUICK_TOKENS", 900)  # as another version may have it
    assert main(["compare", "--out", "out", "--resume"]) == 0
    assert "This is a first look" in " ".join(capsys.readouterr().out.split())
    refused(capsys, ["compare", "--quick", "--tokens", "600"], "--quick and --tokens both say how long")


@pytest.mark.parametrize(("losses", "said"), [((5.0, 6.5), "; masked still guesses by"), ((5.0, 5.5), "one seed. It")])
def test_a_first_look_names_what_has_learned_no_more_than_frequencies(losses, said):
    result = argparse.Namespace(tokens=120_000)
    rows = [
        argparse.Namespace(objective=OBJECTIVES[name], heldout=loss, unigram=6.55, flops=None, result=result)
        for name, loss in zip(("causal", "masked"), losses)
    ]
    assert said in comparison.said_of_first_look(rows)


def test_a_comparison_refuses_before_it_trains(capsys):
    refused(capsys, ["compare", "--corpus", "corpus.jsonl", "--sentinels", "0", "--out", "out", *FAST], "sentinels")
    assert not Path("out").exists()
    refused(capsys, ["compare", "--corpus", "corpus.jsonl", "--prompt", "\udcff", "--out", "out", *FAST], "character")
    assert not Path("out").exists()


def results(folder):
    """The numbers of a comparison but for its speed, and the checksums of all weights."""
    rows = [
        {key: value for key, value in row.items() if key != "tokens_per_second"}
        for row in json.loads(Path(folder, "comparison.json").read_text())
    ]
    sums = [latest_checkpoint(path.parent).state["sha256"] for path in sorted(Path(folder).glob("*/run.json"))]
    return rows, sums


def raising(*_, **__):
    raise KeyboardInterrupt


def signalling(number, real):
    def signalled(*arguments, **settings):
        os.kill(os.getpid(), number)
        return real(*arguments, **settings)

    return signalled


PHASES = {
    "tokenising": lambda patch: patch.setattr(prepare, "train_bpe", raising),
    "evaluating": lambda patch: patch.setattr(
        evaluator, "score_batch", signalling(signal.SIGINT, evaluator.score_batch)
    ),
    "training": lambda patch: stop_at(patch, 3, signal.SIGTERM),
    "training the second": lambda patch: stop_at(patch, 7, signal.SIGHUP),
    "saving": lambda patch: patch.setattr(
        checkpoint, "write_checkpoint", signalling(signal.SIGTERM, checkpoint.write_checkpoint)
    ),
    "counting labels": lambda patch: patch.setattr(guesses, "unigram_baseline", raising),
    "drawing": lambda patch: patch.setattr(display, "save_comparison", raising),
}
"""In each phase of a comparison, a signal, or the exception that it raises there."""


@pytest.fixture
def no_picture(monkeypatch):
    """The picture takes a second, and is tested above."""
    monkeypatch.setattr(comparison, "draw_comparison", lambda rows, path: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """`whole()`: the results of a comparison that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")

    def results_of_whole():
        if not (folder / "comparison.json").exists():
            assert main([*TWO, "--out", str(folder)]) == 0
        return results(folder)

    return results_of_whole


@pytest.mark.usefixtures("no_picture")
def test_equal_compute_gives_each_its_own_steps_and_is_continued_bit_for_bit(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    equal = [*TWO, "--equal", "compute"]
    assert main([*equal, "--out", "whole"]) == 0
    printed = capsys.readouterr().out
    assert "FLOP of training each, the cost of 640 tokens of text for causal; to the nearest step" in printed
    rows = json.loads(Path("whole/comparison.json").read_text())
    causal, masked = (row["flops"] for row in rows)
    assert 0.9 < masked / causal < 1.1
    assert rows[1]["tokens"] > 1.1 * rows[0]["tokens"]  # a step of masked LM projects fewer positions
    with monkeypatch.context() as patch:
        stop_at(patch, 7, signal.SIGTERM)
        assert main([*equal, "--out", "out"]) == 130
    refused(capsys, ["compare", "--resume", "--out", "out", "--equal", "tokens"], "was begun with --equal compute")
    assert main(["compare", "--resume", "--out", "out"]) == 0
    assert results("out") == results("whole")


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.usefixtures("no_picture")
def test_a_comparison_that_is_stopped_in_any_phase_is_continued_to_the_same_numbers(phase, whole, capsys, monkeypatch):
    expected = whole()
    capsys.readouterr()
    with monkeypatch.context() as patch:
        PHASES[phase](patch)
        assert main([*TWO, "--out", "it's mine"]) == 130
    printed = capsys.readouterr().out
    if phase == "tokenising":
        assert printed == "stopped, all saved; nothing was trained yet\n"
        assert main([*TWO, "--out", "it's mine"]) == 0
    else:
        [hint] = re.findall("continue: (clozelab .*)", printed)
        error = refused(capsys, [*TWO, "--out", "it's mine"], "already holds a comparison")
        assert hint in error
        assert main(pasted(hint)) == 0
    assert results("it's mine") == expected


@pytest.mark.usefixtures("no_picture")
def test_a_comparison_is_continued_as_it_began_or_refused(capsys):
    refused(capsys, [*TWO, "--resume", "--out", "nowhere"], "nowhere holds no comparison that could be continued")
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 2)
        assert main([*TWO, "--out", "out"]) == 130
    refused(capsys, ["compare", "--resume", "--out", "out", "--tokens", "700"], "was begun with --tokens 600, not 700")
    refused(
        capsys, ["compare", "--resume", "--out", "out", "--objectives", "causal", "span"], "causal masked, not causal"
    )
    error = refused(capsys, ["train", "--resume", "--run", "out/causal"], "is a part of a comparison: continue that")
    assert "clozelab compare --out out --resume" in error
    assert main(["compare", "--resume", "--out", "out", "--prompt", "Document 5"]) == 0  # the prompt is free
    assert main(["compare", "--resume", "--out", "out"]) == 0  # finished: the table is printed again
    refused(capsys, [*TWO, "--out", "out"], "already holds a comparison: choose another folder by --out, or print it")


@pytest.mark.usefixtures("no_picture")
def test_the_time_that_is_left_is_said_after_the_first_steps_of_each(capsys, monkeypatch):
    monkeypatch.setattr(estimate, "AFTER", 0.0)
    monkeypatch.setattr(estimate, "WORTH", 0.0)
    assert main([*TWO, "--out", "out"]) == 0
    error = capsys.readouterr().err
    assert re.search(r"\d+ s left on this machine for 2 objectives, if the others are as fast\n", error)
    assert re.search(r"\d+ s left on this machine\n", error)


def test_a_long_comparison_says_how_long_it_takes_and_what_would_be_quicker():
    args = argparse.Namespace(objectives=["causal", "masked", "span"], tokens=1_600_000, size="small")
    line = _say_rest(args, 3600.0, 3)
    assert line.startswith("60 min left on this machine for 3 objectives, if the others are as fast (Ctrl-C saves; ")
    assert "--quick takes about 4 min, --size tiny trains a smaller model, in another --out)" in line
    assert _say_rest(args, 60.0, 1) == "60 s left on this machine"
    args.tokens = QUICK_TOKENS
    assert "quick" not in _say_rest(args, 3600.0, 3)
