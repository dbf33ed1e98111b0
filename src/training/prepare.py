"""From the name of a corpus to a tokenizer and packed text."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from ..data import (
    Corpus,
    CorpusReport,
    IdTokenizer,
    Mixture,
    MixtureReport,
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
from ..data.mixture import shares_of
from ..data.tokenizers.load import Roles
from ..data.tokenizers.round_trip import changed_documents
from ..errors import InputError
from ..escape import counted, escape_control_characters
from .processes import SINGLE, Processes

_log = logging.getLogger(__name__)

Announce = Callable[[Any], object]
"""Is told what was found: a `CorpusReport` or a `MixtureReport`."""


@dataclass(frozen=True)
class Prepared:
    """A corpus, or a mixture of several, ready to be trained on."""

    corpus: Corpus
    tokenizer: Tokenizer
    text: Packed | PackedShards | Mixture
    heldout: Packed | Mixture


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
    announce: Announce | None = None,
    progress: bool = False,
    processes: Processes = SINGLE,
) -> Prepared:
    """A tokenizer and packed text from a corpus: see `train_bpe` and `pack`.

    `source` is a `Corpus`, or a name or strings that `load_corpus` takes, or a folder that `pack_shards` made. Several
    of them with their weights, `{"books/": 0.7, "news.jsonl": 0.3}`, become a `Mixture`: the weights are shares of the
    blocks that are trained on, and so of the tokens, and each corpus holds out a part of its own.

    `tokenizer` is "bpe" (trained on the training part, of all corpora), "characters", the path of a tokenizer.json, or
    a `Tokenizer`. It reserves ids for `sentinels` hidden spans and for `roles`, which are those of the objectives that
    will be trained (`Objective.roles`). Packed folders have their own, and a corpus of token ids needs none.

    Of several `processes` the main one makes tokenizer and packed text, and the others read them; it calls `announce`
    with the report of the corpora before it tokenises.

    >>> from clozelab import load_corpus
    >>> from clozelab.training import prepare
    >>> few, many = (load_corpus([f"{n} is a number" for n in range(count)]) for count in (50, 500))
    >>> prepare({few: 1, many: 3}, vocab_size=400).text.shares
    [0.25, 0.75]

    Raises `InputError` for a tokenizer besides that of the corpus, corpora with different ones, weights that
    `Mixture` refuses, and what the functions above raise.
    """
    weights = dict(source) if isinstance(source, Mapping) else None
    opened = [_opened(one) for one in (weights if weights is not None else [source])]
    names = _different([one.corpus.name for one in opened])
    shares = [] if weights is None else shares_of(names, list(weights.values()))
    corpus = opened[0].corpus if weights is None else _mixed([one.corpus for one in opened], names, shares)
    _announce(corpus, announce, processes)
    texts = chain.from_iterable(one.corpus.train for one in opened)
    settings = (vocab_size, sentinels, roles, progress and processes.is_main)
    make = partial(_own_or_new, opened, tokenizer, texts, *settings)
    made, packed = _packed(make, opened, processes, progress)
    if weights is None:
        [(text, heldout)] = packed
        return Prepared(corpus, made, text, heldout)
    texts, heldouts = (list(side) for side in zip(*packed))
    return Prepared(corpus, made, Mixture(names, texts, shares), Mixture(names, heldouts, shares))


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
    announce: Announce | None = None,
    processes: Processes = SINGLE,
) -> PreparedStream:
    """`prepare` for a corpus that is too large for it: tables or a hub name, read during training.

    `source` is a `Corpus` that was loaded with `streaming=True`, or a name. A tokenizer is trained on the first ten
    million characters of the training part. Held-out documents are never trained on; the first four million characters
    of them make the held-out text.

    Raises what `prepare` raises, and `InputError` for a corpus without a document to hold out.
    """
    corpus = source if isinstance(source, Corpus) else load_corpus(source, streaming=True)
    documents = corpus.train
    if not isinstance(documents, StreamedDocuments):
        raise InputError(f"{corpus.name} is not streamed: load it with streaming=True")
    _announce(corpus, announce, processes)
    begins = list(_beginning(corpus.heldout, BEGINNING["heldout"]))
    if not begins or next(iter(documents), None) is None:
        side = "trained on" if begins else "held out"
        why = ", where equal documents have one hash" if documents.share is not None else ""
        raise InputError(f"no document of {corpus.name} is {side}{why}: use more text, or give validation=FILE")

    texts = _beginning(documents, BEGINNING["tokenizer"])
    make = partial(_own_or_new, [_Opened(corpus)], tokenizer, texts, vocab_size, sentinels, roles)
    corpus = replace(corpus, heldout=begins)
    made, [(_, heldout)] = _packed(make, [_Opened(corpus)], processes)
    return PreparedStream(corpus, made, Stream(documents, made), heldout)


def _announce(corpus: Corpus, announce: Announce | None, processes: Processes) -> None:
    if announce is not None and processes.is_main:
        announce(corpus.report)


@dataclass(frozen=True)
class _Opened:
    """A corpus, and what is known of it before it is packed."""

    corpus: Corpus
    packed: tuple[Tokenizer, PackedShards, Packed] | None = None
    """(tokenizer, training text, held-out text) of a packed folder."""


def _opened(source: Any) -> _Opened:
    if isinstance(source, (str, Path)) and is_packed(source):
        tokenizer, text, heldout = open_shards(source)
        return _Opened(_packed_corpus(Path(source), text, heldout), (tokenizer, text, heldout))
    corpus = source if isinstance(source, Corpus) else load_corpus(source)
    if isinstance(corpus.train, StreamedDocuments):
        raise InputError(f"{corpus.name} is streamed: prepare_stream takes it, or load it without streaming=True")
    return _Opened(corpus)


def _packed_corpus(folder: Path, text: PackedShards, heldout: Packed) -> Corpus:
    """The corpus of packed shards, without its text."""
    report = CorpusReport(
        folder.name,
        f"{counted(len(text.shards), 'packed shard')}, {counted(len(text), 'token')}",
        train=(text.documents, text.bytes),
        heldout=(heldout.documents, heldout.bytes),
        unit="byte",
    )
    return Corpus(folder.name, (), (), report)


def _own_tokenizer(opened: Sequence[_Opened]) -> Tokenizer | None:
    """The tokenizer that packed folders bring, or that stands for ids; None where one is needed."""
    found: dict[str, Tokenizer] = {}
    without = []
    for one in opened:
        if one.packed is not None:
            found[one.corpus.name] = one.packed[0]
        elif one.corpus.special is not None:
            found[one.corpus.name] = IdTokenizer(one.corpus.special)
        else:
            without.append(one.corpus.name)
    if len({tokenizer.fingerprint for tokenizer in found.values()}) > 1:
        raise InputError(f"{' and '.join(found)} have different tokenizers or special ids: pack them with the same")
    own = next(iter(found.values()), None)
    if without and isinstance(own, IdTokenizer):
        raise InputError(f"{' and '.join(found)} holds token ids, and {' and '.join(without)} text: mix one kind")
    return own


def _mixed(corpora: Sequence[Corpus], names: Sequence[str], shares: Sequence[float]) -> Corpus:
    """The corpora of a mixture as one, for its name and report."""
    reports = [corpus.report for corpus in corpora if isinstance(corpus.report, CorpusReport)]
    report = MixtureReport(reports, names, shares)
    train = list(chain.from_iterable(corpus.train for corpus in corpora))
    heldout = list(chain.from_iterable(corpus.heldout for corpus in corpora))
    return Corpus(report.name, train, heldout, report, corpora[0].special)


def _different(names: Sequence[str]) -> list[str]:
    """The names, with a number behind those that were there before."""
    found: list[str] = []
    for name in names:
        number = 1 + sum(one == name for one in names[: len(found)])
        found.append(name if number == 1 else f"{name} ({number})")
    return found


def _packed(
    make: Callable[[], Tokenizer], opened: Sequence[_Opened], processes: Processes, progress: bool = False
) -> tuple[Tokenizer, list[tuple[Packed | PackedShards, Packed]]]:
    """A tokenizer, and the (training text, held-out text) that it packed of each corpus.

    The main process makes them, and the others find them in the cache. A streamed corpus has no packed training text:
    its held-out text stands there too.
    """
    progress = progress and processes.is_main

    def pack_all(made: Tokenizer) -> list[tuple[Packed | PackedShards, Packed]]:
        texts: list[tuple[Packed | PackedShards, Packed]] = []
        for one in opened:
            if one.packed is not None:
                texts.append(one.packed[1:])
                continue
            heldout = pack(one.corpus.heldout, made, byte_counts=True, progress=progress)
            is_streamed = isinstance(one.corpus.train, StreamedDocuments)
            texts.append((heldout if is_streamed else pack(one.corpus.train, made, progress=progress), heldout))
        return texts

    def first() -> Tokenizer:
        made = make()
        if processes.world_size > 1:
            pack_all(made)  # into the cache
        return made

    made = processes.broadcast(first)
    texts = processes.together(lambda: pack_all(made))
    if processes.is_main:
        for line in made.notes:
            _log.warning(escape_control_characters(f"tokenizer: {line}"))
        for one, (text, heldout) in zip(opened, texts):
            _tell_loss(one.corpus, made, text, heldout, f"{one.corpus.name}: " if len(opened) > 1 else "")
    return made, texts


def _tell_loss(corpus: Corpus, tokenizer: Tokenizer, text: Packed | PackedShards, heldout: Packed, where: str) -> None:
    """Log what of the text the tokens do not hold."""
    tried = corpus.heldout if isinstance(corpus.train, StreamedDocuments) else corpus.train
    if corpus.special is None and (changed := changed_documents(tried, tokenizer)):
        _log.warning(escape_control_characters(f"{where}text: {changed}"))
    for name, packed in (("text", text), ("held-out text", heldout)):
        if packed.encoding_loss and not (packed is heldout and name == "text"):
            _log.warning(escape_control_characters(f"{where}{name}: {packed.encoding_loss}"))


def _own_or_new(
    opened: Sequence[_Opened], tokenizer: str | Tokenizer, texts: Iterable[str], *settings: Any
) -> Tokenizer:
    """The tokenizer that the corpora bring, or the one of that name; raises `InputError` where both differ."""
    own = _own_tokenizer(opened)
    if own is None:
        return _tokenizer(tokenizer, texts, *settings)
    if tokenizer == "bpe":
        return own
    made = None if tokenizer == "characters" else _tokenizer(tokenizer, (), *settings)
    if made is None or made.fingerprint != own.fingerprint:
        what = "holds token ids" if isinstance(own, IdTokenizer) else "was packed with its own tokenizer"
        raise InputError(f"{opened[0].corpus.name} {what}, so {tokenizer} cannot be used: leave that out")
    return made


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
