"""Documents: checks of their text, and the split into training and held-out ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

import numpy as np

from ...errors import InputError

Document = str | np.ndarray
"""A text, or token ids (N,) of any integer type."""
Kind = TypeVar("Kind", str, np.ndarray)


class BadRow(NamedTuple):
    """A row that cannot be read."""

    place: str
    """The file and the line."""
    reason: str


Row = Document | BadRow | None
"""A row of a corpus: its document, None where it is missing, or why it cannot be read."""
_ZEROS = "\0" * 512
DAMAGED = "a run of zero bytes, as a crash or a full disk leaves it: the file is damaged"
IDS_AT_ONCE = 2**20
"""Token ids that are hashed or encoded together."""


def checked_text(text: str, name: str = "the text") -> str:
    """The text itself; raises `InputError` for what is no string, and for one that cannot be encoded as UTF-8."""
    if not isinstance(text, str):
        raise InputError(f"expected {name} as a string, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} holds half a character ({text[error.start]!r} at {error.start}), which is no Unicode text: were "
            "its bytes in another encoding than UTF-8?"
        ) from error
    return text


def is_damaged(text: str) -> bool:
    """Whether a text holds a run of zeros, of the length of a sector of a disk: a file that was never written."""
    return "\0" in text and _ZEROS in text


def content_of(document: Document) -> Iterator[bytes]:
    """The bytes of a document, in pieces: UTF-8, or 64-bit integers whatever the type of the ids."""
    if isinstance(document, str):
        yield document.encode("utf-8", "surrogatepass")
        return
    for start in range(0, len(document), IDS_AT_ONCE):
        yield document[start : start + IDS_AT_ONCE].astype("<i8").tobytes()


def digest_of(document: Document, size: int = 16) -> bytes:
    """A hash of a document's content, of `size` bytes."""
    digest = hashlib.blake2b(digest_size=size)
    for piece in content_of(document):
        digest.update(piece)
    return digest.digest()


def is_heldout(document: Document, share: float) -> bool:
    """Whether a document is held out, by a hash of its content, where a share in (0, 1) of all documents is."""
    return int.from_bytes(digest_of(document, 8), "little") < share * 2**64


def split_by_hash(documents: Iterable[Kind], share: float) -> tuple[list[Kind], list[Kind]]:
    """(training documents, held-out documents), each document by `is_heldout`."""
    train: list[Kind] = []
    held: list[Kind] = []
    for document in documents:
        (held if is_heldout(document, share) else train).append(document)
    return train, held


def split_by_position(documents: list[Kind], share: float) -> tuple[list[Kind], list[Kind]]:
    """(the first documents, the last ones), split by characters or ids; a document that lies across the cut is cut.

    >>> from clozelab.data.corpora.documents import split_by_position
    >>> split_by_position(["abcd", "efgh"], share=0.25)
    (['abcd', 'ef'], ['gh'])
    """
    left = int(sum(map(len, documents)) * (1 - share))
    train: list[Kind] = []
    held: list[Kind] = []
    for document in documents:
        for part, side in ((document[:left], train), (document[left:], held)):
            if len(part):
                side.append(part)
        left = max(0, left - len(document))
    return train, held
