"""Pack documents into one stream of token ids on the disk, from which blocks of any length are cut.

    documents   "the cat sat"      "on the mat"
    stream      the cat sat </s>   on the mat </s>
    blocks(3)   [the cat sat] [</s> on the] | remainder: mat </s>

Nothing is padded. The tokens that do not fill a block are counted by `remainder`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
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

FORMAT = 3
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

    @property
    def encoding_loss(self) -> str:
        """What of the text the tokens do not hold, in one line; empty where nothing is known to be lost."""
        share = f"{self.unknown:,} of {len(self):,} tokens ({self.unknown / max(len(self), 1):.2%}) are unknown"
        emptied = f"{self.emptied:,} of {self.documents:,} documents have no token"
        return ", ".join(line for line, number in ((share, self.unknown), (emptied, self.emptied)) if number)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def parts(self) -> Sequence[np.ndarray]:
        """The token streams that blocks are cut from: here one."""
        return [self.tokens]

    def blocks(self, length: int) -> Blocks:
        """The whole blocks of `length` tokens; raises `InputError` where there is none."""
        return Blocks(self, length)


class Blocks(torch.utils.data.Dataset):
    """The whole blocks of each part of a packed text: `blocks.take(ids)` gives (B, length), `blocks[i]` one example.

    As a dataset, each example has its `example_id`, from which the collator seeds its noise, and the `epoch` last given
    to `set_epoch`, which `accelerate` calls, and so does the Hugging Face Trainer.

    >>> from clozelab.data import pack, train_bpe
    >>> tokenizer = train_bpe(["abc"] * 2, vocab_size=400)
    >>> blocks = pack(["abc", "abcabc"], tokenizer).blocks(2)
    >>> len(blocks), blocks.remainder
    (2, 1)

    Raises `InputError` for what is not packed, a length below 1, and a text that does not fill one block.
    """

    def __init__(self, packed: Packed | PackedShards, length: int) -> None:
        if not hasattr(packed, "parts"):
            raise InputError(f"expected packed text, which pack makes, got {type(packed).__name__}")
        if check_int(length, "the length of a block") < 1:
            raise InputError(f"a block needs at least 1 token, got {length}")
        self._parts = [part[: len(part) // length * length].reshape(-1, length) for part in packed.parts]
        self._starts = np.cumsum([0, *map(len, self._parts)])  # the number of each part's first block
        if len(self) == 0:
            raise InputError(
                f"the text of {packed.documents} documents has {len(packed)} tokens, which does not fill one block "
                f"of {length}: use more text or shorter blocks"
            )
        self.packed = packed
        self.length = length
        self.epoch = 0

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def remainder(self) -> int:
        """The number of tokens at the ends of the parts that do not fill a block, and are left out."""
        return len(self.packed) - len(self) * self.length

    def take(self, ids: Sequence[int] | Tensor) -> Tensor:
        """Blocks by their numbers (B,): a copy (B, length), int64.

        Raises `InputError` for what are no block numbers, `IndexError` for a number beyond the last block.
        """
        numbers = np.asarray(ids)
        if numbers.ndim != 1 or (numbers.size and (numbers.dtype.kind not in "iu" or numbers.min() < 0)):
            raise InputError(f"expected the numbers (B,) of blocks, from 0, got {ids!r:.80}")
        if numbers.size and numbers.max() >= len(self):
            raise IndexError(f"block {numbers.max()} of {len(self)}")
        numbers = numbers.astype(np.int64)
        taken = np.empty((len(numbers), self.length), np.int64)
        parts = np.searchsorted(self._starts, numbers, side="right") - 1  # which part each lies in
        for part in np.unique(parts):
            here = parts == part
            taken[here] = self._parts[part][numbers[here] - self._starts[part]]
        return torch.from_numpy(taken)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the examples that are taken next."""
        self.epoch = check_int(epoch, "epoch")

    def __getitem__(self, i: int) -> dict[str, Any]:
        if not -len(self) <= check_int(i, "the number of a block") < len(self):
            raise IndexError(f"block {i} of {len(self)}")
        i %= len(self)
        return {"input_ids": self.take([i])[0], "example_id": i, "epoch": self.epoch}


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
    documents: Iterable[str],
    tokenizer: Tokenizer,
    *,
    cache_dir: str | Path | None = None,
    byte_counts: bool = False,
    progress: bool = False,
) -> Packed:
    """Tokenise documents into one stream, or return the stream that was made of them before.

    The stream is kept in the cache folder under a key of (content, tokenizer, format) and written atomically: a run
    that is killed leaves no partial stream, and two runs may write the same one at once. `progress` shows a bar.
    `byte_counts` has the bytes of each token kept too, for bits per byte of a tokenizer without `byte_lengths`: use it
    for held-out text.

    >>> from clozelab.data import pack, train_characters
    >>> pack(["ab", "b"], train_characters(["ab"], sentinels=0)).tokens.tolist()
    [4, 5, 1, 5, 1]

    Raises `InputError` for documents that are not strings and where there are none, `OSError` for a full disk.
    """
    check_type(tokenizer, Tokenizer, "the tokenizer", "load_tokenizer makes one from other kinds")
    if isinstance(documents, (str, Mapping)) or not isinstance(documents, Iterable):
        raise InputError(f"expected several documents, got one {type(documents).__name__}: put it in a list")
    folder = check_path(cache_dir, "cache_dir") if cache_dir is not None else cache_folder()
    if iter(documents) is documents:  # an iterator can be read only once
        documents = list(documents)
    key = fingerprint(documents, f"{tokenizer.fingerprint} {FORMAT}")
    found = read_packed(folder, key)
    if found is not None and (found.byte_counts is not None or not byte_counts or tokenizer.byte_lengths is not None):
        return found
    return write_packed(_with_progress(documents, progress), tokenizer, folder, key, byte_counts=byte_counts)


