"""Documents to one stream of token ids on the disk; blocks of any length are views of it.

    documents   "the cat sat"      "on the mat"
    stream      the cat sat </s>   on the mat </s>
    blocks(3)   [the cat sat] [</s> on the] | remainder: mat </s>

Nothing is padded, and what does not fill a block is reported.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..checks import WHOLE, check_int, check_path, check_tensor, check_type
from ..errors import InputError
from .corpora.cache import cache_folder, fingerprint, read_json, written_whole
from .tokenizers.tokenizer import Tokenizer

if TYPE_CHECKING:
    from .corpora.shards import PackedShards

FORMAT = 2
BATCH = 1024
"""Texts that are tokenised at a time, in parallel, and"""
CHARACTERS = 2**22
"""of how many characters together, or one text of more."""


@dataclass(frozen=True)
class Packed:
    """One stream of token ids, memory-mapped."""

    tokens: np.ndarray
    """(N,) uint16 or uint32: each document with an end of text behind it."""
    documents: int
    bytes: int
    """Of the text, in UTF-8."""
    fingerprint: str
    """Of the text and the tokenizer."""
    tokenizer: str
    """The tokenizer's own fingerprint."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def parts(self) -> Sequence[np.ndarray]:
        """Of which blocks are cut: here all of it."""
        return [self.tokens]

    def blocks(self, length: int) -> Blocks:
        """The stream in blocks of `length`; raises `InputError` where it does not fill one."""
        return Blocks(self, length)


