"""`clozelab` in a process of its own, which writes down what it is doing, so that it can be stopped while it does it.

    python one_run.py LOG [--slow-evaluation] train --corpus book.txt --run runs/book

Of several processes each has a LOG of its own. The models are made small; nothing else is changed.
"""

import functools
import os
import signal
import sys
import time

import torch

import clozelab.cli
import clozelab.data.packing
import clozelab.evaluation.heldout
import clozelab.training
import clozelab.training.loop
import clozelab.training.run
from clozelab.models import presets

PHASES = {
    "tokenising": (clozelab.training.run, "train_bpe"),
    "packing": (clozelab.training.run, "pack"),
    "training": (clozelab.training, "train"),
    "evaluating": (clozelab.training.loop, "evaluate"),
    "checkpointing": (clozelab.training.loop, "save_checkpoint"),
}
"""The function that each of them is; what happens in `train` outside of the last two is training."""


def write_down(log, phases):
    """Each phase as it begins, and when it ends the one that goes on."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    doing = ["starting"]

    def say():
        os.write(file, f"{time.monotonic()} {os.getpid()} {doing[-1]}\n".encode())

    def watched(phase, function):
        @functools.wraps(function)
        def call(*arguments, **settings):
            doing.append(phase)
            say()
            try:
                return function(*arguments, **settings)
            finally:
                doing.pop()
                say()

        return call

    say()
    for phase, (module, name) in phases.items():
        setattr(module, name, watched(phase, getattr(module, name)))


def shrink():
    """The smallest models, and packing in many small parts."""
    for sizes in presets.PRESETS.values():
        sizes["tiny"] = {"d_model": 32, "n_layers": 1, "n_heads": 2}
    presets.PRESETS["encoder-decoder"]["tiny"]["decoder_layers"] = 1
    clozelab.data.packing.BATCH = 8
    torch.set_num_threads(1)


def slow_evaluation():
    """A second for each batch of an evaluation."""
    real = clozelab.evaluation.heldout.positions_read

    def slow(batch):
        time.sleep(1)
        return real(batch)

    clozelab.evaluation.heldout.positions_read = slow


def run(words, variables=None, output=None):
    """All that this process does, with more variables of its environment, and into a file."""
    os.environ |= variables or {}
    if output is not None:
        for stream in (1, 2):
            os.dup2(os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    # Where pytest was started in the background of a shell, SIGINT is ignored, which is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log, *words = words
    write_down(f"{log}.{os.environ.get('RANK', 0)}", PHASES)
    shrink()
    if words[0] == "--slow-evaluation":
        slow_evaluation()
        words = words[1:]
    sys.exit(clozelab.cli.main(words))


if __name__ == "__main__":
    run(sys.argv[1:])
