"""Rows of text files and tables: the chosen column is text by declaration, and nothing else is read.

Each reader yields, for a row, its text, or None where the text is missing, or a `BadRow`. Memory is that of one row,
and a row has at most `LONGEST_ROW` bytes.
"""

from __future__ import annotations

import csv
import io
import json
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ...errors import InputError
from .files import CorpusFile
from .signatures import decoded, encoding_advice, opened

LONGEST_ROW = 2**30
"""Bytes of a row, or of a cell of a CSV file; a JSON array is read like one row."""
ROWS_BEFORE_REFUSAL = 1000
"""Rows without the chosen column that are read before a file of JSON is said not to have it."""


class BadRow(NamedTuple):
    """A row that cannot be read."""

    place: str
    """The file and the line."""
    reason: str


Row = str | BadRow | None

_NAMES = {dict: "an object", list: "a list", int: "a number", float: "a number", bool: "true or false", str: "a string"}


def read_rows(
    file: CorpusFile, column: str = "text", *, lines: bool = False, unpacked: list[tuple[int, int]] | None = None
) -> Iterator[Row]:
    """The rows of a file: a text file is one row, or with `lines` a row for each line that is not blank.

    `column` is the name of a column, of a field of an object as in "data.content", or the number of a column, from 0,
    of a CSV or TSV file without a header. `unpacked` receives the sizes of a compressed file.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from clozelab.data.corpora.files import CorpusFile
    >>> from clozelab.data.corpora.rows import read_rows
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = Path(folder, "a.csv").write_text("text,n\\n007,1\\nNA,2\\n")
    ...     list(read_rows(CorpusFile(Path(folder, "a.csv"), "CSV")))
    ['007', 'NA']

    Raises `InputError` for a file that cannot be read as what it is, has no such column, or holds no rows.
    """
    if file.kind in ("Parquet", "Arrow"):
        from .columns import arrow_rows

        yield from arrow_rows(file, column)
        return
    with opened(file, unpacked) as content:
        if file.kind == "text":
            yield from _lines_of_text(content, file.path) if lines else _whole_text(content, file.path)
            return
        rows = _table(content, file, column)
        first = next(rows, rows)
        if first is rows:
            raise InputError(f"{file.path} {'holds no rows' if file.path.stat().st_size else 'is empty'}")
        yield first  # type: ignore[misc]
        yield from rows


def _table(content: Any, file: CorpusFile, column: str) -> Iterator[Row]:
    if file.kind != "JSON":
        return _csv(content, file.path, column, tabs=file.kind == "TSV")
    if ".json" in file.path.name.lower() and ".jsonl" not in file.path.name.lower():
        beginning = content.peek(64)[:64].lstrip()
        if beginning.startswith(b"["):
            return _json_array(content, file.path, column)
    return _json_lines(content, file.path, column)


def checked(value: Any, column: str, place: str) -> Row:
    """A cell of the chosen column."""
    if isinstance(value, str):
        try:
            if not value.isascii():
                value.encode()
        except UnicodeEncodeError as error:
            return BadRow(place, _half_a_character(value, error))
        return value
    if value is None:
        return None
    return BadRow(place, f"column {column!r} holds {_NAMES.get(type(value), type(value).__name__)}, expected text")


def _half_a_character(value: str, error: UnicodeEncodeError) -> str:
    """Why a string cannot be encoded: bytes that are not UTF-8 were read as U+DC80 to U+DCFF."""
    code = ord(value[error.start])
    if 0xDC80 <= code <= 0xDCFF:
        around = value[max(0, error.start - 2**14) : error.start + 2**14]
        return f"not UTF-8: byte 0x{code - 0xDC00:02x}; {encoding_advice(around.encode('utf-8', 'surrogateescape'))}"
    return f"half a character, \\u{code:04x}, which is no Unicode text"


# --------------------------------------------------------------------------- text


def _whole_text(content: BinaryIO, path: Path) -> Iterator[Row]:
    data = content.read()
    try:
        yield decoded(data, str(path))
    except InputError as error:
        yield BadRow(str(path), str(error).removeprefix(f"{path} is "))


def _lines_of_text(content: BinaryIO, path: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(content, path), 1):
        try:
            text = decoded(line, "line").rstrip("\r\n")
        except InputError as error:
            yield BadRow(f"{path}, line {number}", str(error).removeprefix("line is "))
            continue
        if text.strip():
            yield text


def _lines(content: BinaryIO, path: Path) -> Iterator[bytes]:
    """Lines, which end at a line feed alone."""
    while line := content.readline(LONGEST_ROW + 1):
        if len(line) > LONGEST_ROW:
            raise InputError(f"{path} has a line of more than {LONGEST_ROW:,} bytes")
        yield line


# --------------------------------------------------------------------------- JSON

# Numbers are not needed, so the conversion must never fail: that of an int is limited to 4,300 digits.
_decode = json.JSONDecoder(parse_int=float).decode


def _json_lines(content: BinaryIO, path: Path, column: str) -> Iterator[Row]:
    missing = _Missing(path, column)
    for number, line in enumerate(_lines(content, path), 1):
        if line.isspace():
            continue
        row = _json_row(line, f"{path}, line {number}", column, missing)
        if isinstance(row, BadRow) and line.strip() == b"{":
            row = row._replace(
                reason="an object over several lines, expected one object a line, or an array of objects"
            )
        yield row
    missing.end()


