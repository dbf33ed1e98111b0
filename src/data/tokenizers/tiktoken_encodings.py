"""Encodings of `tiktoken` as a `tokenizers.Tokenizer`."""

from __future__ import annotations

from typing import Any

import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers

from ...errors import InputError
from ...escape import shown
from .tables import BYTE_ALPHABET
from .vocabulary import add_special_tokens

_SAMPLES = (
    "The lamp, it's said, was 12345.5% dark…\r\n\r\n  x = [1,2];\t\tStraße naïve",
    "これは文です。 Это предложение. 한국어 🙂👩‍🚀 e\u0301 aaaaaaaaa 0000000 </s> <|endoftext|>",
)


def is_tiktoken(source: Any) -> bool:
    """Whether an object is an Encoding of `tiktoken`."""
    return type(source).__module__.partition(".")[0] == "tiktoken" and hasattr(source, "_mergeable_ranks")


def from_tiktoken(encoding: Any) -> tokenizers.Tokenizer:
    """Byte-level BPE with the ranks, the pattern and the special tokens of an Encoding.

    Raises `InputError` where a few sentences and a thousand of its tokens have other ids than `tiktoken` gives.
    """
    signs = {byte: sign for sign, byte in BYTE_ALPHABET.items()}
    ranks: dict[bytes, int] = encoding._mergeable_ranks
    names = {token: "".join(signs[byte] for byte in token) for token in ranks}
    merges = [
        (names[token[:cut]], names[token[cut:]])
        for token in sorted(ranks, key=ranks.__getitem__)
        for cut in range(1, len(token))
        if token[:cut] in ranks and token[cut:] in ranks
    ]
    model = models.BPE({names[token]: n for token, n in ranks.items()}, merges, ignore_merges=True)
    backend = tokenizers.Tokenizer(model)
    words = pre_tokenizers.Split(Regex(encoding._pat_str), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [words, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    special = sorted(encoding._special_tokens.items(), key=lambda item: item[1])
    for name, number in special:
        add_special_tokens(backend, [name])
        if backend.token_to_id(name) != number:
            raise InputError(
                f"{encoding!r} has ids between those of its tokens and {name} = {number}: it cannot be read"
            )
    backend.encode_special_tokens = True
    tokens = [token.decode(errors="ignore") for token in list(ranks)[:: max(1, len(ranks) // 1000)]]
    for text in (*_SAMPLES, *tokens):
        expected, found = encoding.encode_ordinary(text), backend.encode(text, add_special_tokens=False).ids
        if expected != found:
            raise InputError(
                f"{encoding!r} cannot be read exactly: {shown(text, 60)} is {expected[:8]}, its copy {found[:8]}"
            )
    return backend
