"""Documents: checks of their text, and the split into training and held-out ones."""

from __future__ import annotations

import hashlib

from ...errors import InputError


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


def is_heldout(document: str, share: float) -> bool:
    """Whether a document is held out, by a hash of its content, where a share in (0, 1) of all documents is."""
    digest = hashlib.blake2b(document.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") < share * 2**64


def split_by_hash(documents: list[str], share: float) -> tuple[list[str], list[str]]:
    """(training documents, held-out documents), each document by `is_heldout`."""
    train: list[str] = []
    held: list[str] = []
    for document in documents:
        (held if is_heldout(document, share) else train).append(document)
    return train, held


def split_by_position(documents: list[str], share: float) -> tuple[list[str], list[str]]:
    """(the first documents, the last ones), split by characters; a document that lies across the cut is cut.

    >>> from clozelab.data.corpora.documents import split_by_position
    >>> split_by_position(["abcd", "efgh"], share=0.25)
    (['abcd', 'ef'], ['gh'])
    """
    left = int(sum(map(len, documents)) * (1 - share))
    train: list[str] = []
    held: list[str] = []
    for document in documents:
        for part, side in ((document[:left], train), (document[left:], held)):
            if part:
                side.append(part)
        left = max(0, left - len(document))
    return train, held
