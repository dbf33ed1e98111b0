"""What lies around the loop: from the name of a corpus to packed text, from a run folder to a trained model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..data import (
    Corpus,
    Packed,
    Tokenizer,
    load_corpus,
    load_tokenizer,
    pack,
    train_bpe,
    train_characters,
)
from ..data.cache import cache_folder
from ..errors import InputError
from ..models import ARCHITECTURES, ModelConfig
from ..objectives import OBJECTIVES, Objective
from .checkpoint import latest_checkpoint, sha256_of
from .loop import read_run
from .processes import ALONE, Processes


@dataclass(frozen=True)
class Prepared:
    """A corpus, ready to be trained on."""

    corpus: Corpus
    tokenizer: Tokenizer
    text: Packed
    heldout: Packed


def prepare(
    source: Any,
    *,
    tokenizer: str | Tokenizer = "bpe",
    vocab_size: int = 4096,
    sentinels: int = 100,
    text_column: str = "text",
    split: str = "auto",
    heldout: float = 0.1,
    progress: bool = False,
    processes: Processes = ALONE,
) -> Prepared:
    """Corpus, tokenizer and packed text from the name of a corpus: see `load_corpus`, `train_bpe` and `pack`.

    `tokenizer` is "bpe" (trained on the training part), "characters", the path of a tokenizer.json, or a
    `Tokenizer`. Of several `processes` the first makes tokenizer and packed text, and the others take those. Raises
    what those raise.
    """
    corpus = load_corpus(source, text_column=text_column, split=split, heldout=heldout)

    def chosen() -> Tokenizer:
        """The tokenizer, and what it makes of the text in the cache, where the other processes find it."""
        if isinstance(tokenizer, Tokenizer):
            made = tokenizer
        elif tokenizer == "bpe":
            made = train_bpe(corpus.train, vocab_size=vocab_size, sentinels=sentinels, cache_dir=cache_folder())
        elif tokenizer == "characters":
            made = train_characters(corpus.train, sentinels=sentinels)
        else:
            made = load_tokenizer(tokenizer, sentinels=sentinels)
        if processes.count > 1:
            for documents in (corpus.train, corpus.heldout):
                pack(documents, made, progress=progress)
        return made

    made = processes.told(chosen)
    text, heldout_text = (pack(part, made, progress=progress) for part in (corpus.train, corpus.heldout))
    return Prepared(corpus, made, text, heldout_text)


@dataclass(frozen=True)
class TrainedRun:
    """What a run folder holds, ready to be used."""

    objective: Objective
    model: nn.Module
    tokenizer: Tokenizer
    step: int


def load_run(run: str | Path, *, expected: str | tuple[str, ...] = ()) -> TrainedRun:
    """The model of a run folder's last checkpoint, with its objective and tokenizer, in evaluation mode.

    `expected` names the objectives that will do. Raises `InputError` for a folder without a run, a run of another
    objective, and a damaged checkpoint.
    """
    expected = (expected,) if isinstance(expected, str) else expected
    run = Path(run)
    described = read_run(run)
    name = described.get("objective")
    if expected and name not in expected:
        raise InputError(
            f"{run} holds a {name} objective, but this needs {' or '.join(expected)}: "
            "causal models go on with a text (clozelab generate), masked and span models fill blanks (clozelab fill)"
        )
    shape = described.get("model")
    if name not in OBJECTIVES or not isinstance(shape, dict) or "width" not in shape:
        raise InputError(f"{run} was trained with an objective or a model of your own ({name}): load it in your code")
    objective = OBJECTIVES[name]()
    checkpoint = latest_checkpoint(run)
    try:
        model = ARCHITECTURES[objective.architecture](ModelConfig(**shape))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{run / 'run.json'} is damaged: it describes no model ({error!s:.200})") from error
    checkpoint.load_model(model)
    model.eval()
    tokenizer = load_tokenizer(run / "tokenizer.json", sentinels=0)  # as it is: the model has no ids for more
    if described.get("tokenizer_sha256", written := sha256_of(run / "tokenizer.json")) != written:
        raise InputError(f"{run / 'tokenizer.json'} is not the one that this model was trained with")
    return TrainedRun(objective, model, tokenizer, checkpoint.step)


def seeded_model(objective: Objective, vocab_size: int, size: str, seed: int, **overrides: Any) -> nn.Module:
    """The objective's paired model with weights drawn from `seed`; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return objective.build_model(vocab_size, size, **overrides)
