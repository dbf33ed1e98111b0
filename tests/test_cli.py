"""The command line: one command from text to a trained model, one clear line for whatever is wrong."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from clozelab.cli import COMMANDS, main
from clozelab.course import Result
from clozelab.models import PRESETS
from clozelab.objectives import OBJECTIVES
from clozelab.training import load_run, read_metrics

DOCUMENTS = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}, which is odd." for n in range(300)]
FAST = ["--length", "32", "--batch-size", "4", "--vocab-size", "400"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A folder for what several tests use: the cache, and a finished run of each objective."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, shared, monkeypatch):
    """A folder of its own, and models of one block."""
    for sizes in PRESETS.values():
        monkeypatch.setitem(sizes, "tiny", {"d_model": 32, "n_layers": 1, "n_heads": 2})
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CLOZELAB_CACHE", str(shared / "cache"))
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps({"text": d}) + "\n" for d in DOCUMENTS))


def train(objective, *more, run="run", steps="6"):
    return main(
        ["train", "--objective", objective, "--corpus", "corpus.jsonl", "--steps", steps, "--run", run, *FAST, *more]
    )


@pytest.fixture
def trained(shared):
    """`trained("causal")`: `run` holds a finished run of six steps, a copy of one that all tests share."""

    def copied(objective, run="run"):
        if not (shared / objective).exists():
            assert train(objective, run=str(shared / objective)) == 0
        shutil.copytree(shared / objective, run)

    return copied


USES = {
    "continue": ["generate", "run", "--tokens", "8", "Document 7"],
    "fill": ["fill", "run", "--greedy", "Document ___ says that"],
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_objective_is_trained_and_used_for_what_it_completes_and_refused_for_the_rest(name, capsys):
    assert train(name) == 0
    assert re.search(rf"{name}: held-out loss \d\.\d+ nats per predicted token", capsys.readouterr().out)
    for use, words in USES.items():
        if use in OBJECTIVES[name].completes:
            assert main(words) == 0
            assert "Document" in capsys.readouterr().out
        else:
            refused(capsys, words, rf"run holds a model of the {name} objective, which does not {use}.*clozelab")


def test_a_run_ends_with_its_loss_by_kind_of_row_where_the_class_has_kinds(capsys):
    assert train("diffusion") == 0
    printed = capsys.readouterr().out
    assert re.search(r"\nnats by kind of row: hidden \d+\.\.\d+ \d\.\d{3}(, \d+\.\.\d+ \d\.\d{3}){5}\n", printed)
    assert train("causal", run="other") == 0
    assert "by kind" not in capsys.readouterr().out


def test_a_flag_may_stand_between_run_and_text(trained, capsys):
    trained("causal")
    printed = []
    for words in (["run", "Document 7", "--tokens", "5"], ["run", "--tokens", "5", "Document 7"]):
        capsys.readouterr()
        assert main(["generate", *words]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_masks_are_filled_in_an_order_and_only_encoders_have_one(trained, capsys):
    trained("masked")
    assert main(["fill", "run", "Document ___ says ___", "--order", "left_to_right"]) == 0
    refused(capsys, ["fill", "run", "Document ___", "--order", "alphabetical"], "order must be one of all")
    trained("fim", run="fim")
    refused(capsys, ["fill", "fim", "Document ___", "--order", "all"], "--order is for encoders")


# ------------------------------------------------------------------ options of objectives


@pytest.mark.parametrize("name", OBJECTIVES)
def test_help_of_an_objective_lists_its_options(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--objective", name, "--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert f"options of {name}:" in printed
    for option in OBJECTIVES[name].declared_options():
        assert f"--{option.replace('_', '-')}" in printed


def owners(option):
    """The objectives that have an option, as a message lists them."""
    return " and ".join(name for name, cls in OBJECTIVES.items() if option in cls.declared_options())


def test_options_reach_the_objective_and_the_run_folder():
    assert train("masked", "--mask-rate", "0.4", "--scheme", "bernoulli") == 0
    objective = load_run("run").objective
    assert objective.mask_rate == 0.4
    assert objective.scheme == "bernoulli"


def test_an_option_that_is_switched_off_is_resumed_so(capsys):
    assert train("diffusion", "--no-exact-count", "--checkpoint-every", "2") == 0
    assert main(["train", "--run", "run", "--resume"]) == 0
    assert load_run("run").objective.exact_count is False
    refused(capsys, ["train", "--objective", "diffusion", "--exact-count", "--run", "run", "--resume"], "not True")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["train", "--mask-rate", "0.3"],
            f"--mask-rate is an option of {owners('mask_rate')}; causal has --label-smoo",
        ),
        (["train", "--no-exact-count"], f"--no-exact-count is an option of {owners('exact_count')}; causal has"),
        (["show", "x y", "--mask-rate=0.3"], f"of {owners('mask_rate')}: choose one, as --objective masked"),
        (["plan", "--objective", "prefix", "--fim-rate", "1"], f"an option of {owners('fim_rate')}; prefix has"),
        (["train", "--noise-density", "0.3", "--objective", "masked"], f"is an option of {owners('noise_density')}"),
        (["train", "--objective", "masked", "--mask-rate", "1.5"], r"--mask-rate: mask_rate must lie in \(0, 1\]"),
        (["train", "--stepz", "3"], "there is no option --stepz: did you mean --steps"),
        (["compare", "--mask-rate", "0.3"], "there is no option --mask-rate"),
        (["train", "--objective", "diffusoin"], "there is no objective 'diffusoin': did you mean diffusion"),
        (["train", "--objective", "x"], "there is no objective 'x': choose from causal, masked"),
        (["tarin"], "there is no command 'tarin': did you mean train"),
        (["show"], "arguments are required: text .see clozelab show --help"),
        (["compare", "--objectives", "causal", "causal"], "names causal twice"),
        (["generate", "run", "--temperature", "0"], "--temperature: expected a number above 0 .--greedy"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(words, message, capsys):
    refused(capsys, words, message)


def test_a_run_is_resumed_as_it_was_described(capsys):
    assert train("span", "--noise-density", "0.3", "--checkpoint-every", "2") == 0
    assert main(["train", "--run", "run", "--resume"]) == 0
    assert train("span", "--noise-density", "0.3", "--resume") == 0
    assert load_run("run").objective.noise_density == 0.3
    assert train("span", "--noise-density", "0.2", "--resume") == 2
    assert "was begun with --noise-density 0.3, not 0.2" in capsys.readouterr().err
    assert [line["step"] for line in read_metrics("run/metrics.jsonl") if "loss" in line] == list(range(1, 7))


def test_a_streamed_run_is_resumed_with_another_number_of_workers(capsys):
    assert train("masked", "--stream", "--checkpoint-every", "4") == 0
    assert main(["train", "--run", "run", "--resume", "--workers", "1"]) == 0
    assert train("masked", "--stream", "--split", "position", run="other") == 2
    assert 'can only be split by "hash"' in capsys.readouterr().err
    assert train("masked", "--workers", "1", run="other") == 2
    assert "without --stream" in capsys.readouterr().err


def test_a_corpus_is_packed_once_and_trained_on(capsys):
    assert main(["pack", "--corpus", "corpus.jsonl", "--out", "packed", "--vocab-size", "400"]) == 0
    assert "in 1 shards: clozelab train --corpus packed" in capsys.readouterr().out
    assert main(["train", "--corpus", "packed", "--steps", "2", "--run", "run", "--batch-size", "4"]) == 0
    assert main(["train", "--run", "run", "--resume"]) == 0
    assert main(["pack", "--corpus", "corpus.jsonl", "--out", "packed", "--vocab-size", "420"]) == 2
    assert "packed holds another corpus" in capsys.readouterr().err
    assert main(["pack", "--corpus", "builtin", "--out", "elsewhere"]) == 2
    assert "only tables, folders of tables, and hub names" in capsys.readouterr().err


def test_compare_ends_in_a_table_a_file_and_a_picture(capsys):
    assert main(["compare", "--corpus", "corpus.jsonl", "--tokens", "3000", "--out", "out", *FAST]) == 0
    printed = capsys.readouterr().out
    for word in ("hides", "reads", "in the loss", "unigram guess", "uniform guess", "tokens a second"):
        assert word in printed
    rows = json.loads(Path("out/comparison.json").read_text())
    assert [row["objective"] for row in rows] == ["causal", "masked", "span"]
    assert all(row["heldout"]["nats"] > 0 and row["unigram"] < row["uniform"] for row in rows)
    assert max(row["tokens"] for row in rows) < 1.1 * min(row["tokens"] for row in rows)
    assert Path("out/comparison.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["compare", "--corpus", "corpus.jsonl", "--tokens", "3000", "--out", "out", *FAST]) == 2


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
    assert sum("by kind of row" in line for line in lines) == 1
    assert [list(row["heldout"]["bins"]) for row in rows] == [[], ["hidden"], [], []]


def test_floors_trains_the_objectives_that_are_named(capsys):
    assert main(["floors", "--objectives", "causal", "prefix", "--steps", "2", "--out", "out"]) == 0
    assert [row["objective"] for row in json.loads(Path("out/floors.json").read_text())] == ["causal", "prefix"]
    assert Path("out/floors.png").read_bytes()[:4] == b"\x89PNG"


def test_check_takes_an_objective_by_its_name(capsys):
    assert main(["check", "prefix"]) == 0
    assert "PrefixLM: " in capsys.readouterr().out


@pytest.mark.parametrize("name", OBJECTIVES)
def test_plan_takes_each_objective(name, capsys):
    assert main(["plan", "--objective", name, "--size", "tiny", "--length", "64", "--tokens", "1M"]) == 0
    assert name in capsys.readouterr().out


def test_amounts_have_suffixes(capsys):
    printed = []
    for params in ("2e8", "200M", "0.2B"):
        assert main(["plan", "--objective", "causal", "--params", params]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] == printed[2]


def test_show_draws_every_objective(capsys):
    assert main(["show", "Thank you for inviting me to your party last week ."]) == 0
    printed = capsys.readouterr().out
    assert "10 of 11 outputs are in the loss" in printed  # causal: the last token predicts nothing
    assert printed.count("predicts ") >= 2 * len(OBJECTIVES)  # in the title and in the lines
    for name in OBJECTIVES:
        assert f"{name} (" in printed


def test_show_names_the_objectives_of_which_another_seed_shows_another_row(capsys):
    assert main(["show", "Thank you for inviting me to your party last week .", "--seed", "3"]) == 0
    [hint] = [line for line in capsys.readouterr().out.splitlines() if "--seed" in line]
    assert hint.startswith("drawn with --seed 3: another seed shows another row of masked")
    assert main(["show", "the cat sat on the mat", "--objective", "causal"]) == 0
    assert "--seed" not in capsys.readouterr().out


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=str)
def test_help_is_helpful(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: clozelab")
    assert "(default: )" not in printed


def test_no_command_prints_the_help(capsys):
    assert main([]) == 2
    assert "usage: clozelab" in capsys.readouterr().out


def test_help_does_not_load_what_it_does_not_need():
    code = "import sys, clozelab.cli as c\ntry: c.main(sys.argv[1:])\nexcept SystemExit: print('torch' in sys.modules)"
    for words, loads in (
        (["--help"], "False"),
        (["train", "--help"], "False"),
        (["train", "--objective", "fim", "--help"], "True"),
    ):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == loads, words


def made_results(folder="results", numbers=("02", "01")):
    """A folder of results, as the scripts of the course write them."""
    for number in numbers:
        Result(
            lesson=number,
            script=f"{number}_a_lesson.py",
            title=f"Lesson {int(number)}",
            claim="[mask] tokens help",
            verdict="held in part",
            finding="0.25 ± 0.01 nats less | 5 runs",
            figures={"gap": [0.24, 0.26]},
            headings=["gap"],
            rows=[["0.25"]],
            seeds=[0, 1],
            seconds=75.0,
            arguments=[],
            torch="2.9.0",
        ).save(Path(folder))


def test_course_lists_what_was_measured(capsys):
    made_results()
    assert main(["course", "--folder", "results"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.index("01 Lesson 1 held in part 1.2") < printed.index("02 Lesson 2 held in part 1.2")
    assert "what was claimed and measured: clozelab course 1" in printed


def test_course_shows_one_lesson_and_how_to_run_it(capsys):
    """From any folder: those that came with the package."""
    assert main(["course", "13"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for word in ("13 What the knobs do", "claim: The knobs of masking", "measured: Against", "verdict: held in part"):
        assert word in printed
    assert re.search(r"to run it: python \S*/13_what_the_knobs_do\.py --fast", printed)


def test_course_prints_the_table_of_the_readme(capsys):
    made_results()
    assert main(["course", "--folder", "results", "--markdown"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4
    assert printed[0] == "| lesson | the claim | measured | verdict |"
    assert printed[2].startswith(
        "| [01 Lesson 1](examples/01_a_lesson.py) | [mask] tokens help | 0.25 ± 0.01 nats less"
    )
    assert all(line.replace("\\|", "").count("|") == 5 for line in printed)


# ------------------------------------------------------------------ bad input


REPORT = re.compile(r"\Acorpus .*\n(  .*\n)*")
"""What was found in the corpus, which is printed before it is refused for another reason."""


def refused(capsys, arguments, message):
    capsys.readouterr()  # what came before
    code = main(arguments)
    error = REPORT.sub("", capsys.readouterr().err)
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
        (
            lambda: ["--corpus", write("small.txt", b"The lamp is dark. " * 50), "--tokenizer", "characters"],
            "too little is held out: the text of 1 documents has 91 tokens, which does not fill one block of 128",
        ),
        (lambda: ["--corpus", "corpus.jsonl", "--column", "body"], r"no column 'body': it has 'text'"),
        (
            lambda: ["--corpus", "corpus.jsonl", "--objective", "span", "--noise-density", "1.0"],
            r"noise_density must lie in \(0, 1\)",
        ),
        (
            lambda: ["--corpus", "corpus.jsonl", "--objective", "masked", "--mask-rate", "-1"],
            r"mask_rate must lie in \(0, 1\]",
        ),
        (lambda: ["--corpus", "corpus.jsonl", "--objective", "span", "--sentinels", "2"], "sentinels are needed"),
        (lambda: ["--corpus", "corpus.jsonl", "--vocab-size", "100"], "vocab_size 100 is too small"),
        (
            lambda: ["--corpus", "corpus.jsonl", "--vocab-size", "300"],
            "need 359: take a larger vocab_size .--vocab-size., or fewer sentinels .--sentinels.",
        ),
        (lambda: ["--corpus", "corpus.jsonl", "--tokenizer", "nowhere.json"], "no tokenizer file"),
        (
            lambda: ["--corpus", "corpus.jsonl", "--steps", "0"],
            "--steps: expected a whole number of at least 1, got '0'",
        ),
        (
            lambda: ["--corpus", "corpus.jsonl", "--learning-rate", "inf"],
            "--learning-rate: expected a number above 0, got 'inf'",
        ),
        (lambda: ["--corpus", "corpus.jsonl", "--minutes", "nan"], "--minutes: expected a number above 0"),
        (lambda: ["--corpus", "corpus.jsonl", "--seed", "1" + "0" * 30], "--seed: expected a whole number from 0"),
        (lambda: ["--corpus", "corpus.jsonl", "--batch-size", "100000000"], "--batch-size: expected"),
        (lambda: ["--corpus", "corpus.jsonl", "--vocab-size", "1000000000"], "vocab_size must be at most"),
        (
            lambda: ["--corpus", "corpus.jsonl", "--objective", "span", "--mean-noise-span-length", "inf"],
            "mean_noise_span_length must be at least 1",
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
    refused(capsys, ["train", "--steps", "2", *make()], message)


def test_a_hub_name_without_network_is_one_line(capsys, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    refused(capsys, ["train", "--corpus", "nobody/nothing"], "could not be loaded from the hub")


def test_a_run_folder_that_holds_a_run_is_left_alone(trained, capsys):
    trained("masked")
    before = Path("run/metrics.jsonl").read_text()
    refused(
        capsys, ["train", "--objective", "masked", "--corpus", "corpus.jsonl", "--run", "run"], "already holds a run"
    )
    assert Path("run/metrics.jsonl").read_text() == before


def test_a_text_that_does_not_fit_the_command_is_refused(trained, capsys):
    trained("fim")
    refused(capsys, ["fill", "run", "no blanks"], "expected a text with blanks written ___")
    refused(capsys, ["generate", "run", "a ___"], "which clozelab fill fills")
    refused(capsys, ["fill", "run", "a ___", "--temperature", "0"], "temperature")
    refused(capsys, ["fill", "nowhere", "a ___"], "holds no run")
    refused(capsys, ["train", "--run", "nowhere", "--resume"], "holds no run")


def test_a_damaged_checkpoint_is_named(trained, capsys):
    trained("causal")
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


def test_course_without_results_is_one_line(capsys):
    refused(capsys, ["course", "--folder", "."], r"\. holds no results of lessons .*run a script of examples/ first")
    refused(capsys, ["course", "99"], "there is no result of a lesson 99: clozelab course lists them")
    refused(capsys, ["course", "x"], "expected the number of a lesson, got 'x'")
    refused(capsys, ["course", "--folder", "corpus.jsonl"], "corpus.jsonl holds no results")
    refused(capsys, ["course", "--folder", ""], "--folder: expected a path")


@pytest.mark.parametrize("more", [[], ["--markdown"]])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"lesson": "01"}'])
def test_course_names_a_damaged_result(content, more, capsys):
    made_results()
    write("results/02_a_lesson.json", content)
    refused(capsys, ["course", "--folder", "results", *more], "02_a_lesson.json is no result of a lesson")


def test_course_names_what_cannot_be_read(capsys):
    made_results()
    Path("results/03_a_folder.json").mkdir()
    refused(capsys, ["course", "--folder", "results"], "03_a_folder.json")
    Path("results/03_a_folder.json").rmdir()
    told = json.loads(Path("results/01_a_lesson.json").read_text())
    write("results/01_a_lesson.json", json.dumps({**told, "seconds": "long"}).encode())
    refused(capsys, ["course", "--folder", "results"], "01_a_lesson.json is no result of a lesson: seconds is 'long'")


def test_wrong_usage_is_one_line_too(capsys):
    refused(capsys, ["compare", "--tokens", "nan"], "--tokens: expected")
    refused(capsys, ["generate", "run", "--tokens", "100000000000"], "--tokens: expected")


# ------------------------------------------------------------------ nothing is lost


def test_files_that_are_of_no_run_are_left_alone(capsys):
    Path("mine").mkdir()
    for name in ("tokenizer.json", "metrics.jsonl"):
        write(f"mine/{name}", b"precious")
        refused(capsys, ["train", "--corpus", "corpus.jsonl", "--run", "mine", *FAST], f"holds a {name} that is of no")
        assert Path(f"mine/{name}").read_bytes() == b"precious"
        Path(f"mine/{name}").unlink()


def test_weights_that_are_no_numbers_are_never_saved(capsys):
    assert train("causal", "--learning-rate", "1e38", "--checkpoint-every", "1", steps="3") == 1
    error = capsys.readouterr().err
    assert "some weights are infinite or NaN, so they were not saved" in error or "the loss is nan" in error
    assert "Traceback" not in error
    assert not list(Path("run/checkpoints").glob("step-*")) if Path("run/checkpoints").exists() else True


def test_a_comparison_refuses_before_it_trains(capsys):
    refused(capsys, ["compare", "--corpus", "corpus.jsonl", "--sentinels", "0", "--out", "out", *FAST], "sentinels")
    assert not Path("out").exists()
    refused(capsys, ["compare", "--corpus", "corpus.jsonl", "--prompt", "\udcff", "--out", "out", *FAST], "character")
    assert not Path("out").exists()


def test_floors_refuses_before_it_trains(capsys):
    refused(capsys, ["floors", "--out", write("taken", b"")], "exists")


def test_a_reader_who_leaves_does_not_end_the_training():
    """`2>&1 | head -1`: nothing reads the progress bar."""
    command = [
        sys.executable,
        "-m",
        "clozelab",
        "train",
        "--corpus",
        "corpus.jsonl",
        "--steps",
        "4",
        "--run",
        "run",
    ]
    read, write_end = os.pipe()
    os.close(read)
    done = subprocess.run([*command, *FAST], stdout=subprocess.PIPE, stderr=write_end)
    os.close(write_end)
    assert done.returncode == 0
    assert [path.name for path in Path("run/checkpoints").iterdir()] == ["step-00000004"]


def test_output_for_a_terminal_that_knows_only_ascii():
    command = [sys.executable, "-m", "clozelab", "show", "caf\u00e9 \u4e16", "--objective", "causal"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert b"caf?" in done.stdout


# ------------------------------------------------------------------ a run that was tampered with


def test_a_run_with_few_sentinels_is_used(capsys):
    """Loading its tokenizer once added the usual hundred, which the model does not know."""
    assert train("span", "--sentinels", "10") == 0
    assert main(["fill", "run", "Document ___ says"]) == 0


def test_another_tokenizer_in_the_run_folder_is_found(trained, capsys):
    trained("causal")
    content = Path("run/tokenizer.json").read_text()
    Path("run/tokenizer.json").write_text(content.replace('"id":3', '"id": 3'))
    refused(capsys, ["generate", "run", "Document"], "is not the one that this model was trained with")


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
        lambda run: [run],
    ],
)
def test_a_damaged_description_is_one_line(trained, change, capsys):
    trained("causal")
    described = json.loads(Path("run/run.json").read_text())
    Path("run/run.json").write_text(json.dumps(change(described)))
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


def test_metrics_keep_what_they_cannot_read_and_nothing_stands_there_twice(trained, capsys):
    trained("causal")
    with open("run/metrics.jsonl", "ab") as file:
        file.write(b"\xff a note of the user's\n" + b'{"step": 9, "lo')
    for _ in range(3):
        assert main(["train", "--run", "run", "--resume"]) == 0
    lines = Path("run/metrics.jsonl").read_bytes().splitlines()
    assert b"\xff a note of the user's" in lines
    heldout = [line["step"] for line in read_metrics("run/metrics.jsonl") if "heldout" in line]
    assert heldout == [0, 6]


def test_a_stranger_among_the_checkpoints_is_passed_over(trained):
    trained("causal")
    Path("run/checkpoints/step-junk").mkdir()
    assert main(["generate", "run", "Document"]) == 0
