"""Pack documents into one stream of token ids on the disk, from which blocks of any length are cut.

    documents   "the cat sat"      "on the mat"
    stream      the cat sat </s>   on the mat </s>
    blocks(3)   [the cat sat] [</s> on the] | remainder: mat </s>

Nothing is padded. The tokens that do not fill a block are counted by `remainder`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..checks import WHOLE, check_int, check_path, check_tensor, check_type
from ..errors import InputError
from ..escape import counted, escape_control_characters, shorten
from ..progress import tracked
from .blocks import Blocks
from .corpora.cache import cache_folder, fingerprint, written_whole
from .corpora.documents import Document
from .packed_files import CheckedArray, SummedFile
from .tokenizers.ids import IdTokenizer
from .tokenizers.tokenizer import Tokenizer

_log = logging.getLogger(__name__)

BATCH = 1024
"""The most texts that are tokenised together, in parallel."""
CHARACTERS = 2**22
"""The most characters of texts that are tokenised together; a longer text is tokenised by itself."""


@dataclass(frozen=True)
class Packed:
    """One stream of token ids, memory-mapped."""

    tokens: np.ndarray
    """(N,) uint16 or uint32: each document with an end of text behind it."""
    documents: int
    bytes: int
    """Bytes of the text, in UTF-8."""
    fingerprint: str
    """A hash of the text and the tokenizer."""
    tokenizer: str
    """The tokenizer's own fingerprint."""
    unknown: int = 0
    """Tokens that stand for what the vocabulary cannot write."""
    emptied: int = 0
    """Documents that have text and no token."""
    byte_counts: np.ndarray | None = None
    """(N,) uint32: the bytes of text that each token stands for; None where they were not counted."""
    checked: CheckedArray | None = None
    """The file of the tokens, of which not every chunk is verified yet; None where nothing is left to verify."""

    @property
    def encoding_loss(self) -> str:
        """What of the text the tokens do not hold, in one line; empty where nothing is known to be lost."""
        return encoding_loss([self])

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def parts(self) -> Sequence[Packed]:
        """The token streams that blocks are cut from: here one."""
        return [self]

    def verify(self, start: int, stop: int) -> None:
        """Raises `InputError` unless the tokens from `start` to before `stop` are those that were written."""
        if self.checked is not None:
            self.checked.verify(start, stop)

    def blocks(self, length: int) -> Blocks:
        """The whole blocks of `length` tokens; raises `InputError` where there is none."""
        return Blocks(self, length)


def encoding_loss(parts: Sequence[Packed]) -> str:
    """What of the text of several streams the tokens do not hold, in one line; empty where nothing is known to be
    lost."""
    names = ("unknown", "emptied", "documents")
    unknown, emptied, documents = (sum(getattr(part, name) for part in parts) for name in names)
    tokens = sum(map(len, parts))
    share = f"{unknown:,} of {counted(tokens, 'token')} ({unknown / max(tokens, 1):.2%})"
    lines = (
        (f"{share} {'is' if unknown == 1 else 'are'} unknown", unknown),
        (f"{emptied:,} of {counted(documents, 'document')} {'has' if emptied == 1 else 'have'} no token", emptied),
    )
    return ", ".join(line for line, number in lines if number)


def document_ids(tokens: Tensor, eos: int) -> Tensor:
    """The document of its row that each token of (B, T) belongs to: 0, 1, 2, ...

    An end of text belongs to the document that it ends.

    >>> import torch
    >>> from clozelab.data import document_ids
    >>> document_ids(torch.tensor([[5, 6, 1, 7, 1, 8]]), eos=1)
    tensor([[0, 0, 0, 1, 1, 2]])
    """
    check_tensor(tokens, "tokens", "(B, T)", WHOLE)
    ended = (tokens == check_int(eos, "eos")).long().cumsum(1)
    return torch.cat([torch.zeros_like(ended[:, :1]), ended[:, :-1]], 1)


