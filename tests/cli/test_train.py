"""From text to a trained model, by one command each."""

import os
import re
import sys
from pathlib import Path

import pytest

from clozelab.cli import main
from clozelab.generation import Completion
from clozelab.objectives import OBJECTIVES, SpanCorruption
from clozelab.training import load_run

from .commands import refused, train

USES = {
    "continue": ["generate", "run", "--tokens", "8", "Document 7"],
    "fill": ["fill", "run", "--greedy", "Document ___ says that"],
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_objective_is_trained_and_used_for_what_it_completes_and_refused_for_the_rest(name, capsys):
    assert train(name) == 0
    assert re.search(
        rf"{name}: held-out loss \d+\.\d+ nats( per predicted token|: .* \+ .*, each per its own count)",
        capsys.readouterr().out,
    )
    assert f"<title>{name}: training run</title>" in Path("run/report.html").read_text()
    for use, words in USES.items():
        if use in OBJECTIVES[name].completes:
            assert main(words) == 0
            assert "Document" in capsys.readouterr().out
        else:
            refused(capsys, words, rf"run holds a model of the {name} objective, which does not {use}.*clozelab")


def test_a_loss_of_several_parts_is_printed_with_its_parts(capsys):
    assert train("electra") == 0
    printed = capsys.readouterr().out
    assert "per predicted token" not in printed
    found = re.search(r"loss (\S+) nats: generator (\S+) \+ 50 x discriminator (\S+), each per its own count", printed)
    total, generator, discriminator = map(float, found.groups())
    assert total == pytest.approx(generator + 50 * discriminator, abs=0.03)
    assert train("mtp", run="other") == 0
    assert re.search(r"each per its own count, \d\.\d+ bits per byte of logits", capsys.readouterr().out)


def test_a_run_ends_with_its_loss_by_kind_of_row_where_the_class_has_kinds(capsys):
    assert train("diffusion") == 0
    printed = capsys.readouterr().out
    of_some = r"\d+(\.\.\d+)? \d\.\d{3}"
    assert re.search(rf"\nnats by kind: hidden tokens {of_some}(, {of_some}){{2,5}}\n", printed)
    assert train("bart", run="bart") == 0
    assert re.search(r"\nnats by kind: copied \d\.\d{3}, hidden \d\.\d{3}\n", capsys.readouterr().out)
    assert train("causal", run="other") == 0
    assert "by kind" not in capsys.readouterr().out


def test_masks_are_filled_in_an_order_and_only_encoders_have_one(trained, capsys):
    trained("masked")
    assert main(["fill", "run", "Document ___ says ___", "--order", "left_to_right"]) == 0
    refused(capsys, ["fill", "run", "Document ___", "--order", "alphabetical"], "order must be one of all")
    trained("fim", run="fim")
    refused(capsys, ["fill", "fim", "Document ___", "--order", "all"], "--order is for encoders")


def test_options_reach_the_objective_and_the_run_folder():
    assert train("masked", "--mask-rate", "0.4", "--scheme", "bernoulli") == 0
    objective = load_run("run").objective
    assert objective.mask_rate == 0.4
    assert objective.scheme == "bernoulli"


def test_a_corpus_is_packed_once_and_trained_on(capsys):
    assert main(["pack", "--corpus", "corpus.jsonl", "--out", "packed", "--vocab-size", "400"]) == 0
    assert "in 1 shard: clozelab train --corpus packed" in capsys.readouterr().out
    assert main(["train", "--corpus", "packed", "--steps", "2", "--run", "run", "--batch-size", "4"]) == 0
    assert main(["train", "--run", "run", "--resume"]) == 0
    assert main(["pack", "--corpus", "corpus.jsonl", "--out", "packed", "--vocab-size", "420"]) == 2
    assert "packed holds another corpus" in capsys.readouterr().err
    assert main(["pack", "--corpus", "builtin", "--out", "elsewhere"]) == 2
    assert "only tables, folders of tables, and hub names" in capsys.readouterr().err
    for flag in ("--vocab-size", "--sentinels"):
        words = ["train", "--corpus", "packed", "--steps", "2", "--run", "other", flag, "17"]
        refused(capsys, words, f"{flag} 17 would have no effect: the corpus was packed with a tokenizer")
    refused(capsys, ["compare", "--corpus", "packed", "--vocab-size", "17"], "--vocab-size 17 would have no effect")
    refused(capsys, ["compare", "--skip-bad-rows"], "--skip-bad-rows would have no effect: the builtin corpus")


def test_a_run_with_few_sentinels_is_used(capsys):
    """Loading its tokenizer once added the usual hundred, which the model does not know."""
    assert train("span", "--sentinels", "10") == 0
    assert main(["fill", "run", "Document ___ says"]) == 0


def test_a_text_that_does_not_fit_the_command_is_refused(trained, capsys):
    trained("fim")
    refused(capsys, ["fill", "run", "no blanks"], "expected a text with blanks written ___")
    refused(capsys, ["generate", "run", "a ___"], "which clozelab fill fills")
    refused(capsys, ["fill", "run", "a ___", "--temperature", "0"], "temperature")
    refused(capsys, ["fill", "nowhere", "a ___"], "holds no run")
    refused(capsys, ["train", "--run", "nowhere", "--resume"], "holds no run")


def test_weights_that_are_no_numbers_are_never_saved(capsys):
    assert train("causal", "--learning-rate", "1e38", "--checkpoint-every", "1", steps="3") == 1
    error = capsys.readouterr().err
    assert "some weights are infinite or NaN, so they were not saved" in error or "the loss is nan" in error
    assert "Traceback" not in error
    assert not list(Path("run/checkpoints").glob("step-*")) if Path("run/checkpoints").exists() else True


def test_a_reader_who_leaves_does_not_end_the_training(monkeypatch):
    """`2>&1 | head -1`: nothing reads what the run says."""
    read, write_end = os.pipe()
    os.close(read)
    monkeypatch.setattr(sys, "stderr", os.fdopen(write_end, "w"))
    assert train("causal", steps="4") == 0
    assert [path.name for path in Path("run/checkpoints").iterdir()] == ["step-00000004"]
    monkeypatch.undo()


@pytest.mark.parametrize(
    ("text", "parts", "told"),
    [
        ("a ___ b", [("a", False), (" cat", True), (" b", False)], ""),
        ("a ___ b", [("a b", False)], "the model filled the blank with nothing, as if no word were missing\n"),
        (
            "a ___ b ___",
            [("a b", False), (" c", True)],
            "the model filled 1 of 2 blanks with nothing, as if no word were missing\n",
        ),
        (
            "___ b ___",
            [(" ", True), (" b", False)],
            "the model filled 2 of 2 blanks with nothing, as if no word were missing\n",
        ),
        ("a ___ ___", [("a", False), (" b", True)], ""),
    ],
)
def test_a_blank_that_is_filled_with_nothing_is_told(text, parts, told, trained, capsys, monkeypatch):
    trained("span")
    monkeypatch.setattr(SpanCorruption, "complete", lambda *_, **__: Completion(tuple(parts)))
    capsys.readouterr()
    assert main(["fill", "run", text]) == 0
    captured = capsys.readouterr()
    assert captured.out == "".join(part for part, _ in parts) + "\n"
    assert captured.err == told
