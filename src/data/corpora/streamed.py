"""Documents of a streamed corpus, read from the start or from a position that was saved."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from ...errors import InputError
from ...escape import counted, escape_control_characters
from .documents import Row, is_heldout
from .files import CorpusFile
from .hub import column_of, root_cause
from .ids import IdRows
from .report import SHOWN, Counts
from .rows import check_of, read_rows

ROWS_AT_ONCE = 32
"""Rows that are read at a time."""
HASHED_BYTES = 2**16
"""Bytes at the beginning and at the end of a file that enter its fingerprint."""

_log = logging.getLogger(__name__)


class Source(Protocol):
    """Rows that are read a few at a time, and from any position."""

    @property
    def files(self) -> int:
        """The number of files, which can be shared out among as many readers."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of what decides which rows there are."""
        ...

    def part(self, number: int, of: int) -> Source:
        """Every `of`-th file, from `number` on; `of` must divide the number of files."""
        ...

    def read(self, position: dict[str, Any] | None) -> Iterator[tuple[list[Row], dict[str, Any]]]:
        """(rows, the position behind them), from a position on, or from the start."""
        ...


@dataclass(frozen=True)
class FileSource:
    """The rows of files."""

    paths: Sequence[CorpusFile]
    column: str
    lines: bool
    ids: IdRows | None

    @property
    def files(self) -> int:
        return len(self.paths)

    def part(self, number: int, of: int) -> FileSource:
        return replace(self, paths=self.paths[number::of])

    def read(self, position: dict[str, Any] | None) -> Iterator[tuple[list[Row], dict[str, Any]]]:
        first, skip = (position["file"], position["row"]) if position else (0, 0)
        for number, file in enumerate(self.paths[first:], first):
            rows = islice(read_rows(file, self.column, lines=self.lines, ids=self.ids), skip, None)
            while batch := list(islice(rows, ROWS_AT_ONCE)):
                skip += len(batch)
                yield batch, {"file": number, "row": skip}
            skip = 0

    @property
    def fingerprint(self) -> str:
        """Of the names, sizes and both ends of the files, and of what is read of them."""
        files = hashlib.blake2b(b"".join(_file_fingerprint(file.path) for file in self.paths)).hexdigest()
        return repr((files, self.column, self.lines, *([self.ids.special] if self.ids else [])))


@dataclass(frozen=True)
class HubSource:
    """The rows of a dataset of the hub.

    All rows are read in every process: `datasets` would share them out among the workers of a `DataLoader`, but not
    those of `iter(batch_size=...)`.
    """

    rows: Any
    column: str
    name: str
    ids: IdRows | None

    @property
    def files(self) -> int:
        return self.rows.num_shards

    @property
    def fingerprint(self) -> str:
        return repr((self.name, self.column, *([self.ids.special] if self.ids else [])))

    def part(self, number: int, of: int) -> HubSource:
        from datasets.distributed import split_dataset_by_node

        return replace(self, rows=split_dataset_by_node(self.rows, number, of, strategy="shards"))

    def read(self, position: dict[str, Any] | None) -> Iterator[tuple[list[Row], dict[str, Any]]]:
        rows = self.part(0, 1).rows  # a copy: two readings of one object would share a position
        if position is not None:
            rows.load_state_dict(position)
        batches = rows.iter(batch_size=ROWS_AT_ONCE)
        while True:
            try:
                batch = next(batches, None)
            except Exception as error:  # the type depends on the format of the file
                raise InputError(f"{self.name} cannot be read any further: {root_cause(error)}") from error
            if batch is None:
                return
            values, check = column_of(batch, self.column, self.name), check_of(self.column, self.ids)
            yield [check(value, self.name) for value in values], rows.state_dict()


class StreamedDocuments:
    """The training or the held-out documents of a streamed corpus.

    `share` is that of the documents that are held out by their hash, None where all of the source are taken. Each
    iteration reads them again from the start.
    """

    def __init__(
        self, source: Source, name: str, fingerprint: str, share: float | None, heldout: bool, skip_bad_rows: bool
    ) -> None:
        self.source, self.name, self.share, self.heldout = source, name, share, heldout
        self.fingerprint, self.skip_bad_rows = fingerprint, skip_bad_rows
        self.logged: set[str] = set()
        """What was reported about rows that were left out, so that it is reported once."""

    @property
    def files(self) -> int:
        """The number of files, which can be shared out among as many readers."""
        return self.source.files

    def part(self, number: int, of: int) -> StreamedDocuments:
        """Every `of`-th file, from `number` on; `of` must divide the number of files."""
        return self.of(self.source.part(number, of), self.share, self.heldout)

    def of(self, source: Source, share: float | None, heldout: bool) -> StreamedDocuments:
        """Documents of another source of the same corpus."""
        made = StreamedDocuments(source, self.name, self.fingerprint, share, heldout, self.skip_bad_rows)
        made.logged = self.logged
        return made

    def read(self, position: dict[str, Any] | None = None) -> Reading:
        """The documents from a position on that an earlier reading was at; from the start by default."""
        return Reading(self, position)

    def __iter__(self) -> Iterator[Any]:
        for documents in self.read():
            yield from documents


class Reading(Iterator[list[Any]]):
    """An iterator over streamed documents, the documents of a few rows at a time, that knows its position.

    The first few rows that are left out, and their number at the end, are logged.
    """

    def __init__(self, documents: StreamedDocuments, position: dict[str, Any] | None = None) -> None:
        self._documents = documents
        self._batches = documents.source.read(position)
        self._counts = Counts()
        self.position = position
        """The position behind the last rows that were read, as a JSON object; None before the first."""

    def __next__(self) -> list[Any]:
        batch = next(self._batches, None)
        if batch is None:
            if self._counts.bad > SHOWN:
                self._tell(
                    f"left out {self._counts.bad:,} of {counted(self._counts.rows, 'row')}, which cannot be read"
                )
            raise StopIteration
        rows, self.position = batch
        before = len(self._counts.bad_rows)
        texts = list(self._counts.documents(rows, self._documents.skip_bad_rows))
        for row in self._counts.bad_rows[before:]:
            self._tell(f"left out {row.place}: {row.reason}")
        share, heldout = self._documents.share, self._documents.heldout
        return [text for text in texts if share is None or is_heldout(text, share) == heldout]

    def _tell(self, message: str) -> None:
        if message not in self._documents.logged:
            self._documents.logged.add(message)
            _log.warning(escape_control_characters(f"{self._documents.name}: {message}"))


def stream_documents(
    train: Source, validation: Source | None, name: str, share: float, skip_bad_rows: bool
) -> tuple[StreamedDocuments, StreamedDocuments]:
    """(training documents, held-out documents) of a source, or of two."""
    described: list[Any] = [train.fingerprint, validation and validation.fingerprint, share, skip_bad_rows]
    fingerprint = hashlib.blake2b(repr(described).encode(), digest_size=16).hexdigest()
    split = share if validation is None else None
    documents = StreamedDocuments(train, name, fingerprint, split, False, skip_bad_rows)
    return documents, documents.of(validation or train, split, True)


def _file_fingerprint(file: Path) -> bytes:
    """A hash of a file's name, size and both ends: it shows that the file grew, was cut or replaced."""
    size = file.stat().st_size
    with open(file, "rb") as opened:
        beginning = opened.read(HASHED_BYTES)
        opened.seek(max(0, size - HASHED_BYTES))
        end = opened.read(HASHED_BYTES)
    return repr((file.name, size)).encode() + hashlib.blake2b(beginning + end).digest()
