"""One column of Parquet and Arrow files, read by pyarrow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...errors import InputError
from ...escape import shorten
from .csv_rows import no_column
from .documents import BadRow, Row
from .files import CorpusFile

ROWS_AT_ONCE = 1000


def arrow_rows(file: CorpusFile, column: str, check: Callable[[Any, str], Row], *, is_text: bool) -> Iterator[Row]:
    """The rows of a Parquet or Arrow file, as `read_rows` yields them; lists of numbers unless the column is text."""
    if file.path.stat().st_size == 0:
        raise InputError(f"{file.path} is empty")
    number, name = 0, str(file.path)
    values = _values if is_text else _lists
    with _errors_named(file), _batches(file, column, is_text) as batches:
        for batch in batches:
            for value in values(_column(batch, column)):
                number += 1
                place = f"{name}, row {number}"
                yield BadRow(place, value.reason) if isinstance(value, BadRow) else check(value, place)
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


def _lists(column: Any) -> Iterator[Any]:
    """The values of a column of lists of whole numbers, as arrays."""
    for scalar in column:
        if not scalar.is_valid:
            yield None
        elif scalar.values.null_count:
            yield BadRow("", "null among the token ids")
        else:
            yield scalar.values.to_numpy(zero_copy_only=False)


@contextmanager
def _batches(file: CorpusFile, column: str, is_text: bool) -> Iterator[Any]:
    """An iterator over batches of rows, which has the chosen column at least."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file.kind == "Parquet":
        with pq.ParquetFile(file.path) as table:
            _check(table.schema_arrow, column, file, is_text)
            yield table.iter_batches(batch_size=ROWS_AT_ONCE, columns=[column])
        return
    with pa.memory_map(str(file.path)) as content:
        if content.read(8) == b"ARROW1\0\0":
            table = pa.ipc.open_file(content)
            _check(table.schema, column, file, is_text)
            yield (table.get_batch(number) for number in range(table.num_record_batches))
        else:
            content.seek(0)
            table = pa.ipc.open_stream(content)
            _check(table.schema, column, file, is_text)
            yield table


def _check(schema: Any, column: str, file: CorpusFile, is_text: bool) -> None:
    """Raises `InputError` where the chosen column is missing, or is not declared as text or lists of whole numbers."""
    import pyarrow as pa

    names = column.split(".") if column not in schema.names else [column]
    kind = pa.struct(list(schema))
    for name in names:
        if not pa.types.is_struct(kind) or kind.get_field_index(name) < 0:
            raise no_column(file.path, column, schema.names)
        kind = kind.field(name).type
    if not is_text:
        lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        if not any(test(kind) for test in lists) or not pa.types.is_integer(kind.value_type):
            raise InputError(f"column {column!r} of {file.path} holds {kind}, expected lists of token ids")
        return
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    if not any(test(value) for test in tests):
        cure = "; are they token ids? Then state their vocabulary (--tokenizer ids)" if "list<" in str(kind) else ""
        raise InputError(f"column {column!r} of {file.path} holds {kind}, expected text{cure}")


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
        raise InputError(f"{file.path} cannot be read as {file.kind}: {shorten(reason, 300)}") from error
