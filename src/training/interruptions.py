"""Ctrl-C and SIGTERM: a step ends before its run does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def interruptions() -> Iterator[list[str]]:
    """Collect the names of the signals that ask to stop, instead of stopping at once.

    A second Ctrl-C stops at once. A second SIGTERM does not: a scheduler sends it to all processes, and torchrun
    forwards it to its own.
    """
    caught: list[str] = []
    before: dict[int, Any] = {}

    def catch(number: int, frame: Any) -> None:
        caught.append(signal.Signals(number).name)
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    try:
        for name in SIGNALS:
            if hasattr(signal, name):  # no SIGHUP on Windows
                number = getattr(signal, name)
                before[number] = signal.signal(number, catch)
    except ValueError:  # only the main thread may handle signals
        before.clear()
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
