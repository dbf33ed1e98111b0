"""The cache of derived files, which are written atomically."""

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

import numpy as np

from ...errors import FULL, InputError
from .documents import Document, content_of


def cache_folder() -> Path:
    """The folder named by the environment variable CLOZELAB_CACHE, or ~/.cache/clozelab.

    Raises `InputError` where there is neither.
    """
    chosen = os.environ.get("CLOZELAB_CACHE")
    try:
        return Path(chosen) if chosen else Path.home() / ".cache" / "clozelab"
    except RuntimeError as error:
        raise InputError("this user has no home folder for a cache: set CLOZELAB_CACHE to a folder") from error


def fingerprint(documents: Iterable[Document], maker: str) -> str:
    """A hash of documents and of everything else (tokenizer, format, settings) that decides what is made of them.

    >>> from clozelab.data.corpora.cache import fingerprint
    >>> fingerprint(["one", "two"], "format 1") == fingerprint(["onetwo"], "format 1")
    False

    Raises `InputError` for documents that are neither Unicode strings nor arrays of ids, and where there are none.
    """
    content = hashlib.blake2b(digest_size=16)
    count = 0
    for document in documents:
        if not isinstance(document, (str, np.ndarray)):
            raise InputError(f"expected documents that are strings, got {type(document).__name__} in place {count}")
        try:
            document = document.encode() if isinstance(document, str) else document
        except UnicodeEncodeError as error:
            raise InputError(
                f"document {count} is not Unicode text: {error}; was it decoded with errors kept?"
            ) from error
        content.update(len(document).to_bytes(8, "little"))
        for piece in [document] if isinstance(document, bytes) else content_of(document):
            content.update(piece)
        count += 1
    if count == 0:
        raise InputError("expected at least one document, got none")
    content.update(maker.encode())
    return content.hexdigest()


def read_json(path: Path, most: int = 2**26) -> Any:
    """The content of a JSON file of at most `most` bytes: in memory it may take forty times as many.

    Raises `InputError` for a larger file and for invalid JSON, `OSError` where it cannot be read.
    """
    if not path.is_file():  # reading a pipe would block
        raise FileNotFoundError(2, "no such file", str(path))
    if path.stat().st_size > most:
        raise InputError(f"{path} has {path.stat().st_size:,} bytes: expected at most {most:,}")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged: {error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole or not at all."""
    with written_whole(path) as file:
        file.write(json.dumps(value, indent=1).encode())


def sha256_of(path: Path) -> str:
    """The checksum of a file; raises `InputError` for a pipe, a device or a folder, the first of which never ends."""
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a regular file")
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Write a file atomically: it appears at `path` when all of it is on the disk, and never in part.

    It is written under a temporary name in the same folder and then renamed, so that a reader finds the old file or the
    new one. Temporary files that a killed process left are removed. Those of a running process are kept, and those of
    another machine that shares the disk, since its processes cannot be seen from here.

    Raises `InputError` for a path without a file name, and `OSError`, which names `path`, when the disk is full.
    """
    if not path.name:
        raise InputError(f"expected the path of a file, got {str(path)!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    machine = platform.node()
    for other in path.parent.glob(f".{path.name}~{machine}~*"):
        if not _is_running(other.name.split("~")[-2]):
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
    """Name the file in an `OSError` of a full disk, whose own message does not."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.filename = str(path)
        raise


def _is_running(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
