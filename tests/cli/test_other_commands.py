"""The commands that need no corpus: floors, check, plan, show."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers

from clozelab.cli import main
from clozelab.evaluation.floor_experiment import train_to_entropy_floor
from clozelab.objectives import OBJECTIVES
from clozelab.training import estimate


def test_floors_trains_the_objectives_that_are_named_and_says_how_long_it_takes(monkeypatch, capsys):
    monkeypatch.setitem(train_to_entropy_floor.__kwdefaults__, "rows", 100)  # of the 4000 that are measured on
    monkeypatch.setattr(estimate, "AFTER", 0.0)
    monkeypatch.setattr(estimate, "WORTH", 0.0)
    assert main(["floors", "--objectives", "causal", "prefix", "--steps", "3", "--out", "out"]) == 0
    assert [row["objective"] for row in json.loads(Path("out/floors.json").read_text())] == ["causal", "prefix"]
    assert Path("out/floors.png").read_bytes()[:4] == b"\x89PNG"
    assert re.search(r"\d+ s left .*, \d+ s for all runs if the others are as fast", capsys.readouterr().err)


@pytest.mark.slow  # four interpreters; 30 s
def test_floors_side_by_side_are_those_one_by_one():
    words = [
        sys.executable,
        "-m",
        "clozelab",
        "floors",
        "--objectives",
        "causal",
        "masked",
        "--steps",
        "3",
        "--seeds",
        "2",
    ]
    for processes in ("1", "2"):
        subprocess.run([*words, "--processes", processes, "--out", processes], check=True)
    one, two = (json.loads(Path(out, "floors.json").read_text()) for out in ("1", "2"))
    assert [(row["objective"], row["seed"]) for row in two] == [(row["objective"], row["seed"]) for row in one]
    assert [row["nats"] for row in two] == pytest.approx([row["nats"] for row in one], rel=1e-6)


def test_check_takes_an_objective_by_its_name(capsys):
    long = ["corruption", "likelihood", "noise", "reads", "documents", "answers"]
    assert main(["check", "--skip", *long, "--", "prefix"]) == 0
    assert "PrefixLM: 14 passed, 0 failed, 6 not checked" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["causal", "span"])
def test_plan_takes_an_objective_and_its_options(name, capsys):
    assert (
        main(["plan", "--objective", name, "--z-loss", "0", "--size", "tiny", "--length", "64", "--tokens", "1M"]) == 0
    )
    assert name in capsys.readouterr().out


def test_show_draws_every_objective(capsys):
    assert main(["show", "Thank you for inviting me to your party last week ."]) == 0
    printed = capsys.readouterr().out
    assert "10 of 11 outputs are in the loss" in printed  # causal: the last token predicts nothing
    assert printed.count("predicts ") >= 2 * len(OBJECTIVES)  # in the title and in the lines
    for name in OBJECTIVES:
        assert f"{name} (" in printed


def test_show_leaves_out_what_a_tokenizer_is_not_enough_for(capsys, tmp_path):
    """Without marks in its vocabulary no sentence has an end, and BART cannot move any."""
    file = tmp_path / "tokenizer.json"
    letters = {letter: n for n, letter in enumerate(" achest")}
    tokenizers.Tokenizer(tokenizers.models.BPE(letters, [])).save(str(file))
    assert main(["show", "the cat sat", "--tokenizer", str(file)]) == 0
    printed = capsys.readouterr()
    assert "bart is left out: sentences need to be known" in printed.err
    assert "causal (" in printed.out
    assert "bart (" not in printed.out
    for text, more, error in (
        ("the cat", ["--objective", "bart"], "--no-permute-sentences"),
        ("", [], "text is empty"),
    ):
        assert main(["show", text, "--tokenizer", str(file), *more]) == 2
        assert error in capsys.readouterr().err.splitlines()[-1]


def test_show_writes_a_page_with_four_seeds(capsys, tmp_path):
    words = ["show", "the cat sat on the mat", "--objective", "masked", "--mask-rate", "0.4", "--seed", "7"]
    assert main([*words, "--html", str(tmp_path / "page.html")]) == 0
    assert re.fullmatch(r"\S+page.html: \d+ kB, to be opened in a browser\n", capsys.readouterr().out)
    page = (tmp_path / "page.html").read_text()
    assert '"seeds":[7,8,9,10]' in page
    assert '"rate":{"name":"mask_rate","values":[0.15,0.3,0.4,0.5,0.8],"first":2}' in page
    assert main([*words, "--html", str(tmp_path)]) == 2
    assert "expected the path of a file for the page" in capsys.readouterr().err


def test_show_names_the_objectives_of_which_another_seed_shows_another_row(capsys):
    assert main(["show", "Thank you for inviting me to your party last week .", "--seed", "3"]) == 0
    [hint] = [line for line in capsys.readouterr().out.splitlines() if "--seed" in line]
    assert hint.startswith("drawn with --seed 3: another seed shows another row of masked")
    assert main(["show", "the cat sat on the mat", "--objective", "causal"]) == 0
    assert "--seed" not in capsys.readouterr().out
