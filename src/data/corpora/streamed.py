"""Documents of a streamed corpus, read from the start or from a position that was saved."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...errors import InputError
from .documents import checked_text, is_heldout
from .tables import TABLES, read_hub, read_tables, root_cause, tables_in, texts_of

ROWS_AT_ONCE = 32
"""Rows that are read at a time."""
HASHED_BYTES = 2**16
"""Bytes at the beginning and at the end of a file that enter its fingerprint."""


class StreamedDocuments:
    """The training or the held-out documents of a streamed corpus, split by hash.

    Each iteration reads them again from the start.
    """

    def __init__(self, rows: Any, column: str, name: str, share: float, heldout: bool, fingerprint: str) -> None:
        self.rows, self.column, self.name, self.share, self.heldout = rows, column, name, share, heldout
        self.fingerprint = fingerprint
        """Of the names, sizes and both ends of the files, of the column and of the held-out share."""

    @property
    def files(self) -> int:
        """The number of files, which can be shared out among as many readers."""
        return self.rows.num_shards

    def part(self, number: int, of: int) -> StreamedDocuments:
        """Every `of`-th file, from `number` on; `of` must divide the number of files."""
        from datasets.distributed import split_dataset_by_node

        rows = split_dataset_by_node(self.rows, number, of, strategy="shards")
        return StreamedDocuments(rows, self.column, self.name, self.share, self.heldout, self.fingerprint)

    def read(self, position: dict[str, Any] | None = None) -> Reading:
        """The documents from a position on that an earlier reading was at; from the start by default."""
        return Reading(self, position)

    def __iter__(self) -> Iterator[str]:
        for documents in self.read():
            yield from documents


class Reading(Iterator[list[str]]):
    """An iterator over streamed documents, the documents of a few rows at a time, that knows its position.

    It reads all rows of its documents in every process: `datasets` would share them out among the workers of a
    `DataLoader`, but not those of `iter(batch_size=...)`.
    """

    def __init__(self, documents: StreamedDocuments, position: dict[str, Any] | None = None) -> None:
        self._documents = documents
        self._rows = documents.part(0, 1).rows  # a copy: two readings of one object would share a position
        if position is not None:
            self._rows.load_state_dict(position)
        self._batches = self._rows.iter(batch_size=ROWS_AT_ONCE)

    @property
    def position(self) -> dict[str, Any]:
        """The position behind the last rows that were read, as a JSON object."""
        return self._rows.state_dict()

    def __next__(self) -> list[str]:
        try:
            rows = next(self._batches)
        except StopIteration:
            raise
        except Exception as error:  # the type depends on the format of the file
            raise InputError(f"{self._documents.name} cannot be read any further: {root_cause(error)}") from error
        texts = (
            checked_text(text, self._documents.name)
            for text in texts_of(rows, self._documents.column, self._documents.name)
        )
        return [
            text
            for text in texts
            if text.strip() and is_heldout(text, self._documents.share) == self._documents.heldout
        ]


def stream_documents(source: Any, column: str, share: float) -> tuple[StreamedDocuments, StreamedDocuments]:
    """(training documents, held-out documents) of a table, a folder of tables, or a dataset of the hub.

    Raises `FileNotFoundError` for a file that does not exist and `InputError` for any other kind of source.
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
            raise InputError(f"{path} is neither a file nor a folder: a pipe or a device has no known end")
        files = [path]
    elif path.exists():
        raise InputError(f"{path} is no table, and only tables can be streamed: {', '.join(TABLES)}")
    else:
        rows = read_hub(name, streaming=True)
        return _sides(rows, column, name, share, fingerprint=name)
    fingerprint = hashlib.blake2b(b"".join(_file_fingerprint(file) for file in files)).hexdigest()
    return _sides(read_tables(files, column, streaming=True), column, path.name, share, fingerprint)


def _sides(
    rows: Any, column: str, name: str, share: float, fingerprint: str
) -> tuple[StreamedDocuments, StreamedDocuments]:
    fingerprint = hashlib.blake2b(repr((fingerprint, column, share)).encode(), digest_size=16).hexdigest()
    train, heldout = (StreamedDocuments(rows, column, name, share, side, fingerprint) for side in (False, True))
    return train, heldout


def _file_fingerprint(file: Path) -> bytes:
    """A hash of a file's name, size and both ends: it shows that the file grew, was cut or replaced."""
    size = file.stat().st_size
    with open(file, "rb") as opened:
        beginning = opened.read(HASHED_BYTES)
        opened.seek(max(0, size - HASHED_BYTES))
        end = opened.read(HASHED_BYTES)
    return repr((file.name, size)).encode() + hashlib.blake2b(beginning + end).digest()
