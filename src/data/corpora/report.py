"""What a corpus was found to be, in a few lines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ...errors import InputError
from ...escape import counted, escape_control_characters
from .documents import BadRow, Document, Row

SHOWN = 3
"""Examples of what was left out that are shown."""
ROWS_AHEAD = 1000
"""Rows behind a bad one among which a document is looked for, before it is advised to leave that row out."""


@dataclass
class Counts:
    """What became of the rows of a corpus."""

    rows: int = 0
    found: int = 0
    """Rows that are documents."""
    missing: int = 0
    """Rows without a value, or with null."""
    empty: int = 0
    """Rows of white space alone."""
    bad: int = 0
    """Rows that could not be read and were left out."""
    bad_rows: list[BadRow] = field(default_factory=list)
    """The first few of them."""

    @property
    def left_out(self) -> str:
        """Why rows are left out, and how many of each kind."""
        kinds = ((self.missing, "missing"), (self.empty, "empty"), (self.bad, "not readable"))
        return ", ".join(f"{count:,} {kind}" for count, kind in kinds if count)

    def documents(self, rows: Iterable[Row], skip_bad_rows: bool) -> Iterator[Any]:
        """The documents among some rows; raises `InputError` for a bad row unless `skip_bad_rows`."""
        rows = iter(rows)
        for row in rows:
            self.rows += 1
            if row is None:
                self.missing += 1
            elif isinstance(row, BadRow):
                if not skip_bad_rows:
                    helps = self.found or _holds_a_document(rows)
                    cure = " (skip_bad_rows=True leaves out such rows)" if helps else ""
                    raise InputError(f"{row.place}: {row.reason}{cure}")
                self.bad += 1
                if len(self.bad_rows) < SHOWN:
                    self.bad_rows.append(row)
            elif _is_document(row):
                self.found += 1
                yield row
            else:
                self.empty += 1


def _is_document(row: Row) -> bool:
    """Whether a row is neither missing, nor bad, nor empty."""
    if row is None or isinstance(row, BadRow):
        return False
    return len(row) > 0 and not (isinstance(row, str) and row.isspace())


def _holds_a_document(rows: Iterable[Row]) -> bool:
    """Whether one of the next rows is a document."""
    try:
        return any(map(_is_document, islice(rows, ROWS_AHEAD)))
    except (InputError, OSError):
        return False


@dataclass(frozen=True)
class CorpusReport:
    """What a corpus was found to be; `print(report)` shows it in a few lines.

    >>> from clozelab import load_corpus
    >>> print(load_corpus(["one", "two", "", "four", "five", "six"], heldout=0.5).report)
    corpus documents: 6 strings
      train     1 document, 3 characters
      held out  4 documents, 14 characters, chosen by a hash of each document
      left out  1 of 6 rows: 1 empty
    """

    name: str
    kind: str
    """What it was read as, such as "JSON files" or "text files"."""
    files: Sequence[str] = ()
    """The names of the files that are trained on."""
    validation: Sequence[str] = ()
    """The names of the files that are held out."""
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Names of files that are left out, by the reason; those of folders end in "/"."""
    split: str = ""
    """How the held-out documents were chosen."""
    counts: Counts | None = None
    """None for a corpus that is read during training."""
    train: tuple[int, int] | None = None
    """Documents and characters, or token ids, that are trained on; None for a corpus that is read during training."""
    heldout: tuple[int, int] | None = None
    """Documents and characters, or token ids, that are held out; None for a corpus that is read during training."""
    unit: str = "character"
    """What the second number of both counts."""
    repeated: int = 0
    """Held-out documents that are trained on as well, word for word."""
    unpacked: Sequence[tuple[int, int]] = ()
    """(bytes, bytes unpacked) of each compressed file."""

    def __str__(self) -> str:
        return "\n".join(map(escape_control_characters, self._lines()))

    def _lines(self) -> Iterator[str]:
        has_rows = self.files and self.kind != "text files"
        rows = f", {counted(self.counts.rows, 'row')}" if self.counts and has_rows else ""
        yield f"corpus {self.name}: {self.kind}{rows}"
        if self.unpacked:
            packed, unpacked = (sum(sizes) for sizes in zip(*self.unpacked))
            yield f"  unpacked  {counted(packed, 'byte')} to {unpacked:,}"
        yield f"  train     {self._size(self.train)}{_named(self.files)}"
        yield f"  held out  {self._size(self.heldout)}{_named(self.validation)}{self.split and f', {self.split}'}"
        if self.repeated:
            yield f"            of them in the training text too, word for word: {self.repeated:,}"
        for reason, names in self.left_out.items():
            yield f"  left out  {_shortened(names)}: {reason}"
        yield from self._rows_left_out()

    def _size(self, size: tuple[int, int] | None) -> str:
        return f"{counted(size[0], 'document')}, {counted(size[1], self.unit)}" if size else "read during training"

    def _rows_left_out(self) -> Iterator[str]:
        counts = self.counts
        if counts and counts.left_out:
            left_out = counts.missing + counts.empty + counts.bad
            yield f"  left out  {left_out:,} of {counted(counts.rows, 'row')}: {counts.left_out}"
            for row in counts.bad_rows:
                yield f"            {row.place}: {row.reason}"
            if counts.bad > len(counts.bad_rows):
                yield f"            and {counts.bad - len(counts.bad_rows):,} more"


@dataclass(frozen=True)
class MixtureReport:
    """What the corpora of a mixture were found to be, and their shares; `print(report)` shows it."""

    reports: Sequence[CorpusReport]
    names: Sequence[str]
    """Different ones, also where corpora have the same name."""
    shares: Sequence[float]
    """Of the blocks that are trained on."""

    @property
    def name(self) -> str:
        """The corpora and their shares in one line."""
        return " + ".join(f"{share:.1%} {name}" for name, share in zip(self.names, self.shares))

    def __str__(self) -> str:
        head = f"mixture of {len(self.reports)} corpora, by share of the blocks that are trained on: {self.name}"
        return "\n".join([escape_control_characters(head), *map(str, self.reports)])


def size_of(documents: Iterable[Document]) -> tuple[int, int]:
    """(documents, characters or token ids)."""
    lengths = [len(document) for document in documents]
    return len(lengths), sum(lengths)


def _shortened(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"


def _named(names: Sequence[str]) -> str:
    return f" in {_shortened(names)}" if names else ""