def pack(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    *,
    cache_dir: str | Path | None = None,
    byte_counts: bool = False,
    progress: bool = False,
) -> Packed:
    """Tokenise documents into one stream, or return the stream that was made of them before.

    For an `IdTokenizer` documents are arrays (N,) of token ids.

    The stream is kept in the cache folder under a key of (content, tokenizer, format) and written atomically: a run
    that is killed leaves no partial stream, and two runs may write the same one at once. One that is damaged is made
    again, and the damage logged. `progress` shows a bar.
    `byte_counts` has the bytes of each token kept too, for bits per byte of a tokenizer without `byte_lengths`: use it
    for held-out text.

    >>> from clozelab.data import pack, train_characters
    >>> pack(["ab", "b"], train_characters(["ab"], sentinels=0)).tokens.tolist()
    [4, 5, 1, 5, 1]

    Raises `InputError` for documents that are not strings and where there are none, `OSError` for a full disk.
    """
    from .file_formats import PackedDescription

    check_type(tokenizer, Tokenizer, "the tokenizer", "load_tokenizer makes one from other kinds")
    if isinstance(documents, (str, Mapping)) or not isinstance(documents, Iterable):
        raise InputError(f"expected several documents, got one {type(documents).__name__}: put it in a list")
    folder = check_path(cache_dir, "cache_dir") if cache_dir is not None else cache_folder()
    if iter(documents) is documents:  # an iterator can be read only once
        documents = list(documents)
    if isinstance(tokenizer, IdTokenizer):
        documents = [one if isinstance(one, (str, np.ndarray)) else np.asarray(one) for one in documents]
    key = fingerprint(documents, f"{tokenizer.fingerprint} {PackedDescription.FORMAT}")
    found = read_if_whole(folder, key)
    if found is not None and (found.byte_counts is not None or not byte_counts or tokenizer.byte_lengths is not None):
        return found
    counted = tracked(documents, "tokenising", unit="documents", visible=progress)
    return write_packed(counted, tokenizer, folder, key, byte_counts=byte_counts)


def write_packed(
    documents: Iterable[Document], tokenizer: Tokenizer, folder: Path, key: str, *, byte_counts: bool = False
) -> Packed:
    """Tokenise documents into `folder/KEY.bin`, described by `KEY.json`; each file is written atomically.

    With `byte_counts` those of each token stand in `KEY.bytes`, unless they follow from the ids or the tokenizer does
    not tell them.
    """
    from .file_formats import PackedDescription

    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32)
    totals = {"documents": 0, "bytes": 0, "tokens": 0, "unknown": 0, "emptied": 0}
    byte_counts = byte_counts and tokenizer.byte_lengths is None
    counter = written_whole(folder / f"{key}.bytes") if byte_counts else nullcontext()
    with written_whole(folder / f"{key}.bin") as opened, counter as counts_opened:
        file, counts_file = SummedFile(opened), None if counts_opened is None else SummedFile(counts_opened)
        counted = True  # whether the tokenizer tells the bytes of all tokens so far
        empty, uncounted = True, 0  # of the document that is read: whether it has no token, bytes before its next one
        for text, ids, ended in encoded(documents, tokenizer):
            stream = np.array([*ids, tokenizer.special.eos] if ended else ids, dtype=dtype)
            file.write(stream.tobytes())
            size, empty = len(text.encode()) if isinstance(text, str) else 0, empty and not ids
            totals["documents"] += ended
            totals["bytes"] += size
            totals["tokens"] += len(stream)
            uncounted += size
            totals["emptied"] += ended and empty and uncounted > 0
            if tokenizer.unknown is not None:
                totals["unknown"] += int((stream == tokenizer.unknown).sum())
            if counts_file is not None and len(stream):
                known = tokenizer.byte_counts(text) if counted else None
                counted = known is not None
                counts = np.array([*(known or [0] * len(ids)), 0][: len(stream)], np.uint32)
                counts[0] += uncounted - int(counts.sum())  # of pieces of the document without a token
                counts_file.write(counts.tobytes())
            uncounted = 0 if ids or ended else uncounted
            empty = empty or ended
    PackedDescription(
        name=key,
        dtype="uint16" if dtype == np.uint16 else "uint32",
        tokenizer=tokenizer.fingerprint,
        checksums=file.checksums(),
        byte_counts=counts_file.checksums() if counts_file is not None and counted else None,
        **totals,
    ).write(folder / f"{key}.json")
    return read_packed(folder, key)


