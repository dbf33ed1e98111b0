"""Progress of long work, on standard error: a bar on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TypeVar

from .escape import escape_control_characters

Item = TypeVar("Item")

FIRST = 5.0
"""Seconds before the first line of a log file;"""
EVERY = 30.0
"""between two lines of it at first;"""
GROWTH = 0.05
"""later, this share of the time so far, so that a week makes about 160 lines."""
LINES = 200
"""Lines that a log file gets whenever they come; further ones only when a line is due."""


class LogClock:
    """When the next line of a log file is due.

    >>> from clozelab.progress import LogClock
    >>> clock = LogClock(iter([0.0, 4.0, 6.0, 35.0, 37.0]).__next__)
    >>> [clock.is_due() for _ in range(4)]
    [False, True, False, True]
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.begin = self.last = now()

    def is_due(self) -> bool:
        """Whether so much time has passed since the last line; then the next one counts from here."""
        now = self.now()
        if now - self.last < (FIRST if self.last == self.begin else max(EVERY, GROWTH * (now - self.begin))):
            return False
        self.last = now
        return True


class Bar:
    """How far a work is: `update` after each of its steps, `print_line` for a line above the bar.

    This one shows nothing; `progress_bar` makes those that do.
    """

    def update(self, done: int, note: str = "") -> None:
        """So much is done; the note says how it goes."""

    def doing(self, what: str) -> None:
        """What else is done meanwhile, such as an evaluation; the next `update` ends it."""

    def beat(self) -> None:
        """The work goes on, though nothing is told."""

    def print_line(self, text: str) -> None:
        """Print a line."""


class LogLines(Bar):
    """Plain lines in a log file."""

    def __init__(self, name: str, total: int | None, done: int, unit: str) -> None:
        self.name, self.total, self.done, self.first, self.unit = name, total, done, done, unit
        self.clock = LogClock()
        self.printed = 0

    def update(self, done: int, note: str = "") -> None:
        self.done = done
        if self.clock.is_due():
            self._print(f"{note and f', {note}'}{self._left()}")

    def doing(self, what: str) -> None:
        if self.clock.is_due():
            self._print(f", {what}")

    def beat(self) -> None:
        if self.clock.is_due():
            self._print(f", {duration(self.clock.last - self.clock.begin)} so far")

    def print_line(self, text: str) -> None:
        self.printed += 1
        if self.printed <= LINES or self.clock.is_due():
            self._write(text)
        if self.printed == LINES:
            self._write("(further lines are printed now and then)")

    def _print(self, rest: str) -> None:
        total = "" if self.total is None else f" of {self.total:,}"
        self._write(f"{self.name}: {self.done:,}{total} {self.unit}{rest}")

    def _write(self, text: str) -> None:
        with suppress(OSError):  # a pipe whose reader has gone
            print(escape_control_characters(text), file=sys.stderr, flush=True)

    def _left(self) -> str:
        if self.total is None or self.done <= self.first:
            return ""
        seconds = (self.clock.last - self.clock.begin) * (self.total - self.done) / (self.done - self.first)
        return f", {duration(seconds)} left"


@contextmanager
def progress_bar(
    name: str, total: int | None, done: int = 0, *, unit: str = "steps", visible: bool = True, transient: bool = False
) -> Iterator[Bar]:
    """A bar of `total` steps, `done` of which are behind it; `total` is None where it is not known.

    A `transient` one vanishes from the terminal at its end.

    On a closed terminal, or a pipe whose reader has gone, it falls silent: no work ends because of that.
    """
    if not visible or sys.stderr is None:
        yield Bar()
    elif not sys.stderr.isatty():
        yield LogLines(name, total, done, unit)
    else:
        with _terminal_bar(name, total, done, transient) as bar:
            yield bar


@contextmanager
def _terminal_bar(name: str, total: int | None, done: int, transient: bool) -> Iterator[Bar]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    class SilentConsole(Console):
        """Falls silent where rich's own ends the program."""

        def on_broken_pipe(self) -> None:
            self.quiet = True

    class TerminalBar(Bar):
        def update(self, done: int, note: str = "") -> None:
            with suppress(OSError):
                progress.update(task, completed=done, note=note)

        def doing(self, what: str) -> None:
            with suppress(OSError):
                progress.update(task, note=what)

        def print_line(self, text: str) -> None:
            with suppress(OSError):
                progress.console.print(escape_control_characters(text), highlight=False, markup=False, soft_wrap=True)

    columns = [TextColumn("{task.description}", markup=False), BarColumn(bar_width=20), MofNCompleteColumn()]
    columns += [TextColumn("{task.fields[note]}", markup=False), TimeElapsedColumn()]  # a clock that never stands still
    columns += [TextColumn("left"), TimeRemainingColumn(compact=True)]
    progress = Progress(*columns, console=SilentConsole(stderr=True), refresh_per_second=4, transient=transient)
    task = progress.add_task(escape_control_characters(name), total=total, completed=done, note="")
    with suppress(OSError):
        progress.start()
    try:
        yield TerminalBar()
    finally:
        with suppress(OSError):
            progress.stop()


def tracked(
    items: Iterable[Item], name: str, *, unit: str, visible: bool = True, heartbeat: bool = False
) -> Iterator[Item]:
    """The items, while a transient bar of that name counts them.

    What is done with an item can tell the bar by `current_bar`, as `clozelab.training.fit` does. A loop within such a
    loop has no bar of its own: it tells the outer one where it is. With a `heartbeat`, a thread sees to it that a log
    file gets its lines even where nothing tells anything for long, as in an evaluation.

    >>> from clozelab.progress import tracked
    >>> list(tracked("abc", "reading", unit="letters", visible=False))
    ['a', 'b', 'c']
    """
    total = len(items) if isinstance(items, Sized) else None
    outer = _CURRENT.get()
    if outer is not None:
        of = "" if total is None else f" of {total:,}"
        for number, item in enumerate(items, start=1):
            outer.doing(f"{number:,}{of} {unit}")
            yield item
        return
    with progress_bar(name, total, unit=unit, visible=visible, transient=True) as bar, _beating(bar, heartbeat):
        _CURRENT.set(bar)
        try:
            for done, item in enumerate(items, start=1):
                yield item
                bar.update(done)
        finally:
            _CURRENT.set(None)


@contextmanager
def _beating(bar: Bar, heartbeat: bool) -> Iterator[None]:
    """Have a thread tell the bar once a second that the work goes on."""
    if not heartbeat:
        yield
        return
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(1.0):
            bar.beat()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


_CURRENT: ContextVar[Bar | None] = ContextVar("bar", default=None)


def current_bar() -> Bar:
    """The bar of the `tracked` loop that this is called in; outside of any, one that shows nothing.

    >>> from clozelab.progress import current_bar, tracked
    >>> for _ in tracked("ab", "training", unit="runs", visible=False):
    ...     current_bar().doing("step 1 of 9")
    """
    return _CURRENT.get() or Bar()


def duration(seconds: float) -> str:
    """A time as one says it.

    >>> from clozelab.progress import duration
    >>> [duration(seconds) for seconds in (0.2, 48, 200, 5000, 50_000, 300_000)]
    ['1 s', '48 s', '3 min', '83 min', '14 h', '3 days']
    """
    for unit, size, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < most * size:
            return f"{max(1, round(seconds / size))} {unit}"
    return f"{round(seconds / 86400):,} days"
