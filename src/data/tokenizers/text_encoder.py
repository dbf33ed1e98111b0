"""Encode text so that it never becomes a special id, whatever the vocabulary holds."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from typing import Any

import tokenizers
from tokenizers import models


def text_encoder(backend: tokenizers.Tokenizer, special: Iterable[int]) -> tokenizers.Tokenizer:
    """A tokenizer that encodes text as `backend` does, but never finds the name of a special id in it.

    `tokenizers` leaves the names of special tokens in a text alone, but its models still find them where their
    vocabulary holds them: the Unigram model of T5 encodes the text `</s>` to 1, the end of text. In the copy that is
    returned, every special id has a random name in place of its own, which no text contains. The text `<0x41>` is no
    byte either, where a model falls back on bytes. Where `backend` finds neither in text, it is returned itself.

    >>> import tokenizers
    >>> from clozelab.data.tokenizers.text_encoder import text_encoder
    >>> model = tokenizers.models.Unigram([("<unk>", 0.0), ("</s>", 0.0), ("/", -3.0), ("s", -3.0)], unk_id=0)
    >>> backend = tokenizers.Tokenizer(model)
    >>> backend.encode("</s>").ids, text_encoder(backend, [0, 1]).encode("</s>").ids
    ([1], [0, 2, 3, 0])
    """
    names = {name: n for n in special if (name := backend.id_to_token(n)) is not None}
    finds_bytes = _finds_bytes(backend)
    if not finds_bytes and not _finds(backend, names):
        return backend
    described = json.loads(backend.to_str())
    if finds_bytes:
        words = described["pre_tokenizer"]
        described["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [*([words] if words else []), _WITHIN_BYTES]}
    hidden = secrets.token_hex(16)
    _rename(described, {name: f"\U0010ffff{hidden}{n}" for name, n in names.items()})
    described["post_processor"] = None  # it names special tokens, and adds them only around a text
    encoder = tokenizers.Tokenizer.from_str(json.dumps(described))
    encoder.encode_special_tokens = True
    return encoder


_WITHIN_BYTES = {
    "type": "Split",
    "pattern": {"Regex": "<(?=0x[0-9A-F]{2}>)"},
    "behavior": "MergedWithPrevious",
    "invert": False,
}
"""Cuts the text `<0x41>` behind its first character."""


def _finds_bytes(backend: tokenizers.Tokenizer) -> bool:
    """Whether the text `<0x41>` may be encoded to the token that stands for the byte 0x41."""
    model = backend.model
    if not (isinstance(model, models.Unigram) or getattr(model, "byte_fallback", False)):
        return False
    found = model.token_to_id("<0x41>")
    return found is not None and _is_token(model, "<0x41>", found)


def _finds(backend: tokenizers.Tokenizer, names: Mapping[str, int]) -> bool:
    """Whether a text may be encoded to one of these tokens because it contains its name."""
    added = backend.get_added_tokens_decoder()
    if any(n in added and not added[n].special for n in names.values()):
        return True  # a token that was added as text is found in every text
    model = backend.model
    in_model = {name: n for name, n in names.items() if model.token_to_id(name) == n}
    if not isinstance(model, models.BPE):
        return bool(in_model)
    # Merges within a token do not depend on the text around it, so a token that its own name is not merged to is never
    # produced.
    return any(_is_token(model, name, n) for name, n in in_model.items())


def _is_token(model: models.Model, name: str, number: int) -> bool:
    try:
        return [token.id for token in model.tokenize(name)] == [number]
    except Exception:  # the library raises bare Exception, for a character that it does not know
        return False


def _rename(described: dict[str, Any], names: Mapping[str, str]) -> None:
    """Give tokens of a tokenizer.json other names, at the same ids."""
    for token in described["added_tokens"]:
        if token["content"] in names:
            token |= {"content": names[token["content"]], "special": True, "normalized": False}
    model = described["model"]
    if isinstance(model["vocab"], list):
        model["vocab"] = [[names.get(token, token), score] for token, score in model["vocab"]]
    else:
        model["vocab"] = {names.get(token, token): n for token, n in model["vocab"].items()}
    if model.get("unk_token") is not None:
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if "merges" in model:
        prefix = model.get("continuing_subword_prefix") or ""
        merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        model["merges"] = [
            (left, right)
            for left, right in merges
            if not names.keys() & {left, right, left + (right.removeprefix(prefix) if prefix else right)}
        ]
