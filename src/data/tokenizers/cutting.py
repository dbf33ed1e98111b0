"""Cut a long text into pieces whose tokens, one after another, are those of the whole text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import tokenizers
from tokenizers import models

from ...errors import InputError

PIECE_LENGTH = 2**20
"""Characters of a piece, or somewhat more: `tokenizers` needs about 140 bytes for each character that it encodes."""
MAX_UNCUT_LENGTH = 2**24
"""The most characters without a place to cut: they need 2.4 GB."""
TRIES = 1000
"""Places that are tried for one cut."""
CONTEXT = 256
"""Characters on either side of a place that the tokenizer is tried on."""

_BETWEEN_WORDS = re.compile(r"\S(?=[ \n])")
_BETWEEN_CHARACTERS = re.compile(r"[\s\S]")


def cut_text(text: str, backend: tokenizers.Tokenizer) -> Iterator[str]:
    """Pieces of about `PIECE_LENGTH` characters, cut where the tokenizer itself separates two words.

    The places that are tried lie before white space that follows another character, where GPT-2's pattern and nearly
    all others end a word, and between any two characters for a vocabulary of characters. Each place is tried on the
    text around it: a tokenizer that looks across it, or has no words, fails there and gets the next place, or the text
    whole.

    Raises `InputError` where more than `MAX_UNCUT_LENGTH` characters cannot be cut.
    """
    has_words = backend.pre_tokenizer is not None
    places = _BETWEEN_CHARACTERS if isinstance(backend.model, models.WordLevel) else _BETWEEN_WORDS
    start = 0
    while len(text) - start > PIECE_LENGTH:
        candidates = places.finditer(text, start + PIECE_LENGTH - 1, start + MAX_UNCUT_LENGTH) if has_words else ()
        for place in (found.end() for found in islice(candidates, TRIES)):
            if _encodes_alike(backend, text[max(start, place - CONTEXT) : place], text[place : place + CONTEXT]):
                yield text[start:place]
                start = place
                break
        else:
            if len(text) - start > MAX_UNCUT_LENGTH:
                raise InputError(
                    f"a text of {len(text):,} characters cannot be cut after the first {start:,}: expected white space "
                    f"between words within {MAX_UNCUT_LENGTH:,} characters; is it text?"
                )
            break
    yield text[start:]


def _encodes_alike(backend: tokenizers.Tokenizer, left: str, right: str) -> bool:
    """Whether two texts have the same tokens apart as together."""
    with panic_as_error():
        whole, *parts = (backend.encode(text, add_special_tokens=False).ids for text in (left + right, left, right))
    return whole == parts[0] + parts[1]


@contextmanager
def panic_as_error() -> Iterator[None]:
    """Turn a panic of `tokenizers`, which is no `Exception`, and its bare `Exception` into an `InputError`.

    The library panics where a pattern takes too many ways to match, and raises where text needs an unknown token that
    the model does not have.
    """
    try:
        yield
    except BaseException as error:
        if type(error) is Exception:
            raise InputError(
                f"the tokenizer failed on a text ({error}): load_tokenizer(tokenizer) adds an unknown token"
            ) from error
        if type(error).__name__ != "PanicException":
            raise
        raise InputError(
            f"the tokenizer failed on a text ({error}): does its pattern backtrack without a limit?"
        ) from error