def encoded(documents: Iterable[Any], tokenizer: Tokenizer) -> Iterator[tuple[Any, list[int], bool]]:
    """(text or ids, its token ids, whether a document ends there), tokenised in batches of bounded size.

    A document of more than about a million characters comes in pieces, whose tokens are those of the whole. Raises
    `InputError` for one that cannot be cut.

    >>> from clozelab.data import train_characters
    >>> from clozelab.data.packing import encoded
    >>> list(encoded(["ab", "b"], train_characters(["ab"], sentinels=0)))
    [('ab', [4, 5], True), ('b', [5], True)]
    """
    batch: list[tuple[Any, bool]] = []
    characters = 0
    for text, ended in _pieces(documents, tokenizer):
        if batch and (len(batch) == BATCH or characters + len(text) > CHARACTERS):
            yield from _encoded(batch, tokenizer)
            batch, characters = [], 0
        batch.append((text, ended))
        characters += len(text)
    yield from _encoded(batch, tokenizer)


def _pieces(documents: Iterable[Any], tokenizer: Tokenizer) -> Iterator[tuple[Any, bool]]:
    for document in documents:
        left = len(document)
        for piece in tokenizer.cut(document):
            left -= len(piece)
            yield piece, left == 0


def _encoded(batch: list[tuple[Any, bool]], tokenizer: Tokenizer) -> Iterator[tuple[Any, list[int], bool]]:
    for (text, ended), ids in zip(batch, tokenizer.encode_batch([text for text, _ in batch])):
        yield text, ids, ended


def read_packed(folder: Path, key: str, *, seal: str | None = None, lazily: bool = False, cure: str = "") -> Packed:
    """The packed text of a key, every token verified, or `lazily` each chunk before its first use.

    `seal` is the checksum that `KEY.json` must have. Raises `FileNotFoundError` where a file is missing, and
    `InputError`, which ends with the `cure`, where one is not what was written.
    """
    from .file_formats import PackedDescription

    try:
        described = PackedDescription.read(folder / f"{key}.json", seal)
    except InputError as error:
        raise InputError(f"{error}{cure}") from error
    if described.name != key:
        raise InputError(f"{folder / key}.json is damaged: it describes {shorten(described.name, 80)}{cure}")
    tokens = CheckedArray(folder / f"{key}.bin", described.dtype, described.tokens, described.checksums, cure)
    counts = None
    if described.byte_counts is not None:
        counts = CheckedArray(folder / f"{key}.bytes", "uint32", described.tokens, described.byte_counts, cure)
        counts.verify(0, described.tokens)
    if not lazily:
        tokens.verify(0, described.tokens)
    return Packed(
        tokens.values,
        documents=described.documents,
        bytes=described.bytes,
        fingerprint=key,
        tokenizer=described.tokenizer,
        unknown=described.unknown,
        emptied=described.emptied,
        byte_counts=None if counts is None else counts.values,
        checked=tokens if lazily else None,
    )


def read_if_whole(folder: Path, key: str) -> Packed | None:
    """The packed text of a key; None where there is none, or where it is damaged, which is logged."""
    try:
        return read_packed(folder, key)
    except FileNotFoundError:
        return None
    except InputError as error:
        _log.warning(escape_control_characters(f"{error}; it is made again"))
        return None
