"""Rows of tables and of the hub, read by `datasets`; its errors become one line."""

from __future__ import annotations

import glob
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ...errors import InputError

TABLES = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".arrow": "arrow"}


def tables_in(folder: Path) -> list[Path]:
    """The tables in a folder and below it, in the order of their names; raises `InputError` for more than one kind."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in TABLES)
    kinds = sorted({TABLES[path.suffix.lower()] for path in files})
    if len(kinds) > 1:
        raise InputError(
            f"{folder} holds tables of several kinds, {' and '.join(kinds)}: expected one kind in a folder"
        )
    return files


def read_tables(files: Sequence[Path], column: str, *, streaming: bool = False) -> Any:
    """The rows of tables of one kind, as a dataset in memory, or read while it is iterated over if `streaming`.

    Raises `InputError` for a file that cannot be read as such a table.
    """
    import datasets

    for path in files:
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty")
    path = files[0]
    kind = TABLES[path.suffix.lower()]
    more: dict[str, Any] = {"data_files": [glob.escape(str(path)) for path in files], "split": "train"}
    if kind in ("csv", "json"):
        more["encoding"] = "utf-8"
    if kind == "csv" and column.isdecimal() and column not in _header(path):
        more["header"] = None
    try:
        with _silent(datasets), tempfile.TemporaryDirectory() as cache:  # the library's own cache is not kept
            if streaming:
                return datasets.load_dataset(kind, streaming=True, **more)
            return datasets.load_dataset(kind, cache_dir=cache, keep_in_memory=True, **more)
    except Exception as error:
        where = str(path) if len(files) == 1 else f"{path} or one of the {len(files) - 1} others"
        reason = root_cause(error)
        if "corresponds to no data" in reason or "BatchSize must be greater" in reason:  # messages for an empty table
            raise InputError(f"{where} holds no rows") from error
        raise InputError(f"{where} cannot be read as {kind}: {reason}") from error


def root_cause(error: BaseException) -> str:
    """The message of the first error in a chain, on one line: `datasets` wraps it in others."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{' '.join(str(error).split()):.300}"


@contextmanager
def _silent(datasets: Any) -> Iterator[None]:
    """`datasets` without its progress bars and warnings; errors are raised all the same."""
    bars, level = datasets.is_progress_bar_enabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(50)  # nothing but CRITICAL
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()


def _header(path: Path) -> list[str]:
    import csv

    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        return next(csv.reader(file), [])


def column_of(rows: Any, column: str, name: str) -> Iterator[str]:
    """The texts of one column without missing values; raises `InputError` where the column is missing or no text."""
    for batch in rows.iter(batch_size=1000):
        yield from texts_of(batch, column, name)


def texts_of(batch: Mapping[str, Sequence[Any]], column: str, name: str) -> Iterator[str]:
    """The texts of one column of a batch of rows, which has a list of values for each column."""
    if column not in batch:
        columns = ", ".join(map(repr, batch))
        raise InputError(f"{name} has no column {column!r}: it has {columns}; choose one of them")
    for value in batch[column]:
        if isinstance(value, str):
            yield value
        elif value is not None:
            raise InputError(f"column {column!r} of {name} holds {type(value).__name__}, expected text: {value!r:.60}")


def read_hub(name: str, *, streaming: bool = False) -> Any:
    """The rows of the "train" split of a dataset of the hub; raises `InputError` where it cannot be loaded."""
    import datasets

    try:
        with _silent(datasets), _offline_without_network(datasets):
            return datasets.load_dataset(name, split="train", streaming=streaming)
    except Exception as error:
        reason = " ".join(str(error).split())
        name = name if len(name) <= 80 else f"{name[:80]}..."
        raise InputError(
            f"{name!r} is no file here and could not be loaded from the hub ({type(error).__name__}: {reason:.200}); "
            'without a network use "builtin" or a file of your own'
        ) from error


@contextmanager
def _offline_without_network(datasets: Any) -> Iterator[None]:
    """Set the hub's library to offline mode where the hub does not answer: it would retry for half a minute.

    Datasets that were downloaded before are found in either mode. Behind a proxy the hub is not tested.
    """
    import socket
    import urllib.parse
    import urllib.request

    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    endpoint = urllib.parse.urlsplit(constants.ENDPOINT)
    if not urllib.request.getproxies():
        try:
            socket.create_connection((endpoint.hostname or "", endpoint.port or 443), timeout=5).close()
        except OSError:
            constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before
