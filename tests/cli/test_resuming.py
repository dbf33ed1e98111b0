"""Runs that are continued, extended and started from, and folders that were tampered with."""

import json
import re
import shutil
from pathlib import Path

import pytest

from clozelab.cli import main
from clozelab.training import latest_checkpoint, load_run, read_metrics, read_run

from .commands import pasted, refused, stop_at, train, write


def printed(capsys):
    return capsys.readouterr().out


def test_a_run_is_resumed_as_it_was_described(capsys):
    assert train("span", "--noise-density", "0.3", "--checkpoint-every", "2") == 0
    assert main(["train", "--run", "run", "--resume"]) == 0
    assert train("span", "--noise-density", "0.3", "--resume") == 0
    assert load_run("run").objective.noise_density == 0.3
    assert train("span", "--noise-density", "0.2", "--resume") == 2
    assert "was begun with --noise-density 0.3, not 0.2" in capsys.readouterr().err
    assert [line["step"] for line in read_metrics("run/metrics.jsonl") if "loss" in line] == list(range(1, 7))


def test_an_option_that_is_switched_off_is_resumed_so(capsys):
    assert train("diffusion", "--no-exact-count", "--checkpoint-every", "2") == 0
    assert main(["train", "--run", "run", "--resume"]) == 0
    assert load_run("run").objective.exact_count is False
    refused(capsys, ["train", "--objective", "diffusion", "--exact-count", "--run", "run", "--resume"], "not True")


def test_a_streamed_run_is_resumed_with_another_number_of_workers(capsys):
    assert train("masked", "--stream", "--checkpoint-every", "4") == 0
    assert main(["train", "--run", "run", "--resume", "--workers", "1"]) == 0
    assert train("masked", "--stream", "--split", "position", run="other") == 2
    assert 'can only be split by "hash"' in capsys.readouterr().err
    assert train("masked", "--workers", "1", run="other") == 2
    assert "without --stream" in capsys.readouterr().err


def test_a_finished_run_says_so_and_is_extended(trained, capsys):
    trained("causal")
    assert main(["train", "--run", "run", "--resume"]) == 0
    assert "this run was finished before; train it further: clozelab train --run run --extend 6" in printed(capsys)
    assert main(["train", "--run", "run", "--extend", "10"]) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "run goes on from step 6 to 16: its learning rate rises from 0 to 0.03 once more, over 1 step, " in told
    assert "and falls to 0 over the last 8; the optimiser and the order of the text continue" in told
    assert load_run("run").step == 16
    assert main(["train", "--run", "run", "--resume"]) == 0
    assert "train it further: clozelab train --run run --extend 16" in printed(capsys)


def test_an_extension_that_is_stopped_is_resumed_and_no_run_is_extended_before_its_end(trained, capsys, monkeypatch):
    trained("causal")
    with monkeypatch.context() as patch:
        stop_at(patch, 2)
        assert main(["train", "--run", "run", "--extend", "4"]) == 130
    error = refused(capsys, ["train", "--run", "run", "--extend", "4"], "run is not finished, so it cannot be extended")
    [hint] = re.findall(r"continue it by (clozelab .*)", error)
    assert main(pasted(hint)) == 0
    assert load_run("run").step == 10
    refused(capsys, ["train", "--run", "nowhere", "--extend", "4"], "nowhere holds no run")
    refused(capsys, ["train", "--run", "run", "--extend", "4", "--steps", "9"], "was begun with --steps 6, not 9")


def test_an_extension_of_a_run_whose_description_was_altered_is_refused_before_the_corpus_is_read(trained, capsys):
    trained("causal")
    described = json.loads(Path("run/run.json").read_text())
    described["model"]["rotary_base"] = 3.0
    Path("run/run.json").write_text(json.dumps(described))
    Path("corpus.jsonl").unlink()
    for words in (["train", "--run", "run", "--extend", "4"], ["train", "--run", "run", "--resume"]):
        error = refused(capsys, words, r"run/run\.json is damaged: it is not what was written")
        assert "extended" not in error
        assert "another run" not in error
    refused(capsys, ["generate", "run", "Document"], r"run/run\.json is damaged")
    refused(capsys, [*BEGIN, *SIZES], r"run/run\.json is damaged")


