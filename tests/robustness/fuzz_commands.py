"""Command lines with words that cannot be meant: one line and exit code 2, or a command that does what it says."""

import contextlib
import io
import json
import os
import random
import re
import shlex
from collections import Counter
from pathlib import Path

from clozelab.cli import COMMANDS, main
from clozelab.cli.parsing import Parser
from clozelab.models import presets
from clozelab.objectives import OBJECTIVES

SMALL = "--length 16 --batch-size 2 --vocab-size 400"
RIGHT = [
    f"train --corpus corpus.jsonl --run new --steps 1 --sample-every 0 --eval-every 0 {SMALL}",
    f"train --corpus corpus.jsonl --run new --steps 1 --stream --checkpoint-every 0 --sample-every 0 {SMALL}",
    "train --run run --resume",
    "train --run run --resume --seed 0",
    "pack --corpus corpus.jsonl --out packed --vocab-size 400 --workers 1",
    f"compare --corpus corpus.jsonl --objectives causal --tokens 64 --out compared {SMALL}",
    "floors --objectives causal --steps 1 --seeds 1 --out floors",
    "show 'the cat sat' --objective masked --seed 1 --length 8",
    "show 'the cat sat' --objective span --noise-density 0.3",
    "plan --objective causal --size tiny --length 64 --tokens 1M --devices 2",
    "plan --objective span --params 1e8 --noise-density 0.2 --mean-noise-span-length 2 --kind cuda",
    "generate run 'Document 7' --tokens 2 --temperature 0.5 --top-k 3 --seed 1",
    "generate run 'Document 7' --tokens 2 --greedy",
    "fill run 'Document ___ says' --greedy",
    "check ok.py:one",
    "course --folder folder",
    "completion bash",
]
WORDS = [
    "",
    " ",
    "x",
    "-1",
    "0",
    "1",
    "nan",
    "inf",
    "1e999",
    "9" * 20,
    "9" * 5000,
    "1.5",
    "1_000",
    "+5",
    "٣",
    "0x10",
    "1e3",
]
WORDS += [
    "\0",
    "\ud800",
    "a" * 5000,
    "-",
    "--",
    "---",
    "-x",
    "@file",
    "[",
    "{}",
    "..",
    "/",
    "/dev/null",
    "/dev/zero",
    "~",
    "*",
]
WORDS += [
    "corpus.jsonl",
    "folder",
    "nul.txt",
    "fifo.jsonl",
    "deep.json",
    "run",
    "nowhere",
    "ok.py:one",
    "\x1b[31m",
    "\u202e",
]
WORDS += [
    "True",
    "None",
    "=",
    "a=b",
    "7B",
    "7X",
    "1T",
    "--help",
    "-h",
    "--seed",
    "--seed=",
    "--run",
    "--objective",
    "causal",
]
REPORT = re.compile(r"\A(corpus .*\n(  .*\n)*|tokenizer: .*\n|text: .*\n|held-out text: .*\n)*")
"""What is told about a corpus before it is refused for another reason."""
CODES = (0, 2, 130)
"""Done, refused, interrupted."""


def prepare_folder() -> None:
    """What the commands name, in the current folder."""
    for sizes in presets.PRESETS.values():
        sizes["tiny"] = {"d_model": 16, "n_layers": 1, "n_heads": 2}
    presets.PRESETS["encoder-decoder"]["tiny"]["n_decoder_layers"] = 1
    texts = (f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(120))
    Path("corpus.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    for name, content in {
        "nul.txt": b"\0" * 99,
        "deep.json": b"[" * 9999,
        "ok.py": b"def one(t, m, g): return m\n",
    }.items():
        Path(name).write_bytes(content)
    Path("folder").mkdir()
    os.mkfifo("fifo.jsonl")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        assert main(shlex.split(RIGHT[0].replace("--run new", "--run run"))) == 0


def changed(words: list[str], moment: random.Random) -> list[str]:
    """A command line with something about it changed, most often the value of one of its flags."""
    words, flags = list(words), FLAGS[words[0]]
    values = [n for n in range(2, len(words)) if words[n - 1].startswith("--") and not words[n].startswith("--")]
    for _ in range(moment.choice((1, 1, 2))):
        place = moment.randrange(1, len(words) + 1)
        match moment.choice(("value", "value", "value", "value", "word", "leave out", "double", "flag", "move")):
            case "value" if values:
                words[moment.choice(values)] = moment.choice(WORDS)
            case "leave out":
                return [*words[: place - 1], *words[place:]]
            case "double":
                words.insert(place, words[place - 1])
            case "flag":
                flag = moment.choice(flags)
                return [*words, f"{flag}={moment.choice(WORDS)}" if moment.random() < 0.7 else flag]
            case "move":
                return [words[0], *words[place:], *words[1:place]]
            case _:
                words[place - 1] = moment.choice(WORDS)
    return words


def flags_of(name: str) -> list[str]:
    """All flags of a command, with those of every objective."""
    parser = Parser(prog=name)
    COMMANDS[name].add_arguments(parser, [])
    found = {flag for flag in parser._option_string_actions if flag.startswith("--")}
    options = (option for kind in OBJECTIVES.values() for option in kind.declared_options())
    return sorted(
        found | ({f"--{option.replace('_', '-')}" for option in options} if "--objective" in found else set())
    )


FLAGS = {name: flags_of(name) for name in COMMANDS}


def attempt(words: list[str]) -> str | None:
    """What is wrong about how a command line ended; None where nothing is."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except SystemExit as stopped:
            return (
                None if stopped.code == 0 and {"-h", "--help", "--version"} & {*words} else f"SystemExit {stopped.code}"
            )
    if code not in CODES:
        return f"exit code {code}: {err.getvalue()[-200:]!r}"
    error = REPORT.sub("", err.getvalue())
    if code == 2 and words and (len(error.splitlines()) != 1 or not error.startswith("clozelab: ") or len(error) < 25):
        return f"not one line: {error[-300:]!r}"
    if re.search(r"\b\w+=(True|False)\b", error) and not re.search("=(True|False)", " ".join(words)):
        return f"an argument as Python spells it: {error[-300:]!r}"
    if re.search("[\x00-\x08\x0b-\x1f\x7f]", (out.getvalue() + error).replace("\r", "")):
        return "a control character is printed"
    return None


def fuzz(count: int, seed: int, timed) -> tuple[Counter, list[dict]]:
    """(how many lines of each command were tried, the failures); `timed(function, argument)` bounds the time of one."""
    tried, failures = Counter(), []
    rights = [shlex.split(line) for line in RIGHT]
    rights += [[name, "x"] for name in COMMANDS if name not in {words[0] for words in rights}]
    for number in range(count):
        moment = random.Random(f"{seed} {number}")
        words = changed(rights[number % len(rights)], moment)
        tried[rights[number % len(rights)][0]] += 1
        found = timed(attempt, words, interrupt=True)
        if found is not None:
            failures.append({"command": " ".join(shlex.quote(word[:60]) for word in words), "found": found})
    return tried, failures
