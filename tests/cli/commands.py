"""What the tests of the command line share."""

import os
import re
import signal
import subprocess
from pathlib import Path

from clozelab.cli import main
from clozelab.training import loop

DOCUMENTS = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}, which is odd." for n in range(300)]
FAST = ["--length", "32", "--batch-size", "4", "--vocab-size", "400"]


def train(objective, *more, run="run", steps="6"):
    return main(
        ["train", "--objective", objective, "--corpus", "corpus.jsonl", "--steps", steps, "--run", run, *FAST, *more]
    )


REPORT = re.compile(r"\Acorpus .*\n(  .*\n)*")
"""What was found in the corpus, which is printed before it is refused for another reason."""


KEYWORD = re.compile(r"\b\w+=(True|False|None)\b|\b(split|validation|text_column|streaming)=")
"""An argument as Python spells it, which is none of a shell."""


def refused(capsys, arguments, message):
    """The command ends with exit code 2 and one line on standard error, in which the message is found; returns it."""
    capsys.readouterr()  # what came before
    code = main(arguments)
    error = REPORT.sub("", capsys.readouterr().err)
    assert code == 2, error
    assert len(error.strip().splitlines()) == 1, error
    assert error.startswith("clozelab: ")
    assert re.search(message, error), error
    assert not KEYWORD.search(error), error
    return error


def write(name, content):
    Path(name).write_bytes(content)
    return str(name)


def pasted(line):
    """The words that bash makes of a command line that a message names."""
    script = 'clozelab() { printf "%s\\0" "$@"; }; ' + line
    return subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout.decode().split("\0")[:-1]


def stop_at(monkeypatch, step, number=signal.SIGINT):
    """Have a signal come in the middle of the n-th optimiser step of the test."""
    real, steps = loop.train_step, []

    def stopped(*arguments, **settings):
        steps.append(1)
        if len(steps) == step:
            os.kill(os.getpid(), number)
        return real(*arguments, **settings)

    monkeypatch.setattr(loop, "train_step", stopped)