def test_an_extended_run_whose_last_checkpoint_is_damaged_is_resumed_before_it_is_extended(trained, capsys):
    trained("causal")
    assert main(["train", "--run", "run", "--extend", "2"]) == 0
    weights = latest_checkpoint("run").path / "model.safetensors"
    write(weights, b"\0" + weights.read_bytes()[1:])
    error = refused(
        capsys,
        ["train", "--run", "run", "--extend", "3"],
        r"is damaged: model\.safetensors is not what was written; delete it to continue from step-00000006 by clozelab",
    )
    assert error.endswith("clozelab train --run run --resume, and extend the run once it is finished\n")
    assert "extend" not in refused(capsys, ["train", "--run", "run", "--resume"], "continue from step-00000006$")
    shutil.rmtree(weights.parent)
    assert main(["train", "--run", "run", "--resume"]) == 0
    assert main(["train", "--run", "run", "--extend", "3"]) == 0
    assert load_run("run").step == 11


def test_a_damaged_line_of_metrics_is_named_where_the_run_goes_on(trained, caplog):
    trained("causal")
    lines = Path("run/metrics.jsonl").read_bytes().splitlines(keepends=True)
    lines[2] = b"\0" * (len(lines[2]) - 1) + b"\n"
    Path("run/metrics.jsonl").write_bytes(b"".join(lines) + b'{"step": 7, "lo')  # cut off, as where a run is killed
    assert main(["train", "--run", "run", "--extend", "2"]) == 0
    assert "run/metrics.jsonl, line 3: damaged, or not of this run; kept there and not read" in caplog.text
    assert len(caplog.messages) == 1
    read_metrics("run/metrics.jsonl")
    assert len(caplog.messages) == 2
    assert Path("run/metrics.jsonl").read_bytes().splitlines(keepends=True)[2] == lines[2]


BEGIN = ["train", "--objective", "masked", "--init-from", "run", "--corpus", "corpus.jsonl", "--run", "new"]
SIZES = ["--length", "32", "--batch-size", "4", "--steps", "2"]


def test_a_run_begins_with_anothers_weights_and_is_resumed_without_them(trained, capsys, monkeypatch):
    trained("causal")
    with monkeypatch.context() as patch:
        stop_at(patch, 1)
        assert main([*BEGIN, *SIZES]) == 130
    shutil.rmtree("run")
    assert main(["train", "--run", "new", "--resume"]) == 0
    new = load_run("new")
    assert (new.objective.name, new.step, new.model.config.d_model) == ("masked", 2, 16)
    assert read_run("new")["init_from"]["objective"] == "causal"
    assert main(["train", "--run", "new", "--extend", "1"]) == 0


def test_weights_of_an_encoder_decoder_fit_no_decoder(trained, capsys):
    trained("span")
    words = ["train", "--init-from", "run", "--corpus", "corpus.jsonl", "--run", "new", *SIZES]
    refused(capsys, words, r"weights of run \(encoder-decoder\) do not fit this model \(decoder-only\)")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--objective=span"], r"weights of run \(decoder-only\) do not fit this model \(encoder-decoder\)"),
        (
            ["--objective=fim"],
            "tokenizer of run has no id for 'fim_prefix', which the fim objective.*clozelab pack",
        ),
        (
            ["--size", "small"],
            "--size small would have no effect: the model and the tokenizer are those of --init",
        ),
        (["--vocab-size", "300"], "--vocab-size 300 would have no effect"),
        (["--mask", "5"], "--mask 5 would have no effect: the model and the tokenizer are those of --init-from"),
        (["--tokenizer", "characters"], "--tokenizer characters would have no effect"),
        (["--resume"], "--init-from and --resume exclude each other|--resume and --init-from exclude each other"),
    ],
)
def test_weights_that_do_not_fit_are_refused_before_a_run_begins(trained, words, message, capsys):
    trained("causal")
    objective = words[0].startswith("--objective")
    begin = [word for word in BEGIN if not (objective and word in ("--objective", "masked"))]
    refused(capsys, [*begin, *SIZES, *words], message)
    assert not Path("new").exists()


