"""Rows of CSV and TSV files."""

from __future__ import annotations

import csv
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...escape import shown
from .documents import BadRow, Row

CHARACTERS_AT_ONCE = 2**18
"""Characters that are read together, up to the end of their last line."""
LONGEST_NAME = 60
"""Characters; a first line with a longer cell is a row of text, and no header."""


def csv_rows(
    content: Any, path: Path, column: str, check: Callable[[Any, str], Row], longest: int, tabs: bool
) -> Iterator[Row]:
    """Rows of a CSV file, whose cells may be quoted, or of a TSV file, where a quote is a quote.

    Behind a row that cannot be read, reading continues with its second line: a stray quote loses one line. Raises
    `InputError` for a file without the column, or with one line of more than `longest` bytes.
    """
    csv.field_size_limit(max(longest, csv.field_size_limit()))  # the limit is of the whole process
    lines = _Lines(io.TextIOWrapper(content, "utf-8", errors="surrogateescape", newline=""), path, longest)
    name, place, columns = str(path), -1, 0
    first, rows = 1, _reader(lines.after(0), tabs)  # the number of the first line that this reader is given
    while True:
        number = lines.row = first + rows.line_num
        try:
            cells = next(rows, None)
        except csv.Error as error:
            last = first + rows.line_num - 1
            reason = f"not {'TSV' if tabs else 'CSV'}: {error}"
            if last > number:
                reason += f" in line {last}, so a quote in line {number} was not meant to open a cell"
            if place < 0:
                raise InputError(f"{name}, line {number}: {reason}") from error
            yield BadRow(f"{name}, line {number}", reason)
            first, rows = number + 1, _reader(lines.after(number), tabs)
            continue
        if cells is None:
            return
        if not cells:
            continue
        if place < 0:
            place, columns = _column(cells, column, path), len(cells)
            if not column.isdecimal() or column in cells:
                continue
        if len(cells) != columns:
            yield BadRow(f"{name}, line {number}", f"the number of cells is {len(cells)}, expected {columns}")
        else:
            cell = cells[place]
            yield cell if cell.isascii() and "\0" not in cell else check(cell, f"{name}, line {number}")


def _reader(lines: Iterable[str], tabs: bool) -> Any:
    return csv.reader(lines, csv.excel_tab, quoting=csv.QUOTE_NONE) if tabs else csv.reader(lines, strict=True)


def _column(header: list[str], column: str, path: Path) -> int:
    """The place of the chosen column."""
    if header.count(column) > 1:
        raise InputError(f"{path} has {header.count(column)} columns {column!r}: expected different names")
    if column in header:
        place = header.index(column)
        if column.isdecimal() and int(column) != place and max(map(len, header)) > LONGEST_NAME:
            first = ", ".join(f"{shown(one, 40)}" for one in header[:3])
            raise InputError(
                f"{path} has columns 0 to {len(header) - 1}; {column} stands in its first line, which is long for "
                f"names: {first}. Count from 0 where there is no header"
            )
        return place
    if column.isdecimal() and int(column) < len(header):
        return int(column)
    error = no_column(path, column, header)
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise InputError(f"{error}; is it separated by something else than commas? Tabs are read in a .tsv file")
    raise error


def no_column(path: Path | str, column: str, columns: list[str]) -> InputError:
    """The error of a table that lacks the chosen column."""
    names = ", ".join(f"{shown(one, 60)}" for one in columns[:20])  # a file without a header has text there
    return InputError(f"{path} has no column {column!r}: it has {names}; choose one of them")


class _Lines:
    """Lines, kept from the first line of the row that is read on, so that they can be read again."""

    def __init__(self, file: io.TextIOWrapper, path: Path, longest: int) -> None:
        self.file, self.path, self.longest = file, path, longest
        self.row = 1
        """The number of the first line of the row that is read."""
        self._kept: deque[tuple[int, list[str]]] = deque()  # (the number of the first line, lines)
        self._next = 1

    def after(self, number: int) -> Iterator[str]:
        """The lines after that number, which may be read already."""
        return chain.from_iterable(self._after(number))

    def _after(self, number: int) -> Iterator[list[str]]:
        yield from [lines[max(0, number + 1 - first) :] for first, lines in self._kept]
        while lines := self._read():
            yield lines

    def _read(self) -> list[str]:
        rest = ""
        if text := self.file.read(CHARACTERS_AT_ONCE):
            rest = self.file.readline(self.longest + 1)
        if len(rest) > self.longest:
            raise InputError(f"{self.path} has a line of more than {self.longest:,} characters")
        while self._kept and self._kept[0][0] + len(self._kept[0][1]) <= self.row:
            self._kept.popleft()
        lines = io.StringIO(text + rest, newline="").readlines()
        self._kept.append((self._next, lines))
        self._next += len(lines)
        return lines
