"""The standard streams, as a shell may leave them: closed, or a terminal that hangs up."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any, TextIO


def open_streams() -> None:
    """Make the standard streams usable, whatever the program was started with.

    - One that the shell closed (`>&-`) becomes the null device: a file opened later would get its number, and with it
      what is printed. Standard output cannot be written to then either, so that a lost result is noticed.
    - Letters that the output's encoding lacks become question marks.
    - One that is full, or a terminal that hangs up, is written to in vain: see `Stream`.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDONLY if name == "stdout" else os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8", closefd=False))
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace" if name == "stdout" else "backslashreplace")
        if not isinstance(stream, Stream):
            setattr(sys, name, Stream(stream))


class Stream:
    """A standard stream that takes every text: what cannot be written is dropped, and no work is lost over that."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost: OSError | None = None
        """Why something was dropped; None also where a terminal hung up, which is there no more."""

    def write(self, text: str) -> int:
        """Write a text; returns its length. Raises `BrokenPipeError` where the reader has left, as `flush` does."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._after(error)
            return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        try:
            self._stream.flush()
        except OSError as error:
            self._after(error)

    def _after(self, error: OSError) -> None:
        if isinstance(error, BrokenPipeError):
            raise error
        if error.errno != errno.EIO:
            self.lost = error
        silence(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def silence(stream: TextIO | Stream) -> None:
    """Send what a stream still holds, and all that is written to it later, to the null device."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
