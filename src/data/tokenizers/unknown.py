"""The unknown token of a tokenizer, which stands for the text that its vocabulary cannot write."""

from __future__ import annotations

import json
from collections.abc import Iterable

import tokenizers
from tokenizers import models, pre_tokenizers

from .tables import find_layout
from .vocabulary import UNKNOWN, add_special_tokens

NAMES = (UNKNOWN, "[UNK]", "<UNK>", "[unk]", "<|unk|>", "<|unknown|>")
"""Names that tokenizers in use give to the unknown token, the most common first."""
_NO_CHARACTER = "\U0010ffff"


def unknown_id(backend: tokenizers.Tokenizer) -> int | None:
    """The id of text that the vocabulary cannot write; None where a model has none.

    >>> from clozelab.data import train_bpe, train_characters
    >>> from clozelab.data.tokenizers.unknown import unknown_id
    >>> unknown_id(train_characters(["abc"], sentinels=0).backend), unknown_id(train_bpe(["abc"], 400).backend)
    (3, None)
    """
    model = backend.model
    if not isinstance(model, models.Unigram):
        return None if model.unk_token is None else model.token_to_id(model.unk_token)
    try:  # the only way to ask a Unigram model
        tokens = model.tokenize(_NO_CHARACTER)
    except Exception:  # bare: it has no unknown token
        return None
    return tokens[0].id if len(tokens) == 1 else None


def writes_everything(backend: tokenizers.Tokenizer) -> bool:
    """Whether the vocabulary can write every character: it has all 256 bytes, and the model falls back on them."""
    model = backend.model
    if isinstance(model, models.Unigram):
        try:
            bytes_of_character = len(model.tokenize(_NO_CHARACTER)) > 1
        except Exception:  # bare: "Encountered an unknown token but `unk_id` is missing"
            return False
        return bytes_of_character and _has_bytes(model)
    if not isinstance(model, models.BPE):
        return False
    if model.byte_fallback:
        return _has_bytes(model)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    return find_layout(backend, ()) == "bytes" and all(model.token_to_id(byte) is not None for byte in alphabet)


def _has_bytes(model: models.Model) -> bool:
    return all(model.token_to_id(f"<0x{byte:02X}>") is not None for byte in range(256))


def can_drop_text(backend: tokenizers.Tokenizer) -> bool:
    """Whether the tokenizer drops, or fails on, a character that its vocabulary lacks: it has no unknown token."""
    return unknown_id(backend) is None and not writes_everything(backend)


def unused_name(vocabulary: Iterable[str]) -> str:
    """A name of an unknown token that a vocabulary does not have."""
    taken = set(vocabulary)
    return next(name for name in (*NAMES, *(f"<unk_{k}>" for k in range(len(taken) + 1))) if name not in taken)


def with_unknown(backend: tokenizers.Tokenizer, name: str | None = None) -> tuple[tokenizers.Tokenizer, str]:
    """(a copy of the tokenizer whose model has an unknown token, the name of that token).

    Without a `name`, it is a token of a known name where the vocabulary has one. It is new, behind all ids, where the
    vocabulary has no token of its name.
    """
    described = json.loads(backend.to_str())
    model = described["model"]
    vocabulary = backend.get_vocab(with_added_tokens=True)
    if name is None:
        names = [known for known in (model.get("unk_token"), *NAMES) if known is not None]
        name = str(next((known for known in names if known in vocabulary), names[0]))
    vocabulary.setdefault(name, max(vocabulary.values()) + 1)
    added = sorted((n, token) for token, n in vocabulary.items() if backend.model.token_to_id(token) is None)
    if isinstance(model["vocab"], list):
        model["unk_id"] = vocabulary[name]
        model["vocab"] += [[token, 0.0] for _, token in added]  # no text is encoded to them: see text_encoder
    else:
        model["unk_token"] = name
        model["vocab"] |= {token: n for n, token in added}
    made = tokenizers.Tokenizer.from_str(json.dumps(described))
    add_special_tokens(made, [name])
    return made, name
