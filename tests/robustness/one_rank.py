"""One of two processes of a run that call `train` with what differs between them; logs how each call ended."""

import dataclasses
import json
import os
from pathlib import Path

import torch

import clozelab.training.run_folder
from clozelab.data import pack, train_bpe
from clozelab.errors import InputError, ProcessLost
from clozelab.objectives import CausalLM, MaskedLM
from clozelab.training import TrainConfig, init_processes, seeded_model, train
from clozelab.training.processes import Processes

TEXTS = [f"Document {n} says that {n} and {n + 1} make {2 * n + 1}." for n in range(100)]
SHAPE = {"d_model": 16, "n_layers": 1, "n_heads": 2}


def calls(folder: Path, rank: int):
    """(what differs, the arguments of `train` in this process), one after another; last a call where nothing does."""
    tokenizer, other = (train_bpe(TEXTS, size, sentinels=4) for size in (400, 390))
    text, longer = (pack(texts, tokenizer, cache_dir=folder / "cache") for texts in (TEXTS, [*TEXTS, "one more"]))
    config = TrainConfig(steps=2, length=16, batch_size=4, eval_rows=4, precision="float32")
    right = {
        "objective": CausalLM(),
        "tokenizer": tokenizer,
        "text": text,
        "heldout": text,
        "config": config,
        "run": folder / "run",
    }
    for what, change in {
        "objective": {"objective": MaskedLM()},
        "options.z_loss": {"objective": CausalLM(z_loss=1e-4)},
        "corpus": {"text": longer},
        "tokenizer": {"tokenizer": other, **dict.fromkeys(("text", "heldout"), pack(TEXTS, other))},
        "train.seed": {"config": dataclasses.replace(config, seed=1)},
        "train.learning_rate": {"config": dataclasses.replace(config, learning_rate=1e-4)},
        "folder": {"run": folder / "other"},
        "resume": {"resume": True},
        "version of clozelab": {},
        "nothing": {},
    }.items():
        yield what, {**right, **(change if rank == 1 else {})}


def run(folder: str, variables: dict[str, str]) -> None:
    """All calls in a process of its own, which logs (what differed, the error) as JSON lines."""
    os.environ |= variables
    torch.set_num_threads(1)
    rank, ends, version = int(variables["RANK"]), [], clozelab.training.run_folder.__version__
    with init_processes() as processes:
        for what, arguments in calls(Path(folder), rank):
            vocab_size = arguments["tokenizer"].vocab_size
            model = seeded_model(arguments["objective"], vocab_size, "tiny", 0, **SHAPE)
            differs = what == "version of clozelab" and rank == 1
            clozelab.training.run_folder.__version__ = "0.0" if differs else version
            try:
                train(model=model, processes=processes, **arguments)
                ends.append((what, "no error"))
            except InputError as error:
                ends.append((what, str(error)))
        ends.append(("another stage", elsewhere(processes)))
        ends.append(("an error in one", in_one(processes)))
    Path(folder, f"ends-{rank}.json").write_text(json.dumps(ends))


def elsewhere(processes: Processes) -> str:
    """The error where one process is at another point of the program."""
    try:
        processes.broadcast(lambda: 1) if processes.is_main else processes.together(lambda: 1)
    except InputError as error:
        return str(error)
    return "no error"


def in_one(processes: Processes) -> str:
    """The error where only the later process cannot read a file."""
    try:
        processes.together(lambda: Path(os.devnull if processes.is_main else "nowhere.txt").read_bytes())
    except FileNotFoundError as error:
        return str(error)
    return "no error"


def lose(folder: str, variables: dict[str, str]) -> None:
    """The later process refuses its input in the middle of the run; logs what the other one says."""
    os.environ |= variables
    torch.set_num_threads(1)
    try:
        with init_processes() as processes:
            if not processes.is_main:
                raise InputError("line 7 of its file is damaged")
            processes.all_max(1.0)
    except (InputError, ProcessLost) as error:
        Path(folder, f"lost-{variables['RANK']}.txt").write_text(f"{type(error).__name__}: {error}")
