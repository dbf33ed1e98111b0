"""One column of Parquet and Arrow files, read by pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...errors import InputError
from .files import CorpusFile
from .rows import BadRow, Row, checked, no_column

ROWS_AT_ONCE = 1000


def arrow_rows(file: CorpusFile, column: str) -> Iterator[Row]:
    """The rows of a Parquet or Arrow file, as `read_rows` yields them."""
    if file.path.stat().st_size == 0:
        raise InputError(f"{file.path} is empty")
    number = 0
    with _errors_named(file), _batches(file, column) as batches:
        for batch in batches:
            for value in _values(_column(batch, column)):
                number += 1
                place = f"{file.path}, row {number}"
                yield BadRow(place, value.reason) if isinstance(value, BadRow) else checked(value, column, place)
    if number == 0:
        raise InputError(f"{file.path} holds no rows")


def _values(column: Any) -> list[Any]:
    """The values of a column of a batch, with a `BadRow` for each that is not UTF-8."""
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        return [_value(scalar) for scalar in column]


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError as error:
        return BadRow("", f"not UTF-8: byte 0x{error.object[error.start]:02x}")


@contextmanager
def _batches(file: CorpusFile, column: str) -> Iterator[Any]:
    """An iterator over batches of rows, which has the chosen column at least."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file.kind == "Parquet":
        with pq.ParquetFile(file.path) as table:
            _check(table.schema_arrow, column, file)
            yield table.iter_batches(batch_size=ROWS_AT_ONCE, columns=[column])
        return
    with pa.memory_map(str(file.path)) as content:
        if content.read(8) == b"ARROW1\0\0":
            table = pa.ipc.open_file(content)
            _check(table.schema, column, file)
            yield (table.get_batch(number) for number in range(table.num_record_batches))
        else:
            content.seek(0)
            table = pa.ipc.open_stream(content)
            _check(table.schema, column, file)
            yield table


def _check(schema: Any, column: str, file: CorpusFile) -> None:
    """Raises `InputError` where the chosen column is missing or is not declared as text."""
    import pyarrow as pa

    names = column.split(".") if column not in schema.names else [column]
    kind = pa.struct(list(schema))
    for name in names:
        if not pa.types.is_struct(kind) or kind.get_field_index(name) < 0:
            raise no_column(file.path, column, schema.names)
        kind = kind.field(name).type
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    if not any(test(value) for test in tests):
        raise InputError(f"column {column!r} of {file.path} holds {kind}, expected text")


def _column(batch: Any, column: str) -> Any:
    from pyarrow import compute

    if column in batch.schema.names:
        return batch.column(column)
    first, *names = column.split(".")
    return compute.struct_field(batch.column(first), names)  # type: ignore[attr-defined]  # made when it is imported


@contextmanager
def _errors_named(file: CorpusFile) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        reason = " ".join(str(error).split())
        raise InputError(f"{file.path} cannot be read as {file.kind}: {reason:.300}") from error
