"""From a run folder to a trained model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..checks import check_path, check_type
from ..data import Tokenizer, load_tokenizer
from ..device import find_device
from ..errors import InputError
from ..escape import shorten
from ..models import ARCHITECTURES, ModelConfig
from ..models.sketch import sketched
from ..objectives import OBJECTIVES, Objective
from .checkpoint import Checkpoint, latest_checkpoint
from .run_description import check_tokenizer, read_run


@dataclass(frozen=True)
class TrainedRun:
    """The contents of a run folder, ready to be used."""

    objective: Objective
    model: nn.Module
    """In evaluation mode."""
    tokenizer: Tokenizer
    step: int
    """Optimiser steps done."""


def load_run(
    run: str | Path,
    *,
    objective: Objective | None = None,
    tokenizer: Tokenizer | None = None,
    device: str | None = "cpu",
) -> TrainedRun:
    """The model of a run folder's last checkpoint, with its objective and tokenizer.

    The objective is restored from its name and options. Where it is a class of your own, or has options that are
    functions, no file can hold it: give it as `objective`, whose names must be those of the run, functions included. So
    it is with a tokenizer of another library: `tokenizer=load_tokenizer(...)`. The model lies on `device`, as
    `find_device` takes it: None is the accelerator, where there is one.

    Raises `InputError` for a folder without a run, an objective or a model that cannot be restored, an `objective` or a
    `tokenizer` that is another one than the run's, a device that is not there, and a damaged checkpoint.
    """
    run, place = check_path(run, "the run folder"), find_device(device)
    described = read_run(run)
    objective = _restored(run, described) if objective is None else _checked(run, described, objective)
    checkpoint = latest_checkpoint(run, described)
    model = _model(run, described, objective, checkpoint)
    checkpoint.load_model(model)
    model.eval()
    check_tokenizer(run, described)
    if tokenizer is None:  # as it is: the model has no ids for more
        tokenizer = load_tokenizer(run / "tokenizer.json", sentinels=0, roles=described.get("special", {}))
    elif (check_type(tokenizer, Tokenizer, "the tokenizer").to_json(), tokenizer.special.named) != (
        (run / "tokenizer.json").read_bytes(),
        described.get("special"),
    ):
        raise InputError(f"{run} was trained with another tokenizer than the one that is given")
    return TrainedRun(objective, model.to(place), tokenizer, checkpoint.step)


def _restored(run: Path, described: Mapping[str, Any]) -> Objective:
    """The objective that run.json records."""
    name, kind_name = described["objective"], described["class"]
    functions, options = described["unrecorded_options"], described["options"]
    if name not in OBJECTIVES or kind_name != OBJECTIVES[name].__name__:
        raise InputError(
            f"{run} was trained with an objective of your own ({shorten(kind_name, 80)}, called {shorten(name, 80)}): "
            "give it, load_run(run, objective=...)"
        )
    kind = OBJECTIVES[name]
    if functions:
        missing = ", ".join(f"{option}={shorten(function, 80)}" for option, function in functions.items())
        raise InputError(
            f"{run} was trained with {missing}, a function that no file can hold: give the objective, "
            f"load_run(run, objective={kind.__name__}({missing}))"
        )
    try:
        return kind(**options)
    except (TypeError, InputError) as error:
        raise InputError(
            f"{run / 'run.json'} is damaged: its options make no {name} objective ({shorten(error, 200)})"
        ) from error


def _checked(run: Path, described: Mapping[str, Any], objective: Objective) -> Objective:
    """The objective that was given, where it is that of the run."""
    check_type(objective, Objective, "the objective")
    for key, what, mine in (
        ("objective", "another objective", objective.name),
        ("class", "another class", type(objective).__name__),
        ("options", "other options", objective.options()),
        ("unrecorded_options", "other functions", objective.unrecorded_options()),
    ):
        if described.get(key) != mine:
            raise InputError(f"{run} was trained with {what}: {shorten(described.get(key))}, not {mine}")
    return objective


def _model(run: Path, described: Mapping[str, Any], objective: Objective, checkpoint: Checkpoint) -> nn.Module:
    """The model that run.json describes, built once it is known to be as large as its weights, and no larger."""
    architecture, shape = described["architecture"], described["model"]
    if architecture not in ARCHITECTURES or "vocab_size" not in shape:
        raise InputError(
            f"{run} was trained with a model of your own ({shorten(architecture, 80)}): build it in your code, and "
            "read its weights by latest_checkpoint(run).load_model(model)"
        )

    def build() -> nn.Module:
        if architecture == objective.architecture:
            return objective.build_model(**shape)
        return ARCHITECTURES[architecture](ModelConfig(**shape))

    there = checkpoint.shapes()
    try:
        config = ModelConfig(**shape)
        if config.n_layers + (config.n_decoder_layers or 0) > len(there):
            raise InputError(f"{config.n_layers} layers are more than its checkpoint has weights")
        with sketched():
            sketch = build()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{run / 'run.json'} is damaged: it describes no model ({shorten(error, 200)})") from error
    for name, parameter in sketch.named_parameters():
        if there.get(name) != list(parameter.shape):
            raise InputError(
                f"{checkpoint.path} holds the weights of a model of another shape than {run / 'run.json'} says: {name} "
                f"is {there.get(name)}, expected {list(parameter.shape)}"
            )
    return build()
