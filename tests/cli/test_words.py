"""The words of a command line: flags anywhere, numbers, what does not exist, help."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from clozelab.cli import COMMANDS, main, values
from clozelab.cli.parsing import parse
from clozelab.objectives import OBJECTIVES

from .commands import refused


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("generate run 'The old' --tokens 5", {"run": Path("run"), "prompt": "The old", "tokens": 5}),
        ("generate run --tokens 5 'The old'", {"run": Path("run"), "prompt": "The old", "tokens": 5}),
        ("generate --tokens 5 run 'The old'", {"run": Path("run"), "prompt": "The old", "tokens": 5}),
        ("generate run '- an item'", {"run": Path("run"), "prompt": "- an item"}),
        ("generate run -5", {"run": Path("run"), "prompt": "-5"}),
        ("generate run -- -x", {"run": Path("run"), "prompt": "-x"}),
        ("generate -- run -x", {"run": Path("run"), "prompt": "-x"}),
        ("generate run --", {"run": Path("run"), "prompt": ""}),
        ("generate run -- --", {"run": Path("run"), "prompt": "--"}),
        ("generate --tokens 5 -- run --tokens", {"run": Path("run"), "prompt": "--tokens", "tokens": 5}),
        ("fill --greedy run '___ x' --seed 3", {"run": Path("run"), "text": "___ x", "greedy": True, "seed": 3}),
        ("show --seed 3 -- --seed", {"text": "--seed", "seed": 3}),
        ("check --skip a b -- mine:scheme", {"target": "mine:scheme", "skip": ["a", "b"]}),
        ("check mine:scheme --skip a b --rate 0.1", {"target": "mine:scheme", "skip": ["a", "b"], "rate": 0.1}),
        ("course 3 --folder x", {"lesson": 3, "folder": Path("x")}),
        ("completion zsh", {"shell": "zsh"}),
        ("train --run=-x --steps 2e3 --length 1k", {"run": Path("-x"), "steps": 2000, "length": 1000}),
        ("pack --out a --workers 2 --column b", {"out": Path("a"), "workers": 2, "column": "b"}),
        ("compare --objectives causal masked --tokens 1.5M", {"objectives": ["causal", "masked"], "tokens": 1_500_000}),
        ("floors --steps 0.5k --objectives span", {"steps": 500, "objectives": ["span"]}),
        ("plan --params 7b --tokens 1T --vocab-size 32k", {"params": 7e9, "tokens": 1e12, "vocab_size": 32_000}),
    ],
)
def test_flags_stand_anywhere_and_words_behind_two_dashes_are_text(line, meant):
    name, *words = shlex.split(line)
    assert parse(name, COMMANDS[name], words)[1] == meant


@pytest.mark.parametrize("text", ["1e3", "1000", "1k", "1K", "0.001M", "1_000", "1000.0"])
def test_a_count_is_written_in_any_way(text):
    assert parse("train", COMMANDS["train"], ["--steps", text])[1] == {"steps": 1000}


def test_a_count_is_exact():
    assert values.whole("9007199254740993") == 2**53 + 1


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
    *most, last = [name for name, cls in OBJECTIVES.items() if option in cls.declared_options()]
    return f"{', '.join(most)} and {last}" if most else last


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
        (["train", "--objective", "masked", "--mask-rate", "1.5"], r"clozelab: --mask-rate must lie in \(0, 1\]"),
        (
            ["train", "--objective", "top", "--window", "0"],
            r"clozelab: --window must lie in \[1, 64\], got 0 \(see clozelab train --objective top --help\)",
        ),
        (
            ["show", "x", "--objective", "bart", "--mask-rat", "1"],
            "did you mean --mask-rate. .see clozelab show --objective bart --h",
        ),
        (["train", "--z-loss", "-1"], r"got -1.0 \(see clozelab train --objective causal --help\)"),
        (["train", "--steps", "x"], r"got 'x' \(see clozelab train --help\)"),
        (["train", "--stepz", "3"], "there is no option --stepz: did you mean --steps"),
        (["compare", "--mask-rate", "0.3"], "there is no option --mask-rate"),
        (["train", "--objective", "diffusoin"], "there is no objective 'diffusoin': did you mean diffusion"),
        (["train", "--objective", "x"], "there is no objective 'x': choose from causal, masked"),
        (["tarin"], "there is no command 'tarin': did you mean train"),
        (["show"], "missing: text .see clozelab show --help"),
        (["compare", "--objectives", "causal", "causal"], "names causal twice"),
        (["generate", "run", "--temperature", "0"], "--temperature: expected a number above 0 .--greedy"),
        (["compare", "--tokens", "nan"], "--tokens: expected a number of tokens of at least 1"),
        (["generate", "run", "--tokens", "1M"], "--tokens: expected a whole number from 1 to 100000, got '1M'"),
        (["TRAIN"], "there is no command 'TRAIN': did you mean train"),
        (["--steps", "3", "train"], "expected a command, got '--steps': flags come after it"),
        (["--"], "expected a command, got '--'"),
        (["train", "--objective", "GPT"], "there is no objective 'GPT': did you mean causal"),
        (["train", "--objective=", "--steps", "3"], "there is no objective '': choose from"),
        (["compare", "--objectives", "causal,masked"], "got 'causal,masked': separate them by spaces"),
        (["compare", "--objectives", "causal", "--objectives", "span"], "given twice: give it all its values at once"),
        (["train", "--steps", "3", "--steps=4"], "--steps is given twice: leave one out"),
        (["train", "--objective", "diffusion", "--exact-count", "--no-exact-count"], "contradict each other"),
        (["train", "--objective", "masked", "--mask-rate=30%"], "--mask-rate: expected a number, got '30%'"),
        (["train", "--steps="], "--steps: expected a whole number of at least 1, as 2000 or 2k, got ''"),
        (["train", "--steps", "1e-3"], "--steps: expected a whole number"),
        (["train", "--steps", "1e99999999"], "--steps: expected a whole number"),
        (["train", "--minutes", "5m"], "--minutes: expected a number above 0, got '5m'"),  # not five million
        (["train", "-steps", "3"], "there is no option -steps: did you mean --steps"),
        (["train", "-s", "3"], "there is no option -s .see"),
        (["train", "--tokens", "3"], "--tokens is an option of compare, plan and generate, which train does not have"),
        (["train", "--resume=yes"], "--resume takes no value, got 'yes'"),
        (["train", "--optimizer", "AdamW"], "expected one of muon, adamw, got 'AdamW': did you mean adamw"),
        (["train", "--run", "-x"], "--run needs a value; one that begins with - is given as --run=-x"),
        (["train", "--run", "--resume"], "--run needs a value .see"),
        (["train", "--resume", "--extend", "3"], "exclude each other: leave one out"),
        (["train", "corpus.jsonl"], "unexpected argument 'corpus.jsonl' .see"),
        (["generate", "run", "-hello"], "there is no option -hello; a text that begins with - stands behind --"),
        (["fill", "- a ___"], "missing: text"),
        (["show", "-x"], "there is no option -x; a text that begins with - stands behind --"),
        (["show", "the", "cat"], "unexpected argument 'cat': a text of several words stands in quotes"),
        (["check", "--skip", "a", "mine:scheme"], "missing: target .a list as that of --skip ends at the next option"),
        (["generate", "", "x"], "run: expected a path, got ''"),
        (["completion", "fish"], "shell: expected one of bash, zsh, got 'fish'"),
    ],
)
def test_what_does_not_exist_is_refused_by_name(words, message, capsys):
    refused(capsys, words, message)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=str)
def test_help_is_helpful(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith("usage: clozelab")
    assert not re.search(r"default: \)|default: None|\d0000\.0|\0", printed)


def test_no_command_prints_the_help(capsys):
    assert main([]) == 2
    assert "usage: clozelab" in capsys.readouterr().out


def test_help_wins_over_a_flag_that_does_not_exist(capsys):
    for words in (["--stepz", "3", "--help"], ["-h", "--stepz"]):
        with pytest.raises(SystemExit) as stopped:
            main(["train", *words])
        assert stopped.value.code == 0
        assert capsys.readouterr().out.startswith("usage: clozelab train")


def test_help_does_not_load_what_it_does_not_need():
    """In another process, since this one has loaded everything; `python -m clozelab` is the command line too."""
    code = "import runpy, sys\ntry: runpy.run_module('clozelab', run_name='__main__')\n"
    code += "except SystemExit: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "train", "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: clozelab train")
    assert done.stdout.splitlines()[-1] == "False"
