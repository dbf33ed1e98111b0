"""Vocabulary tables: which tokens begin a word, and which end a sentence."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Literal

import tokenizers
import torch
from tokenizers import models
from torch import Tensor

SPACE_MARK = "\u2581"
"""SentencePiece's mark of a space before a word."""
SENTENCE_ENDS = tuple(".!?。！？")
CLOSING = "\"'”’»)]}\u2019 \t\r\n"
"""What may stand behind the end of a sentence in the same token."""

Layout = Literal["bytes", "metaspace", "prefix", "characters", "words"]


def vocabulary_tables(
    backend: tokenizers.Tokenizer, vocab_size: int, special: Iterable[int]
) -> dict[str, Callable[[], Tensor | None]]:
    """The fields `starts_word` and `ends_sentence` of `SpecialIds` as functions, so that they cost nothing until used.

    Each returns (V,) bool, False for special ids, or None where the layout of the vocabulary is not known.
    """
    special = frozenset(special)
    return {name: partial(_table_of, rule, backend, vocab_size, special) for name, rule in _RULES.items()}


def layout_tables(
    vocabulary: Mapping[str, int], layout: Layout | None, vocab_size: int, special: Iterable[int]
) -> dict[str, Callable[[], Tensor | None]]:
    """`vocabulary_tables` of a vocabulary whose layout is known."""
    special = frozenset(special)
    return {name: partial(_table, rule, vocabulary, layout, vocab_size, special) for name, rule in _RULES.items()}


Rule = Callable[[str, str, Layout], bool]


def _table_of(rule: Rule, backend: tokenizers.Tokenizer, vocab_size: int, special: frozenset[int]) -> Tensor | None:
    vocabulary = backend.get_vocab(with_added_tokens=True)
    return _table(rule, vocabulary, find_layout(backend, vocabulary, special), vocab_size, special)


def _table(
    rule: Rule, vocabulary: Mapping[str, int], layout: Layout | None, vocab_size: int, special: frozenset[int]
) -> Tensor | None:
    if layout is None:
        return None
    table = torch.zeros(vocab_size, dtype=torch.bool)
    table[[i for token, i in vocabulary.items() if i not in special and rule(token, _text(token, layout), layout)]] = (
        True
    )
    return table


def find_layout(
    backend: tokenizers.Tokenizer, vocabulary: Iterable[str], special: frozenset[int] = frozenset()
) -> Layout | None:
    """How a vocabulary writes where words begin, None where it is not known.

    - "bytes": byte-level BPE (GPT-2), whose tokens are bytes, the space among them;
    - "metaspace": SentencePiece (T5, Llama), which writes a space as U+2581;
    - "prefix": WordPiece (BERT), which marks a token that goes on with a word by "##";
    - "characters": one token a character; "words": one token a word.
    """
    model = backend.model
    if getattr(model, "end_of_word_suffix", None):  # whether a token begins a word depends on the one before it
        return None
    if isinstance(model, models.WordPiece) or getattr(model, "continuing_subword_prefix", None) == "##":
        return "prefix" if model.continuing_subword_prefix == "##" else None
    if isinstance(model, models.WordLevel):
        texts = [token for token in vocabulary if backend.token_to_id(token) not in special]
        return "characters" if all(len(token) == 1 for token in texts) else "words"
    parts = [json.loads(part.__getstate__()) for part in (backend.pre_tokenizer, backend.decoder) if part is not None]
    marks = {mark for part in parts for mark in _marks(part)}
    return "bytes" if "bytes" in marks else "metaspace" if "metaspace" in marks else None


def _marks(part: Any) -> Iterable[Layout]:
    """The layouts that a part of a tokenizer.json, or a part within it, belongs to."""
    if isinstance(part, list):
        for one in part:
            yield from _marks(one)
    elif isinstance(part, dict):
        if part.get("type") == "ByteLevel":
            yield "bytes"
        elif part.get("type") == "Metaspace" or part.get("pattern") == {"String": SPACE_MARK}:
            yield "metaspace"
        yield from _marks([value for value in part.values() if isinstance(value, list)])


def _starts_word(token: str, text: str, layout: Layout) -> bool:
    """Whether a token begins a word, by its mark.

    Tokens of bytes and characters have none: they continue a word where they begin with a letter or a digit.
    """
    if layout == "metaspace":
        return text[:1].isspace()
    if layout == "prefix":
        return not token.startswith("##")
    if layout == "words":
        return True
    first = text[:1]
    return first != "" and not (first.isalnum() or first == "\ufffd" or unicodedata.category(first)[0] == "M")


def _ends_sentence(token: str, text: str, layout: Layout) -> bool:
    """Whether a token ends in a full stop, an exclamation or a question mark, quotes and brackets left out."""
    return text.rstrip(CLOSING).endswith(SENTENCE_ENDS)


_RULES: dict[str, Rule] = {"starts_word": _starts_word, "ends_sentence": _ends_sentence}


def _text(token: str, layout: Layout) -> str:
    """The text of a token; part of a character is U+FFFD."""
    if layout == "bytes":
        try:
            return bytes(BYTE_ALPHABET[sign] for sign in token).decode(errors="replace")
        except KeyError:  # a token that was added is written as it is
            return token
    if layout == "metaspace":
        if len(token) == 6 and token.startswith("<0x"):  # a byte by itself
            code = int(token[3:5], 16)
            return chr(code) if code < 0x80 else "\ufffd"
        return token.replace(SPACE_MARK, " ")
    return token.removeprefix("##") if layout == "prefix" else token


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's character for each byte: printable bytes are themselves, the others follow U+0100 in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


BYTE_ALPHABET = _byte_alphabet()
"""The byte that each character of a byte-level vocabulary stands for."""
