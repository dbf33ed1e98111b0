"""From the name of a corpus to a tokenizer and packed text."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data import (
    Corpus,
    CorpusReport,
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
from ..data.tokenizers.load import Roles
from ..data.tokenizers.round_trip import changed_documents
from ..errors import InputError
from ..escape import escape_control_characters
from .processes import SINGLE, Processes

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """A corpus, ready to be trained on."""

    corpus: Corpus
    tokenizer: Tokenizer
    text: Packed | PackedShards
    heldout: Packed


@dataclass(frozen=True)
class PreparedStream:
    """A corpus that is streamed, ready to be trained on."""

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
    roles: Roles = (),
    announce: Callable[[CorpusReport], object] | None = None,
    progress: bool = False,
    processes: Processes = SINGLE,
) -> Prepared:
    """A tokenizer and packed text from a corpus: see `train_bpe` and `pack`.

    `source` is a `Corpus`, or a name or strings that `load_corpus` takes. `tokenizer` is "bpe" (trained on the training
    part), "characters", the path of a tokenizer.json, or a `Tokenizer`. It reserves ids for `sentinels` hidden spans
    and for `roles`, which are those of the objectives that will be trained (`Objective.roles`). Of several `processes`
    the main one makes tokenizer and packed text, and the others read them; it calls `announce` with the corpus's report
    before it tokenises.

    A folder that `pack_shards` made is taken as it is, with its tokenizer; raises `InputError` where another is given,
    and what the functions above raise.
    """
    if isinstance(source, (str, Path)) and is_packed(source):
        own, text, heldout_text = open_shards(source)
        same = tokenizer == "bpe" or (
            tokenizer != "characters" and _tokenizer(tokenizer, (), 0, sentinels, roles).fingerprint == own.fingerprint
        )
        if not same:
            raise InputError(f"{source} was packed with its own tokenizer, not with {tokenizer}: leave that out")
        corpus = _packed_corpus(Path(source), text, heldout_text)
        _announce(corpus, announce, processes)
        if processes.is_main:
            _tell_loss([text, heldout_text])
        return Prepared(corpus, own, text, heldout_text)
    corpus = source if isinstance(source, Corpus) else load_corpus(source)
    if isinstance(corpus.train, StreamedDocuments):
        raise InputError(f"{corpus.name} is streamed: prepare_stream takes it, or load it without streaming=True")
    _announce(corpus, announce, processes)
    made, (text, heldout_text) = _packed(
        lambda: _tokenizer(tokenizer, corpus.train, vocab_size, sentinels, roles, progress),
        (corpus.train, corpus.heldout),
        processes,
        progress,
    )
    return Prepared(corpus, made, text, heldout_text)


BEGINNING = {"tokenizer": 10_000_000, "heldout": 4_000_000}
"""Characters at the beginning of a streamed corpus that the tokenizer is trained on, and that make the held-out
text."""


def prepare_stream(
    source: Any,
    *,
    tokenizer: str | Tokenizer = "bpe",
    vocab_size: int = 4096,
    sentinels: int = 100,
    roles: Roles = (),
    announce: Callable[[CorpusReport], object] | None = None,
    processes: Processes = SINGLE,
) -> PreparedStream:
    """`prepare` for a corpus that is too large for it: tables or a hub name, read during training.

    `source` is a `Corpus` that was loaded with `streaming=True`, or a name. A tokenizer is trained on the first ten
    million characters of the training part. Held-out documents are never trained on; the first four million characters
    of them make the held-out text.

    Raises what `prepare` raises, and `InputError` for a corpus without a document to hold out.
    """
    corpus = source if isinstance(source, Corpus) else load_corpus(source, streaming=True)
    if not isinstance(corpus.train, StreamedDocuments):
        raise InputError(f"{corpus.name} is not streamed: load it with streaming=True")
    _announce(corpus, announce, processes)
    begins = list(_beginning(corpus.heldout, BEGINNING["heldout"]))
    if not begins:
        raise InputError(f"{corpus.name} has no document to hold out: use more text, or hold out a greater share")

    made, [heldout_text] = _packed(
        lambda: _tokenizer(tokenizer, _beginning(corpus.train, BEGINNING["tokenizer"]), vocab_size, sentinels, roles),
        (begins,),
        processes,
    )
    streamed = Stream(corpus.train, made)
    return PreparedStream(replace(corpus, heldout=begins), made, streamed, heldout_text)


def _announce(corpus: Corpus, announce: Callable[[CorpusReport], object] | None, processes: Processes) -> None:
    if announce is not None and processes.is_main:
        announce(corpus.report)


def _packed_corpus(folder: Path, text: PackedShards, heldout: Packed) -> Corpus:
    """The corpus of packed shards, without its text."""
    report = CorpusReport(
        folder.name,
        f"{len(text.shards)} packed shards, {len(text):,} tokens",
        train=(text.documents, text.bytes),
        heldout=(heldout.documents, heldout.bytes),
        unit="byte",
    )
    return Corpus(folder.name, (), (), report)


def _packed(
    make: Callable[[], Tokenizer], parts: Sequence[Iterable[str]], processes: Processes, progress: bool = False
) -> tuple[Tokenizer, list[Packed]]:
    """A tokenizer and the texts that it packed, the last of them held out; the main process makes them, the others find
    them in the cache."""

    progress = progress and processes.is_main

    def pack_all(made: Tokenizer) -> list[Packed]:
        *train, heldout = parts
        texts = [pack(documents, made, progress=progress) for documents in train]
        return [*texts, pack(heldout, made, byte_counts=True, progress=progress)]

    def first() -> Tokenizer:
        made = make()
        if processes.world_size > 1:
            pack_all(made)  # into the cache
        return made

    made = processes.broadcast(first)
    packed = processes.together(lambda: pack_all(made))
    if processes.is_main:
        for line in made.notes:
            _log.warning(escape_control_characters(f"tokenizer: {line}"))
        if changed := changed_documents(parts[0], made):
            _log.warning(escape_control_characters(f"text: {changed}"))
        _tell_loss(packed)
    return made, packed


def _tell_loss(texts: Sequence[Packed | PackedShards]) -> None:
    """Log what of the training text, where there is one, and of the held-out text the tokens do not hold."""
    for name, text in zip(("text", "held-out text")[-len(texts) :], texts):
        if text.encoding_loss:
            _log.warning(f"{name}: {text.encoding_loss}")


def _tokenizer(
    tokenizer: str | Tokenizer,
    texts: Iterable[str],
    vocab_size: int,
    sentinels: int,
    roles: Roles,
    progress: bool = False,
) -> Tokenizer:
    """The tokenizer of that name, trained or loaded."""
    if isinstance(tokenizer, Tokenizer):
        return tokenizer
    stated = {role: n for role, n in roles.items() if n is not None} if isinstance(roles, Mapping) else {}
    if stated and tokenizer in ("bpe", "characters"):
        raise InputError(
            f"a tokenizer that is trained makes its own special ids, but {stated} were stated: leave them out"
        )
    if tokenizer == "bpe":
        sizes = {"vocab_size": vocab_size, "sentinels": sentinels}
        return train_bpe(texts, **sizes, roles=roles, cache_dir=cache_folder(), progress=progress)
    if tokenizer == "characters":
        return train_characters(texts, sentinels=sentinels, roles=roles)
    return load_tokenizer(tokenizer, sentinels=sentinels, roles=roles)


def _beginning(documents: Iterable[str], characters: int) -> Iterator[str]:
    """The first documents, up to the one with which they have so many characters."""
    for document in documents:
        yield document
        characters -= len(document)
        if characters <= 0:
            return
