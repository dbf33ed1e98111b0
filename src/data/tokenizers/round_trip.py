"""What encoding changes: whether documents come back from their tokens as they were."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import islice

from .tokenizer import Tokenizer

MAX_DOCUMENTS = 1000
"""The most documents that are tried."""
MAX_CHARACTERS = 500_000
"""The most characters of all of them together."""
MAX_LENGTH = 20_000
"""The most characters of one document."""
_SHOWN = 24


def changed_documents(documents: Iterable[str], tokenizer: Tokenizer) -> str:
    """A line about the documents that are not what decoding their tokens gives; empty where there are none.

    The beginnings of the first documents are tried: at most a thousand, of half a million characters together. A
    byte-level vocabulary whose ids tell their bytes changes nothing, and is not tried.

    >>> from clozelab.data import train_characters
    >>> from clozelab.data.tokenizers.round_trip import changed_documents
    >>> changed_documents(["the cat", "the cow"], train_characters(["the cat"], sentinels=0))
    "1 of the first 2 documents comes back changed (1 by unknown tokens): 'the cow' is decoded as 'the c<unk><unk>'"
    """
    if tokenizer.byte_lengths is not None:
        return ""
    kinds: Counter[str] = Counter()
    tried, characters, example = 0, 0, ""
    for document in islice(documents, MAX_DOCUMENTS):
        text = document[:MAX_LENGTH]
        ids = tokenizer.encode(text)
        decoded = tokenizer.decode(ids)
        tried += 1
        if decoded != text:
            kinds[_kind(text, decoded, tokenizer.unknown in ids)] += 1
            example = example or _difference(text, decoded)
        characters += len(text)
        if characters >= MAX_CHARACTERS:
            break
    if not kinds:
        return ""
    changed = kinds.total()
    how = ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common())
    which = "the first document" if tried == 1 else f"{changed:,} of the first {tried:,} documents"
    return f"{which} {'comes' if changed == 1 else 'come'} back changed ({how}): {example}"


def _kind(text: str, decoded: str, has_unknown: bool) -> str:
    """What is different: the least that explains it."""
    if not decoded:
        return "to nothing"
    if has_unknown:
        return "by unknown tokens"
    if _without_spaces(text) == _without_spaces(decoded):
        return "in white space"
    if _without_spaces(text).casefold() == _without_spaces(decoded).casefold():
        return "in upper and lower case"
    if _plain(text) == _plain(decoded):
        return "in accents and forms of letters"
    return "otherwise"


def _without_spaces(text: str) -> str:
    return "".join(text.split())


def _plain(text: str) -> str:
    """A text without what normalisers take away: case, accents, forms of letters, control characters, white space."""
    letters = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return "".join(sign for sign in letters if unicodedata.category(sign)[0] not in "CMZ")


def _difference(text: str, decoded: str) -> str:
    """Both texts around the first place where they differ."""
    first = next((n for n, (mine, theirs) in enumerate(zip(text, decoded)) if mine != theirs), None)
    start = max(0, (min(len(text), len(decoded)) if first is None else first) - _SHOWN // 3)
    return f"{text[start : start + _SHOWN]!r} is decoded as {decoded[start : start + _SHOWN]!r}"
