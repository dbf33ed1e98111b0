"""`clozelab` in a process of its own, which logs what it is doing, so that it can be stopped in the middle of it.

    python one_run.py LOG [--slow-evaluation] train --corpus book.txt --run runs/book

Each of several processes has a LOG of its own. The models are made small; nothing else is changed.
"""

import functools
import importlib
import os
import signal
import sys
import threading
import time

import torch

import clozelab.cli
import clozelab.data.packing
import clozelab.evaluation.heldout
import clozelab.training
import clozelab.training.checkpoint
import clozelab.training.evaluator
import clozelab.training.sharded_checkpoint
from clozelab.models import presets

PREPARE = importlib.import_module("clozelab.training.prepare")  # as an attribute, the function of that name
PHASES = (
    ("tokenising", PREPARE, "train_bpe"),
    ("packing", PREPARE, "pack"),
    ("training", clozelab.training, "train"),
    ("evaluating", clozelab.training.evaluator, "score_batch"),
    ("checkpointing", clozelab.training.checkpoint, "write_checkpoint"),
    ("checkpointing", clozelab.training.sharded_checkpoint, "write_shards"),
)
"""The functions of each; in `train`, what happens outside of the last three is training."""


def write_down(log, phases):
    """Log each phase as it begins, and when it ends the one around it."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    of_thread = {threading.get_ident(): ["starting"]}

    def log_phase(doing):
        os.write(file, f"{time.monotonic()} {os.getpid()} {doing[-1]}\n".encode())

    def watched(phase, function):
        @functools.wraps(function)
        def call(*arguments, **settings):
            doing = of_thread.setdefault(threading.get_ident(), ["written"])  # by a thread, while another one trains
            doing.append(phase)
            log_phase(doing)
            try:
                return function(*arguments, **settings)
            finally:
                doing.pop()
                log_phase(doing)

        return call

    log_phase(of_thread[threading.get_ident()])
    for phase, module, name in phases:
        setattr(module, name, watched(phase, getattr(module, name)))


def shrink():
    """The smallest models, and packing in many small parts."""
    for sizes in presets.PRESETS.values():
        sizes["tiny"] = {"d_model": 32, "n_layers": 1, "n_heads": 2}
    presets.PRESETS["encoder-decoder"]["tiny"]["n_decoder_layers"] = 1
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
    """Run the command line, with more environment variables and its output in a file."""
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
