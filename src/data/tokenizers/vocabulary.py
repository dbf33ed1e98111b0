"""The tokens of a vocabulary that are not text: their names, and how they are added to a tokenizer."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tokenizers
from tokenizers import AddedToken

from ...checks import check_int, check_type
from ...errors import InputError
from ...escape import shown

PAD, EOS, UNKNOWN, MASK = "<pad>", "</s>", "<unk>", "<mask>"

KNOWN_NAMES = {
    "pad": (PAD, "[PAD]", "<|pad|>", "<|padding|>"),
    "eos": (EOS, "<|endoftext|>", "<eos>", "<|end_of_text|>", "[SEP]"),
    "mask": (MASK, "[MASK]", "<|mask|>"),
}
"""Names that tokenizers in use give to these roles, the most common first."""

MAX_VOCAB_SIZE = 2_000_000
"""The most ids that a vocabulary may have: eight times the largest vocabulary in use."""


def sentinel_token(k: int) -> str:
    """T5's name of the k-th sentinel.

    >>> from clozelab.data.tokenizers.vocabulary import sentinel_token
    >>> sentinel_token(0)
    '<extra_id_0>'
    """
    return f"<extra_id_{k}>"


def role_token(role: str) -> str:
    """The token of a role beside pad, eos and mask.

    >>> from clozelab.data.tokenizers.vocabulary import role_token
    >>> role_token("fim_prefix")
    '<|fim_prefix|>'
    """
    return f"<|{role}|>"


_ROLE_TOKEN = re.compile(r"<\|([a-z0-9_]+)\|>")


def role_of(token: str) -> str | None:
    """The role that a token is named after, None for any other token: the inverse of `role_token`."""
    found = _ROLE_TOKEN.fullmatch(token)
    return found and found[1]


def check_sentinels(sentinels: int) -> int:
    """The number of sentinels; raises `InputError` for what is no number of ids."""
    if not 0 <= check_int(sentinels, "sentinels") <= MAX_VOCAB_SIZE:
        raise InputError(f"sentinels must lie in 0 .. {MAX_VOCAB_SIZE}, got {sentinels}")
    return sentinels


def check_roles(roles: Iterable[str]) -> list[str]:
    """The roles that need a token of their own, each once: all but pad, eos and mask, which every tokenizer has.

    >>> from clozelab.data.tokenizers.vocabulary import check_roles
    >>> check_roles(("mask", "fim_prefix", "fim_suffix"))
    ['fim_prefix', 'fim_suffix']

    Raises `InputError` for a lone string, and for names other than lower-case letters, digits and underscores.
    """
    if isinstance(roles, str) or not isinstance(roles, Iterable):
        raise InputError(f"expected roles as a list of names, got {shown(roles)}: put it in a list")
    names = [check_type(role, str, "a role") for role in roles]
    for name in names:
        if role_of(role_token(name)) != name:
            raise InputError(f"a role is named in lower-case letters, digits and underscores, got {shown(name)}")
    return [name for name in dict.fromkeys(names) if name not in KNOWN_NAMES]


def add_special_tokens(backend: tokenizers.Tokenizer, names: Sequence[str]) -> None:
    """Add tokens that no text is encoded to, behind all ids; those that exist keep their ids."""
    if any(backend.token_to_id(name) is None for name in names):
        _fill_holes(backend)
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])


def unused_ids(vocabulary: Mapping[str, int]) -> set[int]:
    """The ids up to the last one that stand for no token, those that were filled included."""
    missing = set(range(max(vocabulary.values()) + 1)) - {*vocabulary.values()}
    filled = {n for token, n in vocabulary.items() if token.startswith("<unused_") and token == f"<unused_{n}>"}
    return missing | filled


def _fill_holes(backend: tokenizers.Tokenizer) -> None:
    """Give a token to each id that stands for none: `tokenizers` numbers a new token by how many there are, which is an
    id that is taken where some are missing."""
    vocabulary = backend.get_vocab(with_added_tokens=True)
    names = {n: token for token, n in vocabulary.items()}
    size = max(names, default=-1) + 1
    if size == len(names) or size > MAX_VOCAB_SIZE:
        return
    described = json.loads(backend.to_str())
    model = described["model"]
    names |= {n: f"<unused_{n}>" for n in range(size) if n not in names}
    if isinstance(model["vocab"], list):
        model["vocab"] += [[names[n], 0.0] for n in range(len(model["vocab"]), size)]
    else:
        model["vocab"] |= {token: n for n, token in names.items()}
    backend.model = tokenizers.Tokenizer.from_str(json.dumps(described)).model


def existing_id(backend: tokenizers.Tokenizer, name: str) -> int:
    """The id of a token that the tokenizer is known to have."""
    found = backend.token_to_id(name)
    assert found is not None, name
    return found


def add_roles_and_sentinels(
    backend: tokenizers.Tokenizer, roles: Sequence[str], existing: int, sentinels: int
) -> tuple[dict[str, int], list[int]]:
    """Add a token for each role, then sentinels from number `existing` on, and return the ids of both.

    New sentinels are the last ids, `<extra_id_0>` the highest, as in T5.
    """
    add_special_tokens(backend, [role_token(role) for role in roles])
    add_special_tokens(backend, [sentinel_token(k) for k in reversed(range(existing, sentinels))])
    return (
        {role: existing_id(backend, role_token(role)) for role in roles},
        [existing_id(backend, sentinel_token(k)) for k in range(max(existing, sentinels))],
    )


def import_extra(module: str, package: str, purpose: str) -> Any:
    """A module of a package that clozelab does not need otherwise.

    Raises `InputError`, which says how it is installed, where it is missing.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"{package} is needed {purpose}: pip install 'clozelab[{package}]' ({error})") from error
