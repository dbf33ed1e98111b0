"""The weights that a run begins with, where they are those of another run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from ..checks import check_path
from ..data import Tokenizer, load_tokenizer
from ..errors import InputError
from ..escape import shorten
from ..objectives import Objective
from .checkpoint import latest_checkpoint
from .run_description import check_tokenizer, read_run


def load_initial_weights(
    run: str | Path, objective: Objective, model: nn.Module, tokenizer: Tokenizer
) -> dict[str, Any]:
    """Read the weights of a run's last checkpoint into a model, and return what run.json records of them.

    The objective may be another one. Decoder-only and encoder-only models have the same weights, so that one can
    continue as the other.

    Raises `InputError` for another tokenizer, another architecture or shape, and a run that is damaged.
    """
    run = check_path(run, "the run to start from")
    described = read_run(run)
    checkpoint = latest_checkpoint(run, described)
    check_tokenizer(run, described)
    theirs = load_tokenizer(run / "tokenizer.json", sentinels=0, roles=described.get("special", {}))
    if theirs.fingerprint != tokenizer.fingerprint:
        raise InputError(f"{run} has another tokenizer than this run: use {run / 'tokenizer.json'} as its tokenizer")
    there = checkpoint.shapes()
    here = {name: list(parameter.shape) for name, parameter in model.named_parameters()}
    missing = [name for name in here if name not in there]
    further = [name for name in there if name not in model.state_dict()]
    if missing or further:
        mine, other = getattr(model, "architecture", type(model).__name__), described.get("architecture")
        of, of_other = str(mine), shorten(other, 80)
        if mine == other:  # models of two objectives, or of two sizes
            of, of_other = f"{objective.name}, {of}", f"{shorten(described.get('objective'), 80)}, {of_other}"
        halves = [(missing, "are missing there"), (further, "have no place here")]
        what = " and ".join(f"{len(names)} {are} (such as {names[0]})" for names, are in halves if names)
        raise InputError(f"the weights of {run} ({of_other}) do not fit this model ({of}): {what}")
    if wrong := [name for name in here if there[name] != here[name]]:
        raise InputError(
            f"the weights of {run} have another shape: {wrong[0]} is {there[wrong[0]]}, expected {here[wrong[0]]}"
        )
    checkpoint.load_model(model)
    sha256 = checkpoint.state["sha256"]["model.safetensors"]
    return {"run": str(run), "objective": described.get("objective"), "step": checkpoint.step, "sha256": sha256}
