"""Sequences of FASTA files, read by dnaio: one record is one document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ...errors import InputError
from ...escape import shorten
from .documents import Row


def fasta_rows(content: BinaryIO, path: Path) -> Iterator[Row]:
    """The sequences of a FASTA file, without their names; None for a record without a sequence.

    Raises `InputError` where dnaio is not installed, and for a file that is no FASTA.
    """
    try:
        import dnaio
    except ImportError as error:
        raise InputError(f"{path} is FASTA, which dnaio reads: pip install 'clozelab[fasta]'") from error
    try:
        for record in dnaio.FastaReader(content):
            yield record.sequence or None
    except dnaio.FileFormatError as error:
        raise InputError(f"{path} is no FASTA: {shorten(' '.join(str(error).split()), 200)}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no FASTA: byte 0x{error.object[error.start]:02x} is not UTF-8") from error
