"""Documents of a corpus that is read as it comes, from any place in it that was noted before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import InputError
from .documents import checked_text, is_heldout
from .tables import TABLES, read_hub, read_tables, tables_in, texts_of, why

ROWS = 32
"""That are read at a time."""
ENDS = 2**16
"""Bytes at the beginning and at the end of a file that it is known by."""


class StreamedDocuments:
    """One side of a streamed corpus, split by hash: each iteration reads it again from the start."""

    def __init__(self, rows: Any, column: str, name: str, share: float, heldout: bool, fingerprint: str) -> None:
        self.rows, self.column, self.name, self.share, self.heldout = rows, column, name, share, heldout
        self.fingerprint = fingerprint
        """Of the files, as far as they can be told apart without reading them all, and of column and share."""

    @property
    def files(self) -> int:
        """How many there are, which is into how many parts this can be divided."""
        return self.rows.num_shards

    def part(self, number: int, of: int) -> StreamedDocuments:
        """Every `of`-th file, from `number` on; `of` must divide the number of files."""
        from datasets.distributed import split_dataset_by_node

        rows = split_dataset_by_node(self.rows, number, of, strategy="shards")
        return StreamedDocuments(rows, self.column, self.name, self.share, self.heldout, self.fingerprint)

    def read(self, position: dict[str, Any] | None = None) -> Reading:
        """The documents from a position on that an earlier reading noted; from the start where None."""
        return Reading(self, position)

    def __iter__(self) -> Iterator[str]:
        for documents in self.read():
            yield from documents


class Reading(Iterator[list[str]]):
    """One way through streamed documents, those of some rows at a time, which knows how far it has come.

    `datasets` has its own way of sharing rows out among the workers of a `DataLoader`, but for rows in batches: here
    whoever reads a part reads all of it.
    """

    def __init__(self, documents: StreamedDocuments, position: dict[str, Any] | None = None) -> None:
        self._of = documents
        self._rows = documents.part(0, 1).rows  # its own: two readings of the same rows would share their place
        if position is not None:
            self._rows.load_state_dict(position)
        self._batches = self._rows.iter(batch_size=ROWS)

    @property
    def position(self) -> dict[str, Any]:
        """Behind the last rows that were read, as JSON can hold it."""
        return self._rows.state_dict()

    def __next__(self) -> list[str]:
        try:
            rows = next(self._batches)
        except StopIteration:
            raise
        except Exception as error:  # of many kinds, by the format of the file
            raise InputError(f"{self._of.name} cannot be read any further: {why(error)}") from error
        texts = (checked_text(text, self._of.name) for text in texts_of(rows, self._of.column, self._of.name))
        return [text for text in texts if text.strip() and is_heldout(text, self._of.share) == self._of.heldout]


def stream_documents(source: Any, column: str, share: float) -> tuple[StreamedDocuments, StreamedDocuments]:
    """What is learned from and what is held out of a table, a folder of tables, or a name on the hub.

    Raises `FileNotFoundError` for a file that does not exist and `InputError` for what is no such source.
    """
    if not isinstance(source, (str, Path)) or source == "builtin":
        raise InputError("only tables, folders of tables, and hub names can be streamed")
    name, path = str(source), Path(source).expanduser()
    if path.is_dir():
        files = tables_in(path)
        if not files:
            raise InputError(f"{path} holds no tables to stream: expected names that end in {', '.join(TABLES)}")
    elif path.suffix.lower() in TABLES:
        if not path.exists():
            raise FileNotFoundError(2, "no such corpus file", str(path))
        if not path.is_file():
            raise InputError(f"{path} is neither a file nor a folder, so it has no end that could be read to")
        files = [path]
    elif path.exists():
        raise InputError(f"{path} is no table, and only tables can be streamed: {', '.join(TABLES)}")
    else:
        rows = read_hub(name, streaming=True)
        return _sides(rows, column, name, share, known_by=name)
    known_by = hashlib.blake2b(b"".join(_known_by(file) for file in files)).hexdigest()
    return _sides(read_tables(files, column, streaming=True), column, path.name, share, known_by)


def _sides(
    rows: Any, column: str, name: str, share: float, known_by: str
) -> tuple[StreamedDocuments, StreamedDocuments]:
    fingerprint = hashlib.blake2b(repr((known_by, column, share)).encode(), digest_size=16).hexdigest()
    train, heldout = (StreamedDocuments(rows, column, name, share, side, fingerprint) for side in (False, True))
    return train, heldout


def _known_by(file: Path) -> bytes:
    """A file's name, size and two ends: enough to see that it was added to, cut or replaced, without reading it all."""
    size = file.stat().st_size
    with open(file, "rb") as opened:
        begins = opened.read(ENDS)
        opened.seek(max(0, size - ENDS))
        ends = opened.read(ENDS)
    return repr((file.name, size)).encode() + hashlib.blake2b(begins + ends).digest()
