"""Any object of Python that encodes and decodes, as an adapter: slow tokenizers of `transformers`, one's own."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from ...errors import InputError
from ...escape import shorten, shown
from .adapted import Adapter

MAX_TOGETHER = 16
"""The most tokens that stand for one piece of text together, such as the bytes of an emoji."""
_SAMPLES = ("The lamp, it said, was 12.5% dark.", " \tStraße naïve\n\n", "漢字 🙂 e\u0301", "</s> <pad> [MASK] _x_")


class ObjectAdapter(Adapter):
    """A tokenizer by its `encode(text)`, `decode(ids)` and `get_vocab()` (or `vocab`, a dict of tokens and ids).

    Of a tokenizer of `transformers` the special ids are read too, and no special tokens are put around texts.

    Raises `InputError` for an object without these.
    """

    def __init__(self, source: Any) -> None:
        get_vocab = None if isinstance(source, type) else getattr(source, "get_vocab", None)
        vocabulary = get_vocab() if callable(get_vocab) else getattr(source, "vocab", None)
        if not isinstance(vocabulary, Mapping):
            raise InputError(
                "expected the path of a tokenizer, a tokenizer of tokenizers or transformers, or an object with "
                f"encode(text), decode(ids) and get_vocab(), got {type(source).__name__}"
            )
        for name in ("encode", "decode"):
            if not callable(getattr(source, name, None)):
                raise InputError(
                    f"expected a tokenizer with encode and decode, got {type(source).__name__} without {name}"
                )
        self.source = source
        self.added = {}
        self.own = {str(token): int(n) for token, n in vocabulary.items()}
        self.unknown = _id_of(source, "unk")
        special = getattr(source, "all_special_ids", None)
        ids = special if isinstance(special, Iterable) else ()
        self.own_special = frozenset(int(n) for n in ids) & {*self.own.values()}
        self._encode_settings = _accepted(source.encode, add_special_tokens=False, verbose=False)
        self._decode_settings = _accepted(source.decode, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    @property
    def declared(self) -> dict[str, int | None]:
        """The ids of pad, eos and mask that the object itself states."""
        return {role: _id_of(self.source, role) for role in ("pad", "eos", "mask")}

    def encode(self, text: str) -> list[int]:
        kind = type(self.source).__name__
        try:
            found = self.source.encode(text, **self._encode_settings)
        except Exception as error:  # whatever it raises for what its vocabulary lacks
            raise InputError(
                f"{kind}.encode failed on a text ({type(error).__name__}: {shorten(error, 100)}): {shown(text)}; does "
                "its vocabulary lack a character?"
            ) from error
        try:
            return [int(n) for n in getattr(found, "ids", found)]
        except (TypeError, ValueError) as error:
            raise InputError(f"expected token ids from {kind}.encode, got {type(found).__name__}") from error

    def decode(self, ids: Sequence[int]) -> str:
        kind = type(self.source).__name__
        try:
            return str(self.source.decode(list(ids), **self._decode_settings))
        except Exception as error:
            reason = f"{type(error).__name__}: {shorten(error, 100)}"
            raise InputError(f"{kind}.decode failed on {shown(ids)} ({reason})") from error

    def ends(self, text: str, ids: Sequence[int]) -> list[int] | None:
        return ends_by_decoding(text, ids, self.decode)

    def described(self) -> dict[str, Any]:
        kind = type(self.source)
        spelled = json.dumps([sorted(self.own.items()), *map(self._sample, _SAMPLES)])
        return {
            "object": f"{kind.__module__}.{kind.__qualname__}",
            "encodes": hashlib.blake2b(spelled.encode(), digest_size=16).hexdigest(),
        }

    def _sample(self, text: str) -> list[int] | str:
        try:
            return self.encode(text)
        except InputError as error:
            return str(error)


def _id_of(source: Any, role: str) -> int | None:
    found = getattr(source, f"{role}_token_id", None)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def _accepted(function: Callable[..., Any], **settings: Any) -> dict[str, Any]:
    """The settings that a function takes."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # it is not written in Python
        return {}
    takes_all = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    return {name: value for name, value in settings.items() if takes_all or name in parameters}


def ends_by_decoding(text: str, ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[int] | None:
    """Where in the text each token ends, in characters: where decoding the tokens one after another spells the text.

    A token is decoded behind the one before it, which tells the space between them; white space and case are not
    compared. Tokens that spell something only together end where it begins, and the last of them where it ends. None
    where what is decoded is not the text.

    >>> from clozelab.data.tokenizers.objects import ends_by_decoding
    >>> names = {0: "the", 1: "Cat", 2: "s"}
    >>> ends_by_decoding("the cats", [0, 1, 2], lambda ids: "".join(names[n] for n in ids))
    [3, 7, 8]
    """
    lowered = text.lower() if len(text.lower()) == len(text) else text
    decoded = lru_cache(1 << 12)(lambda ids: decode(ids))
    ends: list[int] = []
    place = first = 0
    for n in range(len(ids)):
        if n - first >= MAX_TOGETHER:
            return None
        before = tuple(ids[max(0, first - 1) : first])
        context = decoded(before) if before else ""
        whole = decoded((*before, *ids[first : n + 1]))
        spelled = whole[len(context) :] if whole.startswith(context) else decoded(tuple(ids[first : n + 1]))
        spelled = spelled.lower() if lowered is not text or spelled.lower() in lowered else spelled
        begin = place
        if spelled.strip():  # white space before it may be written in another way, or be missing
            spelled = spelled.lstrip()
            while begin < len(text) and text[begin].isspace():
                begin += 1
        if not spelled or not lowered.startswith(spelled, begin):
            continue
        ends += [place] * (n - first) + [begin + len(spelled)]
        place, first = ends[-1], n + 1
    return ends if first == len(ids) and not text[place:].strip() else None
