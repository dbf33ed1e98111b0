"""Rows of tables and of the hub, as `datasets` reads them, with errors that say what is wrong."""

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
    """The tables that lie in a folder and below it, in the order of their names; raises `InputError` for two kinds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in TABLES)
    kinds = sorted({TABLES[path.suffix.lower()] for path in files})
    if len(kinds) > 1:
        raise InputError(
            f"{folder} holds tables of several kinds, {' and '.join(kinds)}: expected one kind in a folder"
        )
    return files


def read_tables(files: Sequence[Path], column: str, *, streaming: bool = False) -> Any:
    """The rows of tables of one kind, whole in memory or as they come.

    Raises `InputError` for what cannot be read as such a table.
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
        with _silent(datasets), tempfile.TemporaryDirectory() as cache:  # their own cache is gone afterwards
            if streaming:
                return datasets.load_dataset(kind, streaming=True, **more)
            return datasets.load_dataset(kind, cache_dir=cache, keep_in_memory=True, **more)
    except Exception as error:
        told = str(path) if len(files) == 1 else f"{path} or one of the {len(files) - 1} beside it"
        reason = why(error)
        if "corresponds to no data" in reason or "BatchSize must be greater" in reason:  # their ways of saying so
            raise InputError(f"{told} holds no rows") from error
        raise InputError(f"{told} cannot be read as {kind}: {reason}") from error


def why(error: BaseException) -> str:
    """What was first to go wrong, on one line: `datasets` wraps it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{' '.join(str(error).split()):.300}"


@contextmanager
def _silent(datasets: Any) -> Iterator[None]:
    """`datasets` without its bars and warnings; what goes wrong it raises as well."""
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
    """The texts of one column, missing ones left out; raises `InputError` where it is missing or holds no text."""
    for batch in rows.iter(batch_size=1000):
        yield from texts_of(batch, column, name)


def texts_of(batch: Mapping[str, Sequence[Any]], column: str, name: str) -> Iterator[str]:
    """The same of some rows: a list of values for each column."""
    if column not in batch:
        columns = ", ".join(map(repr, batch))
        raise InputError(f"{name} has no column {column!r}: it has {columns}; choose one of them")
    for value in batch[column]:
        if isinstance(value, str):
            yield value
        elif value is not None:
            raise InputError(f"column {column!r} of {name} holds {type(value).__name__}, expected text: {value!r:.60}")


def read_hub(name: str, *, streaming: bool = False) -> Any:
    """The rows of the "train" split of what the hub has under a name; raises `InputError` where it cannot be had."""
    import datasets

    try:
        with _silent(datasets), _offline_where_it_is(datasets):
            return datasets.load_dataset(name, split="train", streaming=streaming)
    except Exception as error:
        reason = " ".join(str(error).split())
        name = name if len(name) <= 80 else f"{name[:80]}..."
        raise InputError(
            f"{name!r} is no file here and could not be had from the hub ({type(error).__name__}: {reason:.200}); "
            'without a network use "builtin" or a file of your own'
        ) from error


@contextmanager
def _offline_where_it_is(datasets: Any) -> Iterator[None]:
    """Ask the hub only where it answers: its library retries for half a minute where it does not.

    What it once downloaded is found without it, and behind a proxy nobody can know.
    """
    import socket
    import urllib.parse
    import urllib.request

    from huggingface_hub import constants

    was = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    endpoint = urllib.parse.urlsplit(constants.ENDPOINT)
    if not urllib.request.getproxies():
        try:
            socket.create_connection((endpoint.hostname or "", endpoint.port or 443), timeout=5).close()
        except OSError:
            constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = was