def test_a_run_folder_that_holds_a_run_is_left_alone(trained, capsys):
    trained("masked")
    before = Path("run/metrics.jsonl").read_text()
    refused(
        capsys, ["train", "--objective", "masked", "--corpus", "corpus.jsonl", "--run", "run"], "already holds a run"
    )
    assert Path("run/metrics.jsonl").read_text() == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--steps", "7"], "--steps 6, not 7"),
        (["--sentinels", "3"], "--sentinels 100, not 3"),
        (["--tokenizer", "other.json"], "--tokenizer bpe, not other.json"),
        (["--objective", "masked"], "--objective causal, not masked"),
    ],
)
def test_a_resumed_run_continues_as_it_began(trained, flags, message, capsys):
    trained("causal")
    refused(capsys, ["train", "--run", "run", "--resume", *flags], message)


@pytest.mark.parametrize(
    "change",
    [
        lambda run: {**run, "description": None},
        lambda run: {**run, "description": {"command": "x"}},
        lambda run: {**run, "description": {"command": {**run["description"]["command"], "steps": "abc"}}},
        lambda run: {**run, "description": {"command": {**run["description"]["command"], "objective": "zzz"}}},
        lambda run: {**run, "description": {"command": {**run["description"]["command"], "unheard_of": 1}}},
        lambda run: {**run, "format": 99},
    ],
)
def test_a_description_that_makes_no_run_is_one_line(trained, change, write_run, capsys):
    """Also where its checksum is right."""
    trained("causal")
    write_run("run", change(read_run("run")))
    refused(capsys, ["train", "--run", "run", "--resume"], "run")


@pytest.mark.parametrize(
    "change",
    [
        lambda state: {key: value for key, value in state.items() if key != "seconds"},
        lambda state: {**state, "param_groups": []},
        lambda state: {**state, "param_groups": None},
        lambda state: {**state, "step": 10**9},
        lambda state: {**state, "step": -5},
    ],
)
def test_a_damaged_state_is_one_line(trained, change, capsys):
    trained("causal")
    path = Path("run/checkpoints/step-00000006/state.json")
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    refused(capsys, ["train", "--run", "run", "--resume"], "damaged")


def test_a_damaged_checkpoint_is_named(trained, capsys):
    trained("causal")
    [weights] = Path("run/checkpoints").glob("*/model.safetensors")
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 255
    write(weights, content)
    refused(capsys, ["generate", "run", "Document"], "is damaged: model.safetensors is not what was written")
    refused(capsys, ["train", "--run", "run", "--resume"], "is damaged")


def test_another_tokenizer_in_the_run_folder_is_found(trained, capsys):
    trained("causal")
    content = Path("run/tokenizer.json").read_text()
    Path("run/tokenizer.json").write_text(content.replace('"id":3', '"id": 3'))
    message = "is not the one that this model was trained with"
    refused(capsys, ["generate", "run", "Document"], message)
    refused(capsys, ["train", "--run", "run", "--resume"], message)
    refused(capsys, [*BEGIN, *SIZES], message)


def test_metrics_keep_what_they_cannot_read_and_nothing_stands_there_twice(trained, capsys):
    trained("causal")
    with open("run/metrics.jsonl", "ab") as file:
        file.write(b"\xff a note of the user's\n" + b'{"step": 9, "lo')
    for _ in range(3):
        assert main(["train", "--run", "run", "--resume"]) == 0
    lines = Path("run/metrics.jsonl").read_bytes().splitlines()
    assert b"\xff a note of the user's" in lines
    heldout = [line["step"] for line in read_metrics("run/metrics.jsonl") if "heldout" in line]
    assert heldout == [6]


def test_a_stranger_among_the_checkpoints_is_passed_over(trained):
    trained("causal")
    Path("run/checkpoints/step-junk").mkdir()
    assert main(["generate", "run", "Document"]) == 0
