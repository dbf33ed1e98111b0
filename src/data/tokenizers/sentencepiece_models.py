"""SentencePiece models, read and asked by SentencePiece itself."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from ...errors import InputError
from ...escape import shown
from .adapted import Adapter
from .folders import Declared
from .vocabulary import import_extra

MAX_SIZE = 2**26
"""Bytes of a model."""


class SentencePieceAdapter(Adapter):
    """A SentencePiece model (Kudo and Richardson 2018), of unigrams, byte pairs, characters or words.

    Text never becomes a control symbol: the library sees to it. `added` are special tokens behind those of the model,
    such as T5's sentinels.

    Raises `InputError` for what is no SentencePiece model, and where the package `sentencepiece` is missing.
    """

    layout = "metaspace"

    def __init__(self, model: bytes, added: Mapping[str, int] | None = None, name: str = "the model") -> None:
        library = import_extra("sentencepiece", "sentencepiece", f"to read {name}")
        try:
            processor = library.SentencePieceProcessor(model_proto=model)
            size = processor.vocab_size()
        except Exception as error:  # RuntimeError and what its wrapper raises
            raise InputError(f"{name} is no SentencePiece model, or is damaged ({type(error).__name__})") from error
        if not size:
            raise InputError(f"{name} is no SentencePiece model, or is damaged: it has no pieces")
        self.model = model
        self.processor = processor
        self.own = {processor.id_to_piece(n): n for n in range(size)}
        self.added = dict(added or {})
        self.unknown = processor.unk_id()
        self.own_special = frozenset(
            n for n in range(size) if processor.is_control(n) or processor.is_unused(n) or processor.is_unknown(n)
        )

    @classmethod
    def read(cls, path: Path, declared: Declared) -> tuple[Self, dict[str, int | None], list[str]]:
        """(adapter, ids by roles, notes) of a .model file and what its folder declares."""
        if path.stat().st_size > MAX_SIZE:
            raise InputError(f"{path} has {path.stat().st_size:,} bytes, expected at most {MAX_SIZE:,}")
        adapter = cls(path.read_bytes(), name=str(path))
        added = {name: number for number, name, _ in declared.listed if name not in adapter.own}
        for name in declared.names:
            if name not in adapter.own:
                added.setdefault(name, max([*adapter.own.values(), *added.values()]) + 1)
        adapter.added = added
        roles = {role: getattr(adapter.processor, f"{role}_id")() for role in ("pad", "eos")}
        stated: dict[str, int | None] = {role: n for role, n in roles.items() if n >= 0}
        stated |= {
            role: adapter.vocabulary[name] for role, name in declared.roles.items() if role in ("pad", "eos", "mask")
        }
        notes = []
        if declared.tokenizer_class:
            notes.append(f"ids are those of {path.name} itself; {declared.tokenizer_class} may number them otherwise")
        return adapter, stated, notes

    @classmethod
    def from_json(cls, described: Mapping[str, Any], path: Path) -> Self:
        """The adapter that `described` was made of; raises `InputError` for a damaged file."""
        added = described.get("added")
        try:
            model = base64.b64decode(described["sentencepiece"], validate=True)
        except (TypeError, ValueError) as error:
            raise InputError(f"{path} is damaged: expected a SentencePiece model ({error})") from error
        if not isinstance(added, dict) or not all(type(n) is int and 0 <= n < 2**31 for n in added.values()):
            raise InputError(f"{path} is damaged: expected the ids of added tokens, got {shown(added)}")
        return cls(model, added, str(path))

    def described(self) -> dict[str, Any]:
        return {"sentencepiece": base64.b64encode(self.model).decode()}

    def encode(self, text: str) -> list[int]:
        return self.processor.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        return self.processor.decode(list(ids))

    def ends(self, text: str, ids: Sequence[int]) -> list[int] | None:
        return [end for _, end in self.processor.encode_as_offset_mapping(text)["offsets"]]
