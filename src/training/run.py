"""What lies around the loop: from the name of a corpus to packed text, from a run folder to a trained model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..checks import check_path
from ..data import (
    Corpus,
    Packed,
    PackedShards,
    Stream,
    StreamedDocuments,
    Tokenizer,
    is_packed,
    load_corpus,
    load_tokenizer,
    open_shards,
    pack,
    train_bpe,
    train_characters,
)
from ..data.corpora.cache import cache_folder
from ..errors import InputError
from ..models import ARCHITECTURES, ModelConfig
from ..objectives import OBJECTIVES, Objective
from .checkpoint import Checkpoint, latest_checkpoint, sha256_of
from .loop import read_run
from .processes import SINGLE, Processes


@dataclass(frozen=True)
class Prepared:
    """A corpus, ready to be trained on."""

    corpus: Corpus
    tokenizer: Tokenizer
    text: Packed | PackedShards
    heldout: Packed


@dataclass(frozen=True)
class PreparedStream:
    """A corpus that is read as it comes, ready to be trained on."""

    corpus: Corpus
    tokenizer: Tokenizer
    text: Stream
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
    processes: Processes = SINGLE,
) -> Prepared:
    """Corpus, tokenizer and packed text from the name of a corpus: see `load_corpus`, `train_bpe` and `pack`.

    `tokenizer` is "bpe" (trained on the training part), "characters", the path of a tokenizer.json, or a
    `Tokenizer`. Of several `processes` the first makes tokenizer and packed text, and the others take those. Raises
    what those raise.

    A folder that `pack_shards` made is taken as it is, with its tokenizer; raises `InputError` where another is given.
    """
    if isinstance(source, (str, Path)) and is_packed(source):
        own, text, heldout_text = open_shards(source)
        same = tokenizer == "bpe" or (
            tokenizer != "characters" and _tokenizer(tokenizer, (), 0, sentinels).fingerprint == own.fingerprint
        )
        if not same:
            raise InputError(f"{source} was packed with its own tokenizer, not with {tokenizer}: leave that out")
        return Prepared(Corpus(Path(source).name, (), ()), own, text, heldout_text)
    corpus = load_corpus(source, text_column=text_column, split=split, heldout=heldout)

    made, (text, heldout_text) = _packed(
        lambda: _tokenizer(tokenizer, corpus.train, vocab_size, sentinels),
        (corpus.train, corpus.heldout),
        processes,
        progress,
    )
    return Prepared(corpus, made, text, heldout_text)


BEGINNING = {"tokenizer": 10_000_000, "heldout": 4_000_000}
"""Characters at the beginning of a streamed corpus that a tokenizer is trained on, and that are held out."""


def prepare_stream(
    source: Any,
    *,
    tokenizer: str | Tokenizer = "bpe",
    vocab_size: int = 4096,
    sentinels: int = 100,
    text_column: str = "text",
    split: str = "auto",
    heldout: float = 0.1,
    processes: Processes = SINGLE,
) -> PreparedStream:
    """As `prepare`, for a corpus that is too large for it: tables or a hub name, read while it is trained on.

    A tokenizer is trained on the first ten million characters to be learned from. `heldout` is the share of documents
    that are never learned from, of which those of the first four million characters are tested on.
    """
    corpus = load_corpus(source, text_column=text_column, split=split, heldout=heldout, streaming=True)
    assert isinstance(corpus.train, StreamedDocuments)
    begins = list(_beginning(corpus.heldout, BEGINNING["heldout"]))
    if not begins:
        raise InputError(f"{corpus.name} has no document to hold out: use more text, or a greater share than {heldout}")

    made, [heldout_text] = _packed(
        lambda: _tokenizer(tokenizer, _beginning(corpus.train, BEGINNING["tokenizer"]), vocab_size, sentinels),
        (begins,),
        processes,
    )
    streamed = Stream(corpus.train, made)
    return PreparedStream(Corpus(corpus.name, corpus.train, begins), made, streamed, heldout_text)


def _packed(
    make: Callable[[], Tokenizer], parts: Sequence[Iterable[str]], processes: Processes, progress: bool = False
) -> tuple[Tokenizer, list[Packed]]:
    """A tokenizer and what it makes of some texts; of several processes the first makes them, the others find them."""

    def first() -> Tokenizer:
        made = make()
        if processes.world_size > 1:
            for documents in parts:
                pack(documents, made, progress=progress)  # into the cache
        return made

    made = processes.broadcast(first)
    return made, [pack(documents, made, progress=progress) for documents in parts]


def _tokenizer(tokenizer: str | Tokenizer, texts: Iterable[str], vocab_size: int, sentinels: int) -> Tokenizer:
    """The one that is meant, trained where it has to be."""
    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    if tokenizer == "bpe":
        return train_bpe(texts, vocab_size=vocab_size, sentinels=sentinels, cache_dir=cache_folder())
    if tokenizer == "characters":
        return train_characters(texts, sentinels=sentinels)
    return load_tokenizer(tokenizer, sentinels=sentinels)


def _beginning(documents: Iterable[str], characters: int) -> Iterator[str]:
    """The first documents, until they have so many characters."""
    for document in documents:
        yield document
        characters -= len(document)
        if characters <= 0:
            return


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
    run = check_path(run, "the run folder")
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
    checkpoint = latest_checkpoint(run, name)
    model = _model(run, objective, shape, checkpoint)
    checkpoint.load_model(model)
    model.eval()
    tokenizer = load_tokenizer(run / "tokenizer.json", sentinels=0)  # as it is: the model has no ids for more
    if described.get("tokenizer_sha256", written := sha256_of(run / "tokenizer.json")) != written:
        raise InputError(f"{run / 'tokenizer.json'} is not the one that this model was trained with")
    return TrainedRun(objective, model, tokenizer, checkpoint.step)


def _model(run: Path, objective: Objective, shape: dict[str, Any], checkpoint: Checkpoint) -> nn.Module:
    """The model that run.json describes, built once it is known to be as large as its weights, and no larger."""
    there = checkpoint.shapes()
    try:
        config = ModelConfig(**shape)
        if config.n_layers + (config.n_decoder_layers or 0) > len(there):
            raise InputError(f"{config.n_layers} layers are more than its checkpoint has weights")
        with torch.device("meta"):
            sketch = ARCHITECTURES[objective.architecture](config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{run / 'run.json'} is damaged: it describes no model ({error!s:.200})") from error
    for name, parameter in sketch.named_parameters():
        if there.get(name) != list(parameter.shape):
            raise InputError(
                f"{checkpoint.path} holds the weights of a model of another shape than {run / 'run.json'} says: {name} "
                f"is {there.get(name)}, expected {list(parameter.shape)}"
            )
    return ARCHITECTURES[objective.architecture](config)


def seeded_model(objective: Objective, vocab_size: int, size: str, seed: int, **overrides: Any) -> nn.Module:
    """The objective's paired model with weights drawn from `seed`; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return objective.build_model(vocab_size, size, **overrides)
