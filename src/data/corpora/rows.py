"""Rows of text files and tables: the chosen column is text by declaration, and nothing else is read.

Each reader yields, for a row, its text or token ids, or None where they are missing, or a `BadRow`. Memory is that of
one row, and a row has at most `LONGEST_ROW` bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import InputError
from .csv_rows import csv_rows, no_column
from .documents import DAMAGED, BadRow, Row, is_damaged
from .files import CorpusFile, classify
from .ids import IdRows, read_array
from .signatures import decoded, encoding_advice, opened

LONGEST_ROW = 2**30
"""Bytes of a row, or of a cell of a CSV file; a JSON array is read like one row."""
ROWS_BEFORE_REFUSAL = 1000
"""Rows without the chosen column that are read before a file of JSON is said not to have it."""


_NAMES = {dict: "an object", list: "a list", int: "a number", float: "a number", bool: "true or false", str: "a string"}


Check = Callable[[Any, str], Row]
"""From the value of a cell and its place to the row."""


def read_rows(
    file: CorpusFile,
    column: str = "text",
    *,
    lines: bool = False,
    ids: IdRows | None = None,
    unpacked: list[tuple[int, int]] | None = None,
) -> Iterator[Row]:
    """The rows of a file: a text file is one row, or with `lines` a row for each line that is not blank.

    `column` is the name of a column, of a field of an object as in "data.content", or the number of a column, from 0,
    of a CSV or TSV file without a header. With `ids` it holds lists of token ids. `unpacked` receives the sizes of a
    compressed file.

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
    if file.kind == "NumPy":
        if ids is None:
            raise InputError(
                f"{file.path} holds numbers: are they token ids? Then state their vocabulary (special=SpecialIds(...), "
                "--tokenizer ids)"
            )
        yield from read_array(file.path, ids)
        return
    if ids is not None and file.kind not in ("JSON", "Parquet", "Arrow"):
        raise InputError(
            f"{file.path} is {file.kind}, and token ids are read from .npy files, and from lists of whole numbers in "
            "JSON lines, Parquet and Arrow files"
        )
    check = check_of(column, ids)
    if file.kind in ("Parquet", "Arrow"):
        from .columns import arrow_rows

        yield from arrow_rows(file, column, check, is_text=ids is None)
        return
    with opened(file, unpacked) as content:
        if file.kind == "FASTA":
            from .fasta import fasta_rows

            yield from fasta_rows(content, file.path)
            return
        if file.kind == "text":
            yield from _lines_of_text(content, file.path) if lines else _whole_text(content, file.path)
            return
        rows = _table(content, file, column, check)
        first = next(rows, rows)
        if first is rows:
            raise InputError(f"{file.path} {'holds no rows' if file.path.stat().st_size else 'is empty'}")
        yield first  # type: ignore[misc]
        yield from rows


def _table(content: Any, file: CorpusFile, column: str, check: Check) -> Iterator[Row]:
    if file.kind != "JSON":
        return csv_rows(content, file.path, column, check, LONGEST_ROW, tabs=file.kind == "TSV")
    if ".json" in file.path.name.lower() and ".jsonl" not in file.path.name.lower():
        beginning = content.peek(64)[:64].lstrip()
        if beginning.startswith(b"["):
            return _json_array(content, _Column(file.path, column, check))
    return _json_lines(content, _Column(file.path, column, check))


def check_of(column: str, ids: IdRows | None) -> Check:
    """The check of the cells of a column, which holds text or token ids."""
    return partial(checked, column) if ids is None else ids


def checked(column: str, value: Any, place: str) -> Row:
    """A cell of the chosen column."""
    if isinstance(value, str):
        try:
            if not value.isascii():
                value.encode()
        except UnicodeEncodeError as error:
            return BadRow(place, _half_a_character(value, error))
        return BadRow(place, DAMAGED) if is_damaged(value) else value
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
    if classify(path) is None and _is_json_line(data):
        raise InputError(
            f"{path} begins with a JSON object, and its name does not say what it is: name it with .jsonl at the end, "
            "or with .txt if it is meant as text"
        )
    try:
        text = decoded(data, str(path))
        yield BadRow(str(path), DAMAGED) if is_damaged(text) else text
    except InputError as error:
        yield BadRow(str(path), str(error).removeprefix(f"{path} is "))


