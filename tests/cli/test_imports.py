"""A command imports what it uses, and nothing else: what people wait for before anything happens."""

import gc
import json
import subprocess
import sys

from clozelab.cli import main

COMPILER = ("torch._dynamo", "torch._inductor", "sympy")
OTHERS = ("datasets", "pandas", "pyarrow", "matplotlib", "transformers", "accelerate", "shtab", "jinja2")

COMMANDS = """
import contextlib, io, json, sys
from clozelab.cli import main
found = {}
for line in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(line.split()) == 0, line
    found[line] = [name for name in json.loads(sys.argv[2]) if name in sys.modules]
print(json.dumps(found))
"""


def imported(lines, names):
    """Which of the modules a process has imported after each of the command lines, one after another."""
    words = [sys.executable, "-c", COMMANDS, json.dumps(lines), json.dumps(names)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_commands_import_nothing_that_they_do_not_use():
    """`train`, too, reads its corpus and its tokenizer from text, saves its weights, and writes a report; `generate`
    loads a model, whose shapes were once sketched by way of the compiler.
    """
    training = ("clozelab.training", "clozelab.planning", "clozelab.course", "pydantic", "safetensors", "filelock")
    show = "show the-cat-sat --objective causal"
    train = "train --corpus corpus.jsonl --steps 1 --run run --length 16 --batch-size 2 --vocab-size 400 --sentinels 0"
    generate = "generate run the --tokens 1"
    found = imported([show, train, generate], [*COMPILER, *OTHERS, *training, "rich", "torch"])
    assert found[show] == ["rich", "torch"]
    assert found[train] == ["jinja2", "clozelab.training", "pydantic", "safetensors", "filelock", "rich", "torch"]
    assert not set(found[generate]) & set(COMPILER)


PROGRAM = """
import gc
from clozelab.cli import main
main()
print(gc.isenabled(), gc.get_freeze_count() > 100_000)
"""


def test_a_process_of_its_own_looks_for_no_garbage_in_what_it_imported():
    """A call of `main` in somebody's process leaves the collector as it is."""
    words = ["show", "a b c", "--objective", "causal"]
    done = subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "True True"
    before = gc.get_freeze_count()
    assert main(words) == 0
    assert (gc.isenabled(), gc.get_freeze_count()) == (True, before)
