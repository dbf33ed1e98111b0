"""Rows of datasets of the hub, read by `datasets`; its errors become one line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ...errors import InputError
from ...escape import shorten, shown
from .csv_rows import no_column
from .documents import Row
from .files import SPLITS
from .rows import ABSENT, Check, field_of


def read_hub(name: str, *, streaming: bool = False) -> tuple[Any, Any, list[str]]:
    """(rows of the train split, rows of the validation split or None, the names of the other splits).

    Raises `InputError` where the dataset cannot be loaded, or has no train split.
    """
    import datasets

    try:
        with _silent(datasets), _offline_without_network(datasets):
            splits = datasets.get_dataset_split_names(name)
            validation = next((split for split in splits if SPLITS.get(split) == "validation"), None)
            wanted = ["train", *([validation] if validation else [])]
            train, *held = (datasets.load_dataset(name, split=split, streaming=streaming) for split in wanted)
    except Exception as error:
        reason = f"{type(error).__name__}: {shorten(error, 200)}"
        raise InputError(
            f"{shown(name)} is no file here and could not be loaded from the hub ({reason}); "
            'without a network use "builtin" or a file of your own'
        ) from error
    return train, held[0] if held else None, [split for split in splits if split not in wanted]


def hub_rows(rows: Any, column: str, name: str, check: Check) -> Iterator[Row]:
    """The rows of a dataset, as `read_rows` yields those of files."""
    number = 0
    for batch in rows.iter(batch_size=1000):
        for value in column_of(batch, column, name):
            number += 1
            yield check(value, f"{name}, row {number}")


def column_of(batch: Mapping[str, Sequence[Any]], column: str, name: str) -> list[Any]:
    """The values of one column, or field, of a batch of rows, which has a list of values for each column."""
    top = column if column in batch else column.split(".")[0]
    if top not in batch:
        raise no_column(name, column, list(batch))
    values = [field_of({top: value}, column) for value in batch[top]]
    if any(value is ABSENT for value in values):
        raise no_column(name, column, list(batch))
    return values


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


def root_cause(error: BaseException) -> str:
    """The message of the first error in a chain, on one line: `datasets` wraps it in others."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{shorten(' '.join(str(error).split()), 300)}"


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
