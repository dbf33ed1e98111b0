"""Load a tokenizer that somebody else made, and add the special ids that it lacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tokenizers

from ...errors import InputError
from ...escape import shown
from ..special_ids import SpecialIds
from .adapted import AdaptedTokenizer, Adapter, adapt
from .files import Opened, open_path
from .ids import IdTokenizer
from .objects import ObjectAdapter
from .roles import id_by_name, looks_special, stated_ids
from .tables import vocabulary_tables
from .tiktoken_encodings import from_tiktoken, is_tiktoken
from .tokenizer import Tokenizer
from .unknown import can_drop_text, unknown_id, unused_name, with_unknown, writes_everything
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
    unused_ids,
)

Roles = Iterable[str] | Mapping[str, str | int | None]


def load_tokenizer(source: str | Path | Any, sentinels: int = 100, roles: Roles = ()) -> Tokenizer:
    """A tokenizer from a file, a folder of `save_pretrained`, or an object of `tokenizers` or another library.

    Files: tokenizer.json; vocab.txt (WordPiece, as BERT has it); vocab.json with merges.txt (byte-level BPE, as GPT-2
    has it); a SentencePiece .model, which is read by the package `sentencepiece`. Objects: a `tokenizers.Tokenizer`, a
    fast tokenizer of `transformers`, an Encoding of `tiktoken`, and any other with `encode`, `decode` and `get_vocab`,
    which becomes an `AdaptedTokenizer`. Special ids, or the file of an `IdTokenizer`, become one, as they are.

    What is missing of pad, end of text, mask, the `roles` and the sentinels is added behind the ids that exist, which
    keep their meaning; a model trained with the tokenizer as it was must grow its embedding to `vocab_size`. The source
    itself is not changed. Sentinels that exist keep their number; more are added up to `sentinels`.

    A special token of the form `<|fim_prefix|>` has the role "fim_prefix", whether `roles` names it or not, unless it
    is pad, end of text or mask. So a tokenizer that was saved keeps its roles. A dict as `roles` says which token or id
    has a role (None: one of its own, where it has none): `{"mask": "<blank>", "unk": "UNK", "decoder_start": 2}`. The
    decoder's start is also read from the `config.json` of a model in the same folder, and the special tokens that
    `save_pretrained` wrote from tokenizer_config.json and special_tokens_map.json.

    A model that drops what its vocabulary cannot write, or fails on it, gets an unknown token, and so does one whose
    unknown token is pad, end of text or mask as well. Every special id that was guessed by its name or added is one
    line of `Tokenizer.notes`.

    >>> from clozelab.data import load_tokenizer, train_bpe
    >>> plain = train_bpe(["the cat sat"] * 2, vocab_size=400, sentinels=2)
    >>> tokenizer = load_tokenizer(plain.backend, sentinels=2, roles=["fim_prefix"])
    >>> tokenizer.special["fim_prefix"] == plain.vocab_size, tokenizer.vocab_size - plain.vocab_size
    (True, 1)
    >>> load_tokenizer(plain.backend, sentinels=2, roles={"decoder_start": "</s>"}).special["decoder_start"]
    1

    Raises `FileNotFoundError` for a path that does not exist, and `InputError` for a file or an object of another kind,
    a token of a role that does not exist, and a vocabulary of more than two million ids or with two tokens of one id.
    """
    check_sentinels(sentinels)
    if isinstance(source, type):
        raise InputError(f"expected a tokenizer, or the path of one, got the class {source.__name__}: call it")
    opened, declared, notes = _opened(source)
    if isinstance(opened, SpecialIds):
        return IdTokenizer(opened)
    if isinstance(opened, Adapter):
        return adapt(opened, declared, notes, sentinels, roles)
    vocabulary = opened.get_vocab(with_added_tokens=True)
    _check_ids(vocabulary, notes)
    stated = stated_ids(vocabulary, roles) if isinstance(roles, Mapping) else {}
    chosen = {role: n for role, n in declared.items() if n is not None} | stated
    known = {token.content: n for n, token in opened.get_added_tokens_decoder().items() if token.special}
    named = {role: id_by_name(role, vocabulary, known) for role in KNOWN_NAMES if role not in chosen}
    ids = {role: chosen[role] if role in chosen else (named[role] or ("", None))[1] for role in KNOWN_NAMES}
    backend = _with_unknown(opened, stated.get("unk"), ids, notes)
    for role, number in ids.items():
        if number is None:
            add_special_tokens(backend, [KNOWN_NAMES[role][0]])
            ids[role] = existing_id(backend, KNOWN_NAMES[role][0])
        if role not in chosen:
            found = named[role]
            name, how = (found[0], "by its name") if found is not None else (KNOWN_NAMES[role][0], "added")
            notes.append(f"{role}: {name} = {ids[role]}, {how}")
    special = _special_ids(backend, {role: n for role, n in ids.items() if n is not None}, chosen, sentinels, roles)
    notes += looks_special(backend.get_vocab(with_added_tokens=True), special)
    return Tokenizer(backend, special, notes)


def _opened(source: Any) -> Opened:
    """(a copy of the source's backend, the ids that it declares itself for some roles, notes)."""
    if isinstance(source, (SpecialIds, IdTokenizer)):
        return source if isinstance(source, SpecialIds) else source.special, {}, []
    if isinstance(source, AdaptedTokenizer):
        return source.adapter, dict(source.special.named), []
    if isinstance(source, Tokenizer):
        return tokenizers.Tokenizer.from_str(source.backend.to_str()), dict(source.special.named), []
    if isinstance(source, (str, Path)):
        return open_path(Path(source))
    if isinstance(source, tokenizers.Tokenizer):
        return _copy(source), {}, []
    if isinstance(getattr(source, "backend_tokenizer", None), tokenizers.Tokenizer):
        declared = {name: getattr(source, f"{name}_token_id", None) for name in KNOWN_NAMES}
        return _copy(source.backend_tokenizer), declared, []
    if is_tiktoken(source):
        return from_tiktoken(source), {}, []
    adapter = ObjectAdapter(source)
    return adapter, adapter.declared, []


def _copy(backend: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """A copy; raises `InputError` for tokens that share an id, one of which it would lack."""
    _check_ids(backend.get_vocab(with_added_tokens=True), [])
    return tokenizers.Tokenizer.from_str(backend.to_str())


def _with_unknown(
    backend: tokenizers.Tokenizer, stated: int | None, ids: Mapping[str, int | None], notes: list[str]
) -> tokenizers.Tokenizer:
    """The tokenizer, with an unknown token of its own where text may need one; `ids` are those of pad, eos and mask."""
    if writes_everything(backend):
        return backend
    present = unknown_id(backend) if stated is None else stated
    taken = next((role for role, n in ids.items() if n is not None and n == present), None)
    if taken is not None:
        name = unused_name(backend.get_vocab(with_added_tokens=True))
        backend, name = with_unknown(backend, name)
        notes.append(
            f"unknown: the token {present} is {taken} as well, which no text may become; unknown is "
            f"{name} = {existing_id(backend, name)}, added"
        )
    elif stated is not None:
        backend, _ = with_unknown(backend, backend.id_to_token(stated))
    elif can_drop_text(backend):
        backend, name = with_unknown(backend)
        notes.append(f"unknown: the model has no unknown token, and gets {name} = {backend.token_to_id(name)}")
    return backend


def _special_ids(
    backend: tokenizers.Tokenizer, ids: Mapping[str, int], chosen: Mapping[str, int], sentinels: int, roles: Roles
) -> SpecialIds:
    """The special ids, once the tokens of roles and sentinels that are missing are added to the backend."""
    existing = 0
    while backend.token_to_id(sentinel_token(existing)) is not None:
        existing += 1
    missing = [role for role in check_roles(roles) if role not in chosen and role != "unk"]
    role_ids, sentinel_ids = add_roles_and_sentinels(backend, missing, existing, sentinels)
    special_tokens = {
        number: token.content for number, token in backend.get_added_tokens_decoder().items() if token.special
    }
    meant = {*ids.values(), *sentinel_ids}
    named = {role: n for n, name in special_tokens.items() if n not in meant and (role := role_of(name))}
    role_ids |= {role: n for role, n in {**named, **chosen}.items() if role not in (*KNOWN_NAMES, "unk")}
    if role_ids.get("decoder_start") == ids["pad"]:  # which it is where nothing else is said
        del role_ids["decoder_start"]
    vocabulary = backend.get_vocab(with_added_tokens=True)
    vocab_size = max(vocabulary.values()) + 1
    unknown = {n for n in (unknown_id(backend), chosen.get("unk")) if n is not None}
    others = {*special_tokens, *unused_ids(vocabulary), *unknown} - meant - {*role_ids.values()}
    tables = vocabulary_tables(backend, vocab_size, meant | others | {*role_ids.values()})
    meanings = (ids["pad"], ids["eos"], ids["mask"], sentinel_ids, sorted(others), role_ids)
    return SpecialIds(vocab_size, *meanings, **tables)


def _check_ids(vocabulary: Mapping[str, int], notes: list[str]) -> None:
    """Raise `InputError` for ids that no model can have; ids without a token are told in `notes`."""
    vocab_size = max(vocabulary.values(), default=-1) + 1
    if not 0 < vocab_size <= MAX_VOCAB_SIZE:
        raise InputError(
            f"expected a vocabulary of 1 to {MAX_VOCAB_SIZE:,} ids, but its ids go up to {vocab_size - 1:,}"
        )
    names: dict[int, str] = {}
    for token, number in vocabulary.items():
        if names.setdefault(number, token) != token:
            raise InputError(
                f"expected an id for each token, but {shown(names[number], 40)} and {shown(token, 40)} have the same, "
                f"{number}"
            )
    if len(names) < vocab_size:
        notes.append(f"ids: {vocab_size - len(names):,} of the {vocab_size:,} stand for no token")