class Blocks(torch.utils.data.Dataset):
    """The whole blocks of each part of a packed text: `blocks.take(ids)` gives (B, length), `blocks[i]` one example.

    As a dataset each example carries its `identity`, which the collator seeds its noise by, and the `epoch` last
    given to `set_epoch` (which `accelerate` and so the Hugging Face Trainer call).

    >>> from clozelab.data import train_bpe
    >>> tokenizer = train_bpe(["abc"] * 2, vocab_size=400)
    >>> blocks = pack(["abc", "abcabc"], tokenizer).blocks(2)
    >>> len(blocks), blocks.remainder
    (2, 1)
    """

    def __init__(self, packed: Packed | PackedShards, length: int) -> None:
        if not hasattr(packed, "parts"):
            raise InputError(f"expected packed text, which pack makes, got {type(packed).__name__}")
        if check_int(length, "the length of a block") < 1:
            raise InputError(f"a block needs at least 1 token, got {length}")
        self._parts = [part[: len(part) // length * length].reshape(-1, length) for part in packed.parts]
        self._begins = np.cumsum([0, *map(len, self._parts)])  # the number of each part's first block
        if len(self) == 0:
            raise InputError(
                f"the corpus of {packed.documents} documents has {len(packed)} tokens, which does not fill one block "
                f"of {length}: use more text or shorter blocks"
            )
        self.packed = packed
        self.length = length
        self.epoch = 0

    def __len__(self) -> int:
        return int(self._begins[-1])

    @property
    def remainder(self) -> int:
        """Tokens at the ends of the parts that fill no block, and are in none."""
        return len(self.packed) - len(self) * self.length

    def take(self, ids: Sequence[int] | Tensor) -> Tensor:
        """Blocks by their numbers: (B, length) int64, a copy."""
        numbers = np.asarray(ids)
        if numbers.ndim != 1 or (numbers.size and (numbers.dtype.kind not in "iu" or numbers.min() < 0)):
            raise InputError(f"expected the numbers (B,) of blocks, from 0, got {ids!r:.80}")
        if numbers.size and numbers.max() >= len(self):
            raise IndexError(f"block {numbers.max()} of {len(self)}")
        numbers = numbers.astype(np.int64)
        taken = np.empty((len(numbers), self.length), np.int64)
        of = np.searchsorted(self._begins, numbers, side="right") - 1  # which part each lies in
        for part in np.unique(of):
            here = of == part
            taken[here] = self._parts[part][numbers[here] - self._begins[part]]
        return torch.from_numpy(taken)

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next examples belong to."""
        self.epoch = check_int(epoch, "epoch")

    def __getitem__(self, i: int) -> dict[str, Any]:
        if not -len(self) <= check_int(i, "the number of a block") < len(self):
            raise IndexError(f"block {i} of {len(self)}")
        i %= len(self)
        return {"input_ids": self.take([i])[0], "example_id": i, "epoch": self.epoch}


def document_ids(tokens: Tensor, eos: int) -> Tensor:
    """Which document of its row each token belongs to, (B, T): 0, 1, 2, ...; an end of text ends its own.

    >>> document_ids(torch.tensor([[5, 6, 1, 7, 1, 8]]), eos=1)
    tensor([[0, 0, 0, 1, 1, 2]])
    """
    check_tensor(tokens, "tokens", "(B, T)", WHOLE)
    ended = (tokens == check_int(eos, "eos")).long().cumsum(1)
    return torch.cat([torch.zeros_like(ended[:, :1]), ended[:, :-1]], 1)


def pack(
    documents: Iterable[str],
    tokenizer: Tokenizer,
    *,
    cache_dir: str | Path | None = None,
    progress: bool = False,
) -> Packed:
    """Tokenise documents into one stream, or find the one that was made of them before.

    The stream lies in the cache folder under a key of (content, tokenizer, format) and is written beside its place,
    then renamed into it: a run that is killed half way leaves no half stream, and two at once do each other no harm.

    Raises `InputError` for documents that are no strings and where there are none, `OSError` for a full disk.
    """
    check_type(tokenizer, Tokenizer, "the tokenizer", "load_tokenizer makes one of another's")
    if isinstance(documents, (str, Mapping)) or not isinstance(documents, Iterable):
        raise InputError(f"expected several documents, got one {type(documents).__name__}: put it in a list")
    folder = check_path(cache_dir, "cache_dir") if cache_dir is not None else cache_folder()
    if iter(documents) is documents:  # can be read once only
        documents = list(documents)
    key = fingerprint(documents, f"{tokenizer.fingerprint} {FORMAT}")
    found = read_packed(folder, key)
    if found is not None:
        return found
    return write_packed(_shown(documents, progress), tokenizer, folder, key)


def write_packed(documents: Iterable[str], tokenizer: Tokenizer, folder: Path, key: str) -> Packed:
    """Tokenise documents into `folder/KEY.bin`, with `KEY.json` beside it; each is there whole or not at all."""
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32)
    counts = {"documents": 0, "bytes": 0, "tokens": 0}
    with written_whole(folder / f"{key}.bin") as file:
        for text, ids, ended in encoded(documents, tokenizer):
            stream = np.array([*ids, tokenizer.special.eos] if ended else ids, dtype=dtype)
            file.write(stream.tobytes())
            counts["documents"] += ended
            counts["bytes"] += len(text.encode())
            counts["tokens"] += len(stream)
    with written_whole(folder / f"{key}.json") as file:
        file.write(
            json.dumps({"format": FORMAT, "dtype": dtype.name, "tokenizer": tokenizer.fingerprint, **counts}).encode()
        )
    packed = read_packed(folder, key)
    assert packed is not None
    return packed


def encoded(documents: Iterable[str], tokenizer: Tokenizer) -> Iterator[tuple[str, list[int], bool]]:
    """(text, its tokens, whether a document ends there), a batch at a time, in memory that no document's length sets.

    A document of more than about a million characters comes in pieces, whose tokens are those of the whole. Raises
    `InputError` for one that cannot be cut.

    >>> from clozelab.data import train_characters
    >>> list(encoded(["ab", "b"], train_characters(["ab"], sentinels=0)))
    [('ab', [4, 5], True), ('b', [5], True)]
    """
    batch: list[tuple[str, bool]] = []
    characters = 0
    for text, ended in _pieces(documents, tokenizer):
        if batch and (len(batch) == BATCH or characters + len(text) > CHARACTERS):
            yield from _encoded(batch, tokenizer)
            batch, characters = [], 0
        batch.append((text, ended))
        characters += len(text)
    yield from _encoded(batch, tokenizer)


def _pieces(documents: Iterable[str], tokenizer: Tokenizer) -> Iterator[tuple[str, bool]]:
    for document in documents:
        left = len(document)
        for piece in tokenizer.cut(document):
            left -= len(piece)
            yield piece, left == 0


def _encoded(batch: list[tuple[str, bool]], tokenizer: Tokenizer) -> Iterator[tuple[str, list[int], bool]]:
    for (text, ended), ids in zip(batch, tokenizer.encode_batch([text for text, _ in batch])):
        yield text, ids, ended


def _shown(documents: Iterable[str], progress: bool) -> Iterable[str]:
    if not progress:
        return documents
    from rich.console import Console
    from rich.progress import track

    return track(documents, description="tokenising", console=Console(stderr=True), transient=True)


def read_packed(folder: Path, key: str) -> Packed | None:
    """The packed text of a key, or None where it is missing or damaged (it is then made again)."""
    try:
        described = read_json(folder / f"{key}.json")
        dtype = np.dtype(described["dtype"])
        path, tokens = folder / f"{key}.bin", int(described["tokens"])
        if described["format"] != FORMAT or path.stat().st_size != tokens * dtype.itemsize:
            return None
        stream = np.memmap(path, dtype=dtype, mode="r", shape=(tokens,)) if tokens else np.zeros(0, dtype)
        return Packed(stream, int(described["documents"]), int(described["bytes"]), key, described["tokenizer"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
