"""What the files of a Hugging Face folder declare beside the vocabulary: special tokens and the decoder's start."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tokenizers
from tokenizers import AddedToken

from ...errors import InputError
from ...escape import shown
from ..corpora.cache import read_json
from .vocabulary import add_special_tokens

DECLARED = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
"""The special tokens that a folder declares, in the order in which `transformers` adds those that are missing."""
CONFIGS = ("special_tokens_map.json", "tokenizer_config.json")
"""The files that declare them; the last one holds."""


class Declared(NamedTuple):
    """The special tokens that a folder declares."""

    roles: dict[str, str]
    """Names by roles, those that are missing left out."""
    listed: list[tuple[int, str, dict[str, Any]]]
    """(id, name, properties) of `added_tokens_decoder`, by id, which tokenizers of earlier versions hold only there."""
    further: list[str]
    """Names of further special tokens."""
    tokenizer_class: str
    """The class of `transformers` that reads the folder; empty where it is not said."""

    @property
    def names(self) -> list[str]:
        """All special tokens but those that are listed, each once, in the order in which they are added."""
        return list(dict.fromkeys([*self.roles.values(), *self.further]))


def read_declared(folder: Path) -> Declared:
    """The special tokens that the files of a folder declare; raises `InputError` for a damaged file."""
    content: dict[str, Any] = {}
    for name in CONFIGS:
        if (folder / name).is_file():
            read = read_json(folder / name)
            if not isinstance(read, dict):
                raise InputError(f"{folder / name} is damaged: expected a JSON object, got {type(read).__name__}")
            content |= {key: value for key, value in read.items() if value is not None}
    listed = content.get("added_tokens_decoder")
    listed = listed if isinstance(listed, dict) else {}
    numbered = sorted((int(n), token) for n, token in listed.items() if n.isdecimal() and isinstance(token, dict))
    roles = {role: name for role in DECLARED if (name := _content(content.get(f"{role}_token"), folder))}
    further = content.get("additional_special_tokens") or content.get("extra_special_tokens") or ()
    further = further.values() if isinstance(further, Mapping) else further
    names = [name for token in further if (name := _content(token, folder))]
    names.sort(key=_sentinel_number)  # sentinels behind all others, the first one last, as in T5
    kind = content.get("tokenizer_class")
    return Declared(
        roles,
        [(n, _content(token, folder), token) for n, token in numbered],
        names,
        kind if isinstance(kind, str) else "",
    )


def _sentinel_number(name: str) -> int:
    found = re.fullmatch(r"<extra_id_(\d{1,9})>", name)
    return -int(found[1]) if found else -(10**9)


def add_declared(backend: tokenizers.Tokenizer, declared: Declared, folder: Path) -> dict[str, int | None]:
    """The ids of pad, eos and mask that a folder declares; tokens that the tokenizer lacks are added, as in
    `transformers`.

    Raises `InputError` where the tokenizer gives one of them another id than the folder does.
    """
    for number, name, token in declared.listed:
        if backend.token_to_id(name) is None:
            special = bool(token.get("special"))
            flags = {key: bool(token.get(key)) for key in ("single_word", "lstrip", "rstrip", "normalized")}
            backend.add_tokens([AddedToken(name, special=special, **flags)])
        if backend.token_to_id(name) != number:
            raise InputError(
                f"{folder} is damaged: its tokenizer_config.json gives {shown(name)} the id {number}, its "
                f"tokenizer.json {backend.token_to_id(name)}"
            )
    add_special_tokens(backend, declared.names)
    return {
        role: backend.token_to_id(declared.roles[role]) for role in ("pad", "eos", "mask") if role in declared.roles
    }


def decoder_start_beside(folder: Path) -> dict[str, int | None]:
    """The role that the `config.json` of a model declares, where the folder of its tokenizer has one."""
    config = folder / "config.json"
    if not config.is_file():
        return {}
    described = read_json(config)
    start = described.get("decoder_start_token_id") if isinstance(described, dict) else None
    return {"decoder_start": start} if isinstance(start, int) else {}


def _content(token: Any, folder: Path) -> str:
    """A token as it is written in these files: a string, or a dict with its `content`; empty for none."""
    token = token.get("content") if isinstance(token, dict) else token
    if token is not None and not isinstance(token, str):
        raise InputError(f"{folder} is damaged: expected special tokens by their names, got {shown(token)}")
    return token or ""