def write_packed(
    documents: Iterable[str], tokenizer: Tokenizer, folder: Path, key: str, *, byte_counts: bool = False
) -> Packed:
    """Tokenise documents into `folder/KEY.bin`, described by `KEY.json`; each file is written atomically.

    With `byte_counts` those of each token stand in `KEY.bytes`, unless they follow from the ids.
    """
    dtype = np.dtype(np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32)
    totals = {"documents": 0, "bytes": 0, "tokens": 0, "unknown": 0, "emptied": 0}
    byte_counts = byte_counts and tokenizer.byte_lengths is None
    counter = written_whole(folder / f"{key}.bytes") if byte_counts else nullcontext()
    with written_whole(folder / f"{key}.bin") as file, counter as counts_file:
        empty, uncounted = True, 0  # of the document that is read: whether it has no token, bytes before its next one
        for text, ids, ended in encoded(documents, tokenizer):
            stream = np.array([*ids, tokenizer.special.eos] if ended else ids, dtype=dtype)
            file.write(stream.tobytes())
            size, empty = len(text.encode()), empty and not ids
            totals["documents"] += ended
            totals["bytes"] += size
            totals["tokens"] += len(stream)
            uncounted += size
            totals["emptied"] += ended and empty and uncounted > 0
            if tokenizer.unknown is not None:
                totals["unknown"] += int((stream == tokenizer.unknown).sum())
            if counts_file is not None and len(stream):
                counts = np.array([*tokenizer.byte_counts(text), 0][: len(stream)], np.uint32)
                counts[0] += uncounted - int(counts.sum())  # of pieces of the document without a token
                counts_file.write(counts.tobytes())
            uncounted = 0 if ids or ended else uncounted
            empty = empty or ended
    described = {"format": FORMAT, "dtype": dtype.name, "tokenizer": tokenizer.fingerprint, "byte_counts": byte_counts}
    with written_whole(folder / f"{key}.json") as file:
        file.write(json.dumps(described | totals).encode())
    packed = read_packed(folder, key)
    assert packed is not None
    return packed


def encoded(documents: Iterable[str], tokenizer: Tokenizer) -> Iterator[tuple[str, list[int], bool]]:
    """(text, its token ids, whether a document ends there), tokenised in batches of bounded size.

    A document of more than about a million characters comes in pieces, whose tokens are those of the whole. Raises
    `InputError` for one that cannot be cut.

    >>> from clozelab.data import train_characters
    >>> from clozelab.data.packing import encoded
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


def _with_progress(documents: Iterable[str], progress: bool) -> Iterable[str]:
    if not progress:
        return documents
    from rich.console import Console
    from rich.progress import track

    return track(documents, description="tokenising", console=Console(stderr=True), transient=True)


def read_packed(folder: Path, key: str) -> Packed | None:
    """The packed text of a key, or None where it is missing or damaged, so that it is made again."""
    try:
        described = read_json(folder / f"{key}.json")
        dtype = np.dtype(described["dtype"])
        path, tokens = folder / f"{key}.bin", int(described["tokens"])
        if described["format"] != FORMAT or path.stat().st_size != tokens * dtype.itemsize:
            return None
        stream = np.memmap(path, dtype=dtype, mode="r", shape=(tokens,)) if tokens else np.zeros(0, dtype)
        counts = _read_byte_counts(folder / f"{key}.bytes", tokens) if described["byte_counts"] else None
        names = ("documents", "bytes", "unknown", "emptied")
        totals = {name: int(described[name]) for name in names}
        return Packed(stream, fingerprint=key, tokenizer=described["tokenizer"], byte_counts=counts, **totals)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _read_byte_counts(path: Path, tokens: int) -> np.ndarray:
    """The byte counts of a stream of so many tokens; raises `ValueError` for a file of another size."""
    if path.stat().st_size != 4 * tokens:
        raise ValueError(f"{path} does not hold the bytes of {tokens} tokens")
    return np.memmap(path, dtype=np.uint32, mode="r", shape=(tokens,)) if tokens else np.zeros(0, np.uint32)
