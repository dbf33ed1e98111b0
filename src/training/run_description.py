"""run.json: what a run is, so that another one is never continued by mistake."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from torch import nn

from ..checks import check_path
from ..data import Mixture, Packed, PackedShards, Stream
from ..data.corpora.cache import read_json, sha256_of
from ..data.corpora.descriptions import Count, Fields, Sha256, checked_fields
from ..data.corpora.sealed import seal_of, unsealed
from ..errors import InputError
from ..models import ModelConfig
from ..objectives import Objective
from .config import TrainConfig

FORMAT = 2
"""Of run.json. clozelab 0.1 wrote format 1."""


class _Corpus(Fields):
    """What `identity_of` says of the text."""

    model_config = ConfigDict(extra="allow")

    fingerprint: str
    heldout: str
    tokens: Count = 0
    files: Count = 0


class _Run(Fields):
    """The content of run.json."""

    model_config = ConfigDict(extra="allow")

    objective: str
    class_: Annotated[str, Field(alias="class")]
    options: dict[str, Any]
    unrecorded_options: dict[str, str]
    architecture: str
    model: dict[str, Any]
    corpus: _Corpus
    train: dict[str, Any]
    tokenizer_sha256: Sha256
    special: dict[str, int | None]
    description: dict[str, Any]


def identity_of(
    objective: Objective,
    model: nn.Module,
    text: Packed | PackedShards | Mixture | Stream,
    heldout: Packed | Mixture,
    config: TrainConfig,
) -> dict[str, Any]:
    """What must be the same for a run to be the same run, as run.json holds it."""
    shape = getattr(model, "config", None)
    size = {"files": text.documents.files} if isinstance(text, Stream) else {"tokens": len(text)}
    return {
        "objective": objective.name,
        "class": type(objective).__name__,
        "options": objective.options(),
        "unrecorded_options": objective.unrecorded_options(),
        "architecture": getattr(model, "architecture", type(model).__name__),
        "model": asdict(shape)
        if isinstance(shape, ModelConfig)
        else {name: list(parameter.shape) for name, parameter in model.named_parameters()},
        "corpus": {"fingerprint": text.fingerprint, **size, "heldout": heldout.fingerprint},
        "train": json.loads(json.dumps(asdict(config))),
    }


def fingerprint_of(described: Mapping[str, Any]) -> str:
    """A hash of an identity, as a run keeps it when it is extended. Each checkpoint holds it.

    `described` is what `identity_of` or `read_run` returns.
    """
    kept = {key: value for key, value in described["train"].items() if key not in ("steps", "extended")}
    keys = ("objective", "class", "options", "unrecorded_options", "architecture", "model", "corpus")
    return seal_of({key: described[key] for key in keys} | {"train": kept})


def read_run(run: str | Path) -> dict[str, Any]:
    """The contents of `run.json`.

    Raises `InputError` for a folder without one, one that clozelab 0.1 wrote, one of any other format, one that was
    altered, and one whose fields are missing or of another kind.
    """
    path = check_path(run, "the run folder") / "run.json"
    if not path.is_file():
        raise InputError(f"{run} holds no run: {path} is missing; is the path right?")
    described = read_json(path)
    if isinstance(described, dict) and described.get("format") == 1:
        raise InputError(f"{run} was written by clozelab 0.1 and cannot be read: train it again, or use that version")
    described = unsealed(described, path)
    if described.get("format") != FORMAT:
        raise InputError(f"{path} is of a format that this version does not read (it reads format {FORMAT})")
    checked_fields(_Run, described, str(path))
    return described


def check_tokenizer(run: Path, described: Mapping[str, Any]) -> None:
    """Raises `InputError` where the folder of a run holds another tokenizer than the run began with."""
    if described["tokenizer_sha256"] != sha256_of(run / "tokenizer.json"):
        raise InputError(f"{run / 'tokenizer.json'} is not the one that this model was trained with")
