"""Pack a corpus once, into shards that many runs map into memory and share.

    packed/
      packed.json                    the fingerprint of its corpus, and the names of its shards; written last
      tokenizer.json
      heldout.bin  heldout.json
      00000-of-00040.bin  .json      the tokens of one file of the corpus, or of every 256th if there are more
      ...

Each shard is written atomically, so that packing which was interrupted resumes with the shards that are missing.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ...errors import InputError
from ..packing import Blocks, Packed, read_packed, write_packed
from ..tokenizers.load import load_tokenizer
from ..tokenizers.tokenizer import Tokenizer, tokenizing_in_one_thread
from .cache import read_json, written_whole
from .streamed import StreamedDocuments

FORMAT = 1
MAX_SHARDS = 256
"""The most shards that a corpus is packed into."""
DESCRIPTION = "packed.json"


@dataclass(frozen=True)
class PackedShards:
    """The shards that `pack_shards` made, as one packed text. No block holds tokens of two shards."""

    shards: Sequence[Packed]
    fingerprint: str
    """Of the corpus and the tokenizer."""

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    @property
    def parts(self) -> Sequence[np.ndarray]:
        """The token streams that blocks are cut from: one for each shard."""
        return [shard.tokens for shard in self.shards]

    @property
    def documents(self) -> int:
        """The number of documents in all shards."""
        return sum(shard.documents for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Bytes of the text, in UTF-8."""
        return sum(shard.bytes for shard in self.shards)

    @property
    def tokenizer(self) -> str:
        """The tokenizer's own fingerprint."""
        return self.shards[0].tokenizer

    def blocks(self, length: int) -> Blocks:
        """The whole blocks of `length` tokens; raises `InputError` where there is none."""
        return Blocks(self, length)


def is_packed(folder: str | Path) -> bool:
    """Whether `pack_shards` has finished a corpus there."""
    return (Path(folder) / DESCRIPTION).is_file()


def pack_shards(
    documents: StreamedDocuments,
    heldout: Sequence[str],
    tokenizer: Tokenizer,
    folder: str | Path,
    *,
    workers: int = 1,
) -> PackedShards:
    """Tokenise a streamed corpus into a folder, a shard for each of its files, in `workers` processes.

    Memory does not grow with the corpus. Shards that exist are kept, so the same call resumes what was interrupted.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from clozelab.data import load_corpus, open_shards, pack_shards, train_bpe
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = Path(folder, "a.csv").write_text("text\\n" + "the cat sat\\n" * 1000)
    ...     documents = load_corpus(folder, heldout=0.01, streaming=True).train
    ...     packed = pack_shards(documents, ["the cat"], train_bpe(documents, vocab_size=400), f"{folder}/packed")
    ...     tokenizer, text, heldout = open_shards(f"{folder}/packed")
    >>> len(text), len(text.blocks(8)), len(heldout)
    (4000, 500, 3)

    Raises `InputError` for a folder that holds another corpus and for a corpus without text, and `OSError` where the
    disk is full or a worker dies.
    """
    folder = Path(folder)
    count = min(documents.files, MAX_SHARDS)
    names = [f"{number:05d}-of-{count:05d}" for number in range(count)]
    source = hashlib.blake2b(f"{documents.fingerprint} {tokenizer.fingerprint}".encode(), digest_size=16).hexdigest()
    unfinished = folder / "packing.json"
    for known in (folder / DESCRIPTION, unfinished):
        if known.exists() and _described(known).get("fingerprint") != source:
            raise InputError(f"{folder} holds another corpus, or tokens of another tokenizer: choose another folder")
    with written_whole(unfinished) as file:
        file.write(json.dumps({"format": FORMAT, "fingerprint": source}).encode())
    tokenizer.save(folder / "tokenizer.json")
    write_packed(heldout, tokenizer, folder, "heldout", byte_counts=True)
    missing = [number for number in range(count) if read_packed(folder, names[number]) is None]
    make = partial(_pack_shard, documents, tokenizer, folder, count)
    if workers <= 1 or len(missing) <= 1:
        for number in missing:
            make(number, names[number])
    else:
        with (
            tokenizing_in_one_thread(),
            ProcessPoolExecutor(min(workers, len(missing)), initializer=_exit_with_parent) as pool,
        ):
            try:
                for done in as_completed([pool.submit(make, number, names[number]) for number in missing]):
                    done.result()
            except BrokenProcessPool as error:
                raise OSError(
                    "a worker that tokenises died: was there too little memory? Finished shards are kept: start again"
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)
    with written_whole(folder / DESCRIPTION) as file:
        file.write(json.dumps({"format": FORMAT, "fingerprint": source, "shards": names}, indent=1).encode())
    os.remove(unfinished)
    return open_shards(folder)[1]


def open_shards(folder: str | Path) -> tuple[Tokenizer, PackedShards, Packed]:
    """(tokenizer, training text, held-out text) of a folder that `pack_shards` made; tokens are read on access.

    Raises `InputError` for a folder with a file that is missing, damaged or of another size than was written.
    """
    folder = Path(folder)
    described = _described(folder / DESCRIPTION)
    names = described.get("shards")
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and Path(n).name == n for n in names):
        raise InputError(f"{folder / DESCRIPTION} is damaged: it names no shards")
    found = {name: read_packed(folder, name) for name in (*names, "heldout")}
    bad = [name for name, packed in found.items() if packed is None]
    if bad:
        raise InputError(
            f"{folder} is damaged: of {bad[0]}.bin and .json one is missing or not as it was written"
            f"{f', and {len(bad) - 1} more' if bad[1:] else ''}; pack the corpus again, which makes only those"
        )
    tokenizer = load_tokenizer(folder / "tokenizer.json", sentinels=0)
    whole = {name: packed for name, packed in found.items() if packed is not None}
    if any(packed.tokenizer != tokenizer.fingerprint for packed in whole.values()):
        raise InputError(f"{folder / 'tokenizer.json'} is not the tokenizer that {folder} was packed with")
    return tokenizer, PackedShards([whole[name] for name in names], str(described["fingerprint"])), whole["heldout"]


def _described(path: Path) -> dict[str, object]:
    try:
        described = read_json(path)
    except OSError as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if not isinstance(described, dict) or described.get("format") != FORMAT or "fingerprint" not in described:
        raise InputError(f"{path} is of a format that this version does not read (it reads format {FORMAT})")
    return described


def _exit_with_parent() -> None:
    """Exit when the parent process is killed: a worker would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _pack_shard(
    documents: StreamedDocuments, tokenizer: Tokenizer, folder: Path, of: int, number: int, name: str
) -> None:
    part = documents.part(number, of)
    write_packed(part, tokenizer, folder, name)
