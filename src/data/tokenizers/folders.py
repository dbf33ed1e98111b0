"""Folders of Hugging Face tokenizers: what stands beside a tokenizer.json, and what other files are called."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken

from ...errors import InputError
from ..corpora.cache import read_json
from .vocabulary import add_special_tokens

DECLARED = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
"""The special tokens that a folder declares, in the order in which `transformers` adds those that are missing."""
CONFIGS = ("special_tokens_map.json", "tokenizer_config.json")
"""The files that declare them; the last one holds."""

OTHER_FILES = {
    ".model": "a SentencePiece model",
    ".spm": "a SentencePiece model",
    ".tiktoken": "a vocabulary of tiktoken",
    "vocab.txt": "a WordPiece vocabulary, as BERT has it",
    "vocab.json": "a BPE vocabulary, whose merges stand in merges.txt",
    "merges.txt": "the merges of a BPE vocabulary, which stands in vocab.json",
    "tokenizer_config.json": "the settings of a tokenizer, which do not hold its vocabulary",
}
"""By how a name ends: what other files of tokenizers are."""


def refuse_other_files(path: Path) -> None:
    """Raise `InputError`, which says what it is, for another file of a tokenizer, or a folder with only such files."""
    files = sorted(path.iterdir()) if path.is_dir() else [path] if path.is_file() else []
    for file in files:
        kind = next((kind for end, kind in OTHER_FILES.items() if file.name.endswith(end)), None)
        if kind is not None:
            folder = path if path.is_dir() else path.parent
            raise InputError(
                f"{file} is {kind}, and only a tokenizer.json can be read. transformers makes one: "
                f"AutoTokenizer.from_pretrained({str(folder)!r}).save_pretrained('tokenizer'), then load 'tokenizer'"
            )


def add_declared(backend: tokenizers.Tokenizer, folder: Path) -> dict[str, int | None]:
    """The ids of the special tokens that a folder declares, added where the tokenizer lacks them, as in `transformers`.

    Those of pad, eos and mask are returned. Raises `InputError` for a damaged file.
    """
    declared: dict[str, Any] = {}
    for name in CONFIGS:
        if (folder / name).is_file():
            content = read_json(folder / name)
            if not isinstance(content, dict):
                raise InputError(f"{folder / name} is damaged: expected a JSON object, got {type(content).__name__}")
            declared |= {key: value for key, value in content.items() if value is not None}
    _add_listed(backend, declared.get("added_tokens_decoder"), folder)
    tokens = {role: _content(declared.get(f"{role}_token"), folder) for role in DECLARED}
    further = declared.get("additional_special_tokens") or declared.get("extra_special_tokens") or ()
    further = further.values() if isinstance(further, Mapping) else further
    names = [*tokens.values(), *(_content(token, folder) for token in further)]
    add_special_tokens(backend, list(dict.fromkeys(name for name in names if name)))
    return {role: backend.token_to_id(tokens[role]) for role in ("pad", "eos", "mask") if tokens[role]}


def _add_listed(backend: tokenizers.Tokenizer, listed: Any, folder: Path) -> None:
    """Add the tokens of `added_tokens_decoder`, by id, which tokenizers of earlier versions hold only there."""
    if not isinstance(listed, dict):
        return
    numbered = sorted((int(n), token) for n, token in listed.items() if n.isdecimal() and isinstance(token, dict))
    for number, token in numbered:
        name = _content(token, folder)
        if backend.token_to_id(name) is None:
            special = bool(token.get("special"))
            flags = {key: bool(token.get(key)) for key in ("single_word", "lstrip", "rstrip", "normalized")}
            backend.add_tokens([AddedToken(name, special=special, **flags)])
        if backend.token_to_id(name) != number:
            raise InputError(
                f"{folder} is damaged: its tokenizer_config.json gives {name!r:.80} the id {number}, its "
                f"tokenizer.json {backend.token_to_id(name)}"
            )


def _content(token: Any, folder: Path) -> str:
    """A token as it is written in these files: a string, or a dict with its `content`; empty for none."""
    token = token.get("content") if isinstance(token, dict) else token
    if token is not None and not isinstance(token, str):
        raise InputError(f"{folder} is damaged: expected special tokens by their names, got {token!r:.80}")
    return token or ""