def _json_row(line: bytes, place: str, column: str, missing: _Missing) -> Row:
    try:
        row = _decode(decoded(line.rstrip(b"\r\n"), "line"))
    except json.JSONDecodeError as error:
        return BadRow(place, f"no JSON: {error.msg.removesuffix(' at')} at character {error.pos + 1}")
    except InputError as error:
        return BadRow(place, str(error).removeprefix("line is "))
    except RecursionError:
        return BadRow(place, "JSON that is nested too deeply")
    return missing.cell(row, place)


def _json_array(content: BinaryIO, path: Path, column: str) -> Iterator[Row]:
    data = content.read(LONGEST_ROW + 1)
    if len(data) > LONGEST_ROW:
        raise InputError(f"{path} is a JSON array of more than {LONGEST_ROW:,} bytes: expected JSON lines")
    try:
        rows = _decode(decoded(data, str(path)))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {error.lineno}: no JSON: {error.msg.removesuffix(' at')} at character {error.colno}"
        ) from error
    except RecursionError:
        raise InputError(f"{path} holds JSON that is nested too deeply") from None
    missing = _Missing(path, column)
    for number, row in enumerate(rows, 1):
        yield missing.cell(row, f"{path}, row {number}")
    missing.end()


class _Missing:
    """The chosen column in objects, which need not have it: missing is like null, but some row must have it."""

    def __init__(self, path: Path, column: str) -> None:
        self.path, self.column, self.found, self.without = path, column, False, 0
        self.columns: dict[str, None] = {}

    def cell(self, row: Any, place: str) -> Row:
        if not isinstance(row, dict):
            return BadRow(place, f"{_NAMES.get(type(row), 'null')}, expected an object with a column {self.column!r}")
        value = field_of(row, self.column)
        if value is not ABSENT and (value is not None or self.column in row):
            self.found = True
            return checked(value, self.column, place)
        self.without += 1
        if not self.found and len(self.columns) < 20:
            self.columns.update(dict.fromkeys(row))
        if not self.found and self.without == ROWS_BEFORE_REFUSAL:
            self.end()
        return None

    def end(self) -> None:
        if not self.found and self.without:
            raise no_column(self.path, self.column, list(self.columns))


ABSENT = object()


def field_of(row: dict[str, Any], column: str) -> Any:
    """The value of a column, or of a field of an object as in "data.content"; `ABSENT` where there is none."""
    if column in row:
        return row[column]
    value: Any = row
    for name in column.split("."):
        if not isinstance(value, dict):
            return None if value is None else ABSENT
        value = value.get(name, ABSENT)
    return value


def no_column(path: Path | str, column: str, columns: list[str]) -> InputError:
    """The error of a table that lacks the chosen column."""
    names = ", ".join(f"{one!r:.60}" for one in columns[:20])  # a file without a header has text there
    return InputError(f"{path} has no column {column!r}: it has {names}; choose one of them")


# --------------------------------------------------------------------------- CSV and TSV


def _csv(content: Any, path: Path, column: str, tabs: bool) -> Iterator[Row]:
    """Rows of a CSV file, whose cells may be quoted, or of a TSV file, where a quote is a quote.

    Behind a row that cannot be read, reading continues with its second line: a stray quote loses one line.
    """
    csv.field_size_limit(max(LONGEST_ROW, csv.field_size_limit()))  # the limit is of the whole process
    lines = _Lines(io.TextIOWrapper(content, "utf-8", errors="surrogateescape", newline=""), path)
    rows = csv.reader(lines, csv.excel_tab, quoting=csv.QUOTE_NONE) if tabs else csv.reader(lines, strict=True)
    place, columns = -1, 0
    while True:
        number = lines.begin()
        try:
            cells = next(rows, None)
        except csv.Error as error:
            reason = f"not {'TSV' if tabs else 'CSV'}: {error}"
            if lines.number > number:
                reason += f" in line {lines.number}, so a quote in line {number} was not meant to open a cell"
            if place < 0:
                raise InputError(f"{path}, line {number}: {reason}") from error
            yield BadRow(f"{path}, line {number}", reason)
            lines.retry()
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
            yield BadRow(f"{path}, line {number}", f"the number of cells is {len(cells)}, expected {columns}")
        else:
            yield checked(cells[place], column, f"{path}, line {number}")


def _column(header: list[str], column: str, path: Path) -> int:
    """The place of the chosen column."""
    if header.count(column) > 1:
        raise InputError(f"{path} has {header.count(column)} columns {column!r}: expected different names")
    if column in header:
        return header.index(column)
    if column.isdecimal() and int(column) < len(header):
        return int(column)
    error = no_column(path, column, header)
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        raise InputError(f"{error}; is it separated by something else than commas? Tabs are read in a .tsv file")
    raise error


class _Lines(Iterator[str]):
    """Lines that know their number, and can be given again."""

    def __init__(self, file: io.TextIOWrapper, path: Path) -> None:
        self.file, self.path, self.number = file, path, 0
        self.given: list[str] = []
        self.again: deque[str] = deque()

    def __next__(self) -> str:
        line = self.again.popleft() if self.again else self.file.readline(LONGEST_ROW + 1)
        if not line:
            raise StopIteration
        if len(line) > LONGEST_ROW:
            raise InputError(f"{self.path} has a line of more than {LONGEST_ROW:,} characters")
        self.number += 1
        self.given.append(line)
        return line

    def begin(self) -> int:
        """Begin a row; returns the number of its first line."""
        self.given = []
        return self.number + 1

    def retry(self) -> None:
        """Give all lines of the row but the first again."""
        self.again.extendleft(reversed(self.given[1:]))
        self.number -= len(self.given) - 1
        self.given = []
