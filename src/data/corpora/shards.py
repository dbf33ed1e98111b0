"""Pack a corpus once, into shards that many runs map into memory and share.

    packed/
      packed.json                    its corpus, and the checksums of all other JSON files; written last
      tokenizer.json
      heldout.bin  heldout.json
      00000-of-00040.bin  .json      the tokens of one file of the corpus, or of every 256th if there are more
      ...

Each shard is written atomically, so that packing which was interrupted resumes with the shards that are missing or
damaged. The JSON file of a shard holds the checksums of its tokens, each verified before its tokens are first used.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ...checks import check_path
from ...errors import InputError
from ...escape import escape_control_characters
from ...progress import tracked
from ...workers import exit_with_parent
from ..blocks import Blocks
from ..packing import Packed, encoding_loss, read_if_whole, read_packed, write_packed
from ..tokenizers.load import load_tokenizer
from ..tokenizers.tokenizer import Tokenizer, tokenizing_in_one_thread
from .cache import sha256_of
from .streamed import StreamedDocuments

if TYPE_CHECKING:
    from ..file_formats import FinishedShards, UnfinishedShards

_log = logging.getLogger(__name__)

MAX_SHARDS = 256
"""The most shards that a corpus is packed into."""
DESCRIPTION = "packed.json"


@dataclass(frozen=True)
class PackedShards:
    """The shards that `pack_shards` made, as one packed text. No block holds tokens of two shards."""

    shards: Sequence[Packed]
    fingerprint: str
    """A hash of all tokens, of what the corpus is, and of the tokenizer."""

    def __len__(self) -> int:
        return sum(map(len, self.shards))

    @property
    def parts(self) -> Sequence[Packed]:
        """The token streams that blocks are cut from: one for each shard."""
        return self.shards

    @property
    def documents(self) -> int:
        """The number of documents in all shards."""
        return sum(shard.documents for shard in self.shards)

    @property
    def bytes(self) -> int:
        """Bytes of the text, in UTF-8."""
        return sum(shard.bytes for shard in self.shards)

    @property
    def encoding_loss(self) -> str:
        """What of the text the tokens do not hold: see `Packed.encoding_loss`."""
        return encoding_loss(self.shards)

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
    progress: bool = False,
) -> PackedShards:
    """Tokenise a streamed corpus into a folder, a shard for each of its files, in `workers` processes.

    Memory does not grow with the corpus. Shards that exist are kept, so the same call resumes what was interrupted.
    With `progress`, standard error shows how many are done, and how long the rest will take.

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
    from ..file_formats import FinishedShards, PackedDescription, UnfinishedShards

    folder = Path(folder)
    names = _names(min(documents.files, MAX_SHARDS))
    source = hashlib.blake2b(f"{documents.fingerprint} {tokenizer.fingerprint}".encode(), digest_size=16).hexdigest()
    unfinished = folder / "packing.json"
    for known, kind in ((folder / DESCRIPTION, FinishedShards), (unfinished, UnfinishedShards)):
        if _source_of(known, kind) not in (None, source):
            raise InputError(f"{folder} holds another corpus, or tokens of another tokenizer: choose another folder")
    UnfinishedShards(source=source).write(unfinished)
    tokenizer.save(folder / "tokenizer.json")
    write_packed(heldout, tokenizer, folder, "heldout", byte_counts=True)
    missing = [number for number, name in enumerate(names) if read_if_whole(folder, name) is None]
    make = partial(_pack_shard, documents, tokenizer, folder, len(names))
    alone = min(workers, len(missing)) <= 1
    made = _one_by_one(make, missing, names) if alone else _side_by_side(make, missing, names, workers)
    with closing(made):
        for _ in tracked(missing, "packing", unit="shards", visible=progress, heartbeat=True):
            next(made)
    FinishedShards(
        source=source,
        tokenizer=sha256_of(folder / "tokenizer.json"),
        special=tokenizer.special.named,
        heldout=PackedDescription.read(folder / "heldout.json").seal,
        shards=[PackedDescription.read(folder / f"{name}.json").seal for name in names],
    ).write(folder / DESCRIPTION)
    os.remove(unfinished)
    return open_shards(folder)[1]


def _one_by_one(
    make: Callable[[int, str], None], missing: Sequence[int], names: Sequence[str]
) -> Generator[None, None, None]:
    """Make the missing shards, one at each step."""
    for number in missing:
        yield make(number, names[number])


def _side_by_side(
    make: Callable[[int, str], None], missing: Sequence[int], names: Sequence[str], workers: int
) -> Generator[None, None, None]:
    """The same in processes of their own."""
    with (
        tokenizing_in_one_thread(),
        ProcessPoolExecutor(min(workers, len(missing)), initializer=exit_with_parent) as pool,
    ):
        try:
            for done in as_completed([pool.submit(make, number, names[number]) for number in missing]):
                yield done.result()
        except BrokenProcessPool as error:
            raise OSError(
                "a worker that tokenises died: was there too little memory? Finished shards are kept: start again"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def open_shards(folder: str | Path) -> tuple[Tokenizer, PackedShards, Packed]:
    """(tokenizer, training text, held-out text) of a folder that `pack_shards` made; tokens are read on access.

    Raises `InputError` for a folder with a file that is missing, damaged, or in the place of another. The tokens of
    the shards are not read here: `Blocks.take` raises `InputError` for the damaged ones.
    """
    from ..file_formats import FinishedShards

    folder = check_path(folder, "the folder of the shards")
    cure = f"; to make it again, run clozelab pack with --out {folder} as before, which keeps what is whole"
    try:
        described = FinishedShards.read(folder / DESCRIPTION)
        names = _names(len(described.shards))
        if sha256_of(folder / "tokenizer.json") != described.tokenizer:
            raise InputError(f"{folder / 'tokenizer.json'} is not the one that {folder} was packed with")
        heldout = read_packed(folder, "heldout", seal=described.heldout)
        shards = [
            read_packed(folder, name, seal=seal, lazily=True, cure=cure) for name, seal in zip(names, described.shards)
        ]
    except FileNotFoundError as error:
        raise InputError(f"{folder} is damaged: {error.filename} is missing{cure}") from error
    except InputError as error:
        raise InputError(f"{str(error).removesuffix(cure)}{cure}") from error
    tokenizer = load_tokenizer(folder / "tokenizer.json", sentinels=0, roles=described.special)
    if any(packed.tokenizer != tokenizer.fingerprint for packed in (heldout, *shards)):
        raise InputError(f"{folder / 'tokenizer.json'} is not the tokenizer that {folder} was packed with{cure}")
    return tokenizer, PackedShards(shards, described.seal), heldout


def _source_of(path: Path, kind: type[FinishedShards] | type[UnfinishedShards]) -> str | None:
    """The corpus that is packed, or being packed; None where there is no such file, or it is damaged."""
    from .descriptions import OtherFormat

    try:
        return kind.read(path).source
    except FileNotFoundError:
        return None
    except OtherFormat:
        raise
    except InputError as error:
        _log.warning(escape_control_characters(f"{error}; the folder is packed again"))
        return None


def _names(count: int) -> list[str]:
    """The names of so many shards."""
    return [f"{number:05d}-of-{count:05d}" for number in range(count)]


def _pack_shard(
    documents: StreamedDocuments, tokenizer: Tokenizer, folder: Path, of: int, number: int, name: str
) -> None:
    part = documents.part(number, of)
    write_packed(tracked(part, name, unit="documents", visible=False), tokenizer, folder, name)
