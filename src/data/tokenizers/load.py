"""Load a tokenizer that somebody else made, and add the special ids that it lacks."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tokenizers

from ...checks import check_int
from ...errors import InputError
from ..corpora.cache import read_json
from ..special_ids import SpecialIds
from .folders import add_declared, refuse_other_files
from .tables import vocabulary_tables
from .tokenizer import Tokenizer
from .unknown import can_drop_text, unknown_id, with_unknown
from .vocabulary import (
    KNOWN_NAMES,
    MAX_VOCAB_SIZE,
    add_roles_and_sentinels,
    add_special_tokens,
    check_roles,
    check_sentinels,
    existing_id,
    role_of,
    sentinel_token,
)

MAX_GROWTH = 100
"""The most times that normalising or decoding may lengthen a text: no tokenizer in use makes it twice as long."""
MAX_FILE_SIZE = 2**27
"""Bytes of a tokenizer.json."""
_LIKE_SPECIAL = re.compile(r"<(?!0x[0-9A-F]{2}>)\|?[A-Za-z_][A-Za-z_0-9]*\|?>|\[[A-Z_]{2,}[0-9]*\]")


def load_tokenizer(
    source: str | Path | Any, sentinels: int = 100, roles: Iterable[str] | Mapping[str, str | int | None] = ()
) -> Tokenizer:
    """A tokenizer from a tokenizer.json, its folder, a `tokenizers.Tokenizer` or a Hugging Face fast tokenizer.

    What is missing of pad, end of text, mask, the `roles` and the sentinels is added behind the ids that exist, which
    keep their meaning; a model trained with the tokenizer as it was must grow its embedding to `vocab_size`. The source
    itself is not changed. Sentinels that exist keep their number; more are added up to `sentinels`.

    A special token of the form `<|fim_prefix|>` has the role "fim_prefix", whether `roles` names it or not, unless it
    is pad, end of text or mask. So a tokenizer that was saved keeps its roles. A dict as `roles` says which token or id
    has a role (None: one of its own): `{"mask": "<blank>", "decoder_start": model.config.decoder_start_token_id}`. The
    decoder's start is also read from the `config.json` of a model in the same folder, and the special tokens that
    `save_pretrained` wrote from tokenizer_config.json and special_tokens_map.json.

    A model that drops what its vocabulary cannot write, or fails on it, gets an unknown token. Every special id that
    was guessed by its name or added is one line of `Tokenizer.notes`.

    >>> from clozelab.data import load_tokenizer, train_bpe
    >>> plain = train_bpe(["the cat sat"] * 2, vocab_size=400, sentinels=2)
    >>> tokenizer = load_tokenizer(plain.backend, sentinels=2, roles=["fim_prefix"])
    >>> tokenizer.special["fim_prefix"] == plain.vocab_size, tokenizer.vocab_size - plain.vocab_size
    (True, 1)
    >>> load_tokenizer(plain.backend, sentinels=2, roles={"decoder_start": "</s>"}).special["decoder_start"]
    1

    Raises `FileNotFoundError` for a path that does not exist, and `InputError` for a file that is no tokenizer.json, an
    object of another kind, a token of a role that does not exist, and a vocabulary of more than two million ids or with
    two tokens of one id.
    """
    check_sentinels(sentinels)
    backend, chosen = _copied_backend(source)
    notes: list[str] = []
    if can_drop_text(backend):
        backend, name = with_unknown(backend)
        notes.append(f"unknown: the model has no unknown token, and gets {name} = {backend.token_to_id(name)}")
    chosen |= _stated_ids(backend, roles) if isinstance(roles, Mapping) else {}
    roles = [role for role in check_roles(roles) if chosen.get(role) is None]
    ids = {name: _find_or_add(backend, name, chosen.get(name), notes) for name in KNOWN_NAMES}
    existing = 0
    while backend.token_to_id(sentinel_token(existing)) is not None:
        existing += 1
    role_ids, sentinel_ids = add_roles_and_sentinels(backend, roles, existing, sentinels)
    special_tokens = {
        number: token.content for number, token in backend.get_added_tokens_decoder().items() if token.special
    }
    meant = {*ids.values(), *sentinel_ids}
    role_ids |= {role: n for n, name in special_tokens.items() if n not in meant and (role := role_of(name))}
    role_ids |= {role: n for role, n in chosen.items() if n is not None and role not in KNOWN_NAMES}
    if role_ids.get("decoder_start") == ids["pad"]:  # which it is where nothing else is said
        del role_ids["decoder_start"]
    vocab_size, gaps = _checked_ids(backend)
    unknown = unknown_id(backend)
    others = {*special_tokens, *gaps, *([] if unknown is None else [unknown])} - meant - {*role_ids.values()}
    tables = vocabulary_tables(backend, vocab_size, meant | others | {*role_ids.values()})
    special = SpecialIds(
        vocab_size, ids["pad"], ids["eos"], ids["mask"], sentinel_ids, sorted(others), role_ids, **tables
    )
    notes += _looks_special(backend, special)
    return Tokenizer(backend, special, notes)


def _copied_backend(source: Any) -> tuple[tokenizers.Tokenizer, dict[str, int | None]]:
    """(a copy of the source's backend, the ids that the source itself declares for pad, eos, mask and other roles)."""
    if isinstance(source, Tokenizer):
        return tokenizers.Tokenizer.from_str(source.backend.to_str()), dict(source.special.named)
    if isinstance(source, (str, Path)):
        path = Path(source)
        folder = path if path.is_dir() else path.parent
        backend = _read_backend(path)
        beside = path.is_dir() or path.name == "tokenizer.json"
        return backend, (add_declared(backend, folder) if beside else {}) | _decoder_start_beside(folder)
    if isinstance(source, tokenizers.Tokenizer):
        return tokenizers.Tokenizer.from_str(source.to_str()), {}
    if isinstance(getattr(source, "backend_tokenizer", None), tokenizers.Tokenizer):
        declared = {name: getattr(source, f"{name}_token_id", None) for name in KNOWN_NAMES}
        return tokenizers.Tokenizer.from_str(source.backend_tokenizer.to_str()), declared
    raise InputError(
        "expected the path of a tokenizer.json, a tokenizers.Tokenizer or a Hugging Face fast tokenizer, got "
        f"{type(source).__name__}: slow tokenizers have no backend to use"
    )


def _decoder_start_beside(folder: Path) -> dict[str, int | None]:
    """The role that the `config.json` of a model declares, where the folder of its tokenizer has one."""
    config = folder / "config.json"
    if not config.is_file():
        return {}
    described = read_json(config)
    start = described.get("decoder_start_token_id") if isinstance(described, dict) else None
    return {"decoder_start": start} if isinstance(start, int) else {}


def _stated_ids(backend: tokenizers.Tokenizer, roles: Mapping[str, str | int | None]) -> dict[str, int | None]:
    """The id of each role that is stated; None where it is to get a token of its own."""
    ids: dict[str, int | None] = {}
    for role, token in roles.items():
        ids[role] = found = backend.token_to_id(token) if isinstance(token, str) else token
        if token is not None and (
            found is None or backend.id_to_token(check_int(found, f"the id of {role}", 0)) is None
        ):
            raise InputError(
                f"expected the token of the role {role!r} or its id, and the tokenizer has no {token!r:.80}"
            )
    return ids


def _read_backend(path: Path) -> tokenizers.Tokenizer:
    if path.is_file() or not (path / "tokenizer.json").exists():
        refuse_other_files(path)
    path = path / "tokenizer.json" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(2, "no tokenizer file", str(path))
    try:
        described = read_json(path, MAX_FILE_SIZE)
        growth = max(_growth(described.get(name)) for name in ("normalizer", "pre_tokenizer", "decoder"))
        backend = tokenizers.Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # the library raises bare Exception
        raise InputError(f"{path} is not a tokenizer.json: {str(error).strip():.200}") from error
    if growth > MAX_GROWTH:
        raise InputError(
            f"{path} can make a text {growth:,} times as long, expected at most {MAX_GROWTH}: was it tampered with?"
        )
    return backend


def _growth(part: Any) -> int:
    """The most characters that a part of a tokenizer.json makes of one: the product over its replacements."""
    if isinstance(part, list):
        return math.prod(map(_growth, part))
    if not isinstance(part, dict):
        return 1
    content = part.get("content")
    own = max(1, len(content)) if isinstance(content, str) else 1
    return own * _growth([value for value in part.values() if isinstance(value, list)])


def _find_or_add(backend: tokenizers.Tokenizer, name: str, chosen: int | None, notes: list[str]) -> int:
    """The id of pad, eos or mask: the one that was chosen, that of a known name, or a new one."""
    if chosen is not None:
        return chosen
    known = KNOWN_NAMES[name]
    for candidate in known:
        found = backend.token_to_id(candidate)
        if found is not None:
            notes.append(f"{name}: {candidate} = {found}, by its name")
            return found
    for number, token in sorted(backend.get_added_tokens_decoder().items()):
        if token.special and token.content.lower() in (candidate.lower() for candidate in known):
            notes.append(f"{name}: {token.content} = {number}, by its name")
            return number
    add_special_tokens(backend, [known[0]])
    found = existing_id(backend, known[0])
    notes.append(f"{name}: {known[0]} = {found}, added")
    return found


def _looks_special(backend: tokenizers.Tokenizer, special: SpecialIds) -> list[str]:
    """A line about tokens that are written like special ones, and are text."""
    registered = set(special.all)
    found = [
        token
        for token, n in sorted(backend.get_vocab(with_added_tokens=True).items(), key=lambda item: item[1])
        if n not in registered and _LIKE_SPECIAL.fullmatch(token)
    ]
    if not found:
        return []
    more = f" and {len(found) - 5:,} more" if len(found) > 5 else ""
    return [f"text, though written like special tokens: {', '.join(found[:5])}{more}"]


def _checked_ids(backend: tokenizers.Tokenizer) -> tuple[int, set[int]]:
    """(vocab_size, the ids below it that stand for no token)."""
    ids = list(backend.get_vocab(with_added_tokens=True).values())
    vocab_size = max(ids) + 1
    if vocab_size > MAX_VOCAB_SIZE or len(set(ids)) < len(ids):
        reason = "some ids stand for two tokens" if vocab_size <= MAX_VOCAB_SIZE else f"its ids go up to {max(ids):,}"
        raise InputError(f"expected a vocabulary of at most {MAX_VOCAB_SIZE:,} ids, each for one token, but {reason}")
    return vocab_size, set(range(vocab_size)) - set(ids)