def _is_json_line(data: bytes) -> bool:
    """Whether the first line is a JSON object."""
    line = data[: data.find(b"\n") + 1 or None]
    try:
        return line.startswith(b"{") and isinstance(_decode_text(line.decode()), dict)
    except (ValueError, RecursionError):
        return False


def _lines_of_text(content: BinaryIO, path: Path) -> Iterator[Row]:
    for number, line in enumerate(_lines(content, path), 1):
        try:
            text = decoded(line, "line").rstrip("\r\n")
        except InputError as error:
            yield BadRow(f"{path}, line {number}", str(error).removeprefix("line is "))
            continue
        if text.strip():
            yield BadRow(f"{path}, line {number}", DAMAGED) if is_damaged(text) else text


def _lines(content: BinaryIO, path: Path) -> Iterator[bytes]:
    """Lines, which end at a line feed alone."""
    while line := content.readline(LONGEST_ROW + 1):
        if len(line) > LONGEST_ROW:
            raise InputError(f"{path} has a line of more than {LONGEST_ROW:,} bytes")
        yield line


# --------------------------------------------------------------------------- JSON

_decode_text = json.JSONDecoder(parse_int=float).decode
"""Numbers are not needed, so the conversion must never fail: that of an int is limited to 4,300 digits."""
_decode_ids = json.JSONDecoder().decode


def _json_lines(content: BinaryIO, column: _Column) -> Iterator[Row]:
    for number, line in enumerate(_lines(content, column.path), 1):
        if line.isspace():
            continue
        row = _json_row(line, f"{column.name}, line {number}", column)
        if isinstance(row, BadRow) and line.strip() == b"{":
            row = row._replace(
                reason="an object over several lines, expected one object a line, or an array of objects"
            )
        yield row
    column.end()


def _json_row(line: bytes, place: str, column: _Column) -> Row:
    try:
        row = column.decode(decoded(line.rstrip(b"\r\n"), "line"))
    except json.JSONDecodeError as error:
        return BadRow(place, f"no JSON: {error.msg.removesuffix(' at')} at character {error.pos + 1}")
    except InputError as error:
        return BadRow(place, str(error).removeprefix("line is "))
    except ValueError:
        return BadRow(place, "a number of more than 4,300 digits")
    except RecursionError:
        return BadRow(place, "JSON that is nested too deeply")
    return column.cell(row, place)


def _json_array(content: BinaryIO, column: _Column) -> Iterator[Row]:
    path = column.path
    data = content.read(LONGEST_ROW + 1)
    if len(data) > LONGEST_ROW:
        raise InputError(f"{path} is a JSON array of more than {LONGEST_ROW:,} bytes: expected JSON lines")
    try:
        rows = column.decode(decoded(data, str(path)))
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {error.lineno}: no JSON: {error.msg.removesuffix(' at')} at character {error.colno}"
        ) from error
    except InputError:
        raise
    except ValueError:
        raise InputError(f"{path} holds a number of more than 4,300 digits") from None
    except RecursionError:
        raise InputError(f"{path} holds JSON that is nested too deeply") from None
    for number, row in enumerate(rows, 1):
        yield column.cell(row, f"{path}, row {number}")
    column.end()


class _Column:
    """The chosen column in objects, which need not have it: missing is like null, but some row must have it."""

    def __init__(self, path: Path, column: str, check: Check) -> None:
        self.path, self.name, self.column, self.check = path, str(path), column, check
        self.decode = _decode_ids if isinstance(check, IdRows) else _decode_text
        self.found, self.without = False, 0
        self.columns: dict[str, None] = {}

    def cell(self, row: Any, place: str) -> Row:
        """The row of an object."""
        if not isinstance(row, dict):
            return BadRow(place, f"{_NAMES.get(type(row), 'null')}, expected an object with a column {self.column!r}")
        value = field_of(row, self.column)
        if value is not ABSENT and (value is not None or self.column in row):
            self.found = True
            return self.check(value, place)
        self.without += 1
        if not self.found and len(self.columns) < 20:
            self.columns.update(dict.fromkeys(row))
        if not self.found and self.without == ROWS_BEFORE_REFUSAL:
            self.end()
        return None

    def end(self) -> None:
        """Raises `InputError` where no row had the column."""
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
