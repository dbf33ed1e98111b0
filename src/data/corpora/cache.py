"""Where derived files are kept, and how they come to be whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import FULL, InputError


def cache_folder() -> Path:
    """The environment's CLOZELAB_CACHE, or ~/.cache/clozelab."""
    return Path(os.environ.get("CLOZELAB_CACHE") or Path.home() / ".cache" / "clozelab")


def fingerprint(documents: Iterable[str], maker: str) -> str:
    """The key of what a maker (a tokenizer, a format, a setting) makes of documents.

    Raises `InputError` for documents that are no strings, or no Unicode, and where there are none.
    """
    content = hashlib.blake2b(digest_size=16)
    count = 0
    for document in documents:
        if not isinstance(document, str):
            raise InputError(f"expected documents that are strings, got {type(document).__name__} in place {count}")
        try:
            encoded = document.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"document {count} is not Unicode text: {error}; was it decoded with errors kept?"
            ) from error
        content.update(len(encoded).to_bytes(8, "little"))
        content.update(encoded)
        count += 1
    if count == 0:
        raise InputError("expected at least one document, got none")
    content.update(maker.encode())
    return content.hexdigest()


def read_json(path: Path, most: int = 2**26) -> Any:
    """What a JSON file of at most so many bytes says: what it becomes in memory may be forty times as large.

    Raises `InputError` for a larger one and for what is no JSON, `OSError` for what cannot be read.
    """
    if not path.is_file():  # a pipe would be waited for
        raise FileNotFoundError(2, "no such file", str(path))
    if path.stat().st_size > most:
        raise InputError(f"{path} has {path.stat().st_size:,} bytes: expected at most {most:,}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}") from error


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write that appears at `path` when all of it is on the disk, and never in part.

    It is written beside its place and renamed into it, so that whoever reads finds the old file or the new one. What a
    killed process left beside it is cleared away; what a living one is writing is left alone, as is what one on another
    machine that shares the disk writes, of which nobody here can know whether it lives.

    Raises `OSError`, which names `path`, when the disk is full.
    """
    if not path.name:
        raise InputError(f"expected the path of a file, got {str(path)!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = platform.node()
    for other in path.parent.glob(f".{path.name}~{machine}~*"):
        if not _alive(other.name.split("~")[-2]):
            other.unlink(missing_ok=True)
    beside = path.with_name(f".{path.name}~{machine}~{os.getpid()}~{threading.get_ident()}")
    try:
        with full_disk_named(path), open(beside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Names the file in an `OSError` of a full disk inside, which by itself says only that there is no space."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.filename = str(path)
        raise


def _alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
