"""Tokenizers of other libraries: the interface of `Tokenizer` around whatever encodes and decodes."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import count, pairwise, takewhile
from typing import Any

from torch import Tensor

from ...errors import InputError
from ...escape import shown
from ..corpora.documents import checked_text
from ..special_ids import SpecialIds
from .roles import id_by_name, looks_special, stated_ids
from .tables import Layout, layout_tables
from .tokenizer import Tokenizer, bytes_between
from .vocabulary import KNOWN_NAMES, MAX_VOCAB_SIZE, check_roles, role_token, sentinel_token


class Adapter(ABC):
    """What `AdaptedTokenizer` asks of a tokenizer of another library."""

    own: Mapping[str, int]
    """The vocabulary of that library: tokens and their ids."""
    own_special: frozenset[int]
    """Ids among them that are never text."""
    unknown: int | None = None
    """The id of what the vocabulary cannot write."""
    layout: Layout | None = None
    """How the vocabulary writes where words begin, None where it is not known."""
    added: Mapping[str, int]
    """Special tokens that the library does not know."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of a text, without special tokens around it."""

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids of the library."""

    @abstractmethod
    def ends(self, text: str, ids: Sequence[int]) -> list[int] | None:
        """Where in the text each of its tokens ends, in characters; None where that is not known."""

    @abstractmethod
    def described(self) -> dict[str, Any]:
        """What a file holds of the tokenizer, and its fingerprint is made of."""

    @property
    def vocabulary(self) -> dict[str, int]:
        """All tokens and their ids."""
        return {**self.own, **self.added}

    @property
    def special(self) -> frozenset[int]:
        """All ids that are never text."""
        return self.own_special | {*self.added.values()}


class AdaptedTokenizer(Tokenizer):
    """A tokenizer of another library, with its special ids; `load_tokenizer` makes one.

    What holds: no text becomes a special id, except the unknown token. Where the library finds the name of a special
    token in a text, the text is cut within that name and its parts are encoded by themselves; where that does not help,
    the text is refused. Special ids decode to their names.

    What is left to the library: whether text is decoded exactly, whether the same text always has the same ids, and how
    fast it is; texts are encoded one after another, and long ones are not cut. Words are known for SentencePiece alone.
    Bytes of tokens are counted where SentencePiece tells the places of its tokens, or where decoding spells the text;
    otherwise bits per byte are not defined. A run folder cannot hold an object of Python: `load_run` asks for it.

    >>> from clozelab.data import load_tokenizer
    >>> class Letters:
    ...     def encode(self, text): return [ord(letter) - 97 for letter in text]
    ...     def decode(self, ids): return "".join(chr(97 + n) for n in ids)
    ...     def get_vocab(self): return {chr(97 + n): n for n in range(26)}
    >>> tokenizer = load_tokenizer(Letters(), sentinels=1)
    >>> tokenizer.encode("cab"), tokenizer.special.named, tokenizer.decode([2, 27, 0])
    ([2, 0, 1], {'pad': 26, 'eos': 27, 'mask': 28}, 'c</s>a')
    """

    def __init__(self, adapter: Adapter, special: SpecialIds, notes: Iterable[str] = ()) -> None:
        self.adapter = adapter
        self.special = special
        self.notes = tuple(notes)
        self.unknown = adapter.unknown

    def __reduce__(self) -> tuple[Any, ...]:
        return AdaptedTokenizer, (self.adapter, self.special, self.notes)

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """All tokens and their ids."""
        return self.adapter.vocabulary

    def token(self, number: int) -> str | None:
        """An id's token as the vocabulary writes it; None where the id stands for no token."""
        return self._names.get(number)

    @cached_property
    def added(self) -> frozenset[int]:
        """Ids of tokens that were added to the vocabulary, and are written as they are."""
        return frozenset(self.adapter.added.values())

    @cached_property
    def layout(self) -> Layout | None:
        """How the vocabulary writes where words begin, None where it is not known."""
        return self.adapter.layout

    @cached_property
    def _names(self) -> dict[int, str]:
        return {n: name for name, n in self.vocabulary.items()}

    @cached_property
    def _not_text(self) -> frozenset[int]:
        return frozenset(self.special.all) - {self.unknown}

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens; raises `InputError` for what is no Unicode text."""
        return [n for _, ids in self._parts(text) for n in ids]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of many texts, one after another."""
        if isinstance(texts, str) or not isinstance(texts, Iterable):
            raise InputError(f"expected several texts, got one {type(texts).__name__}: put it in a list")
        return [self.encode(text) for text in texts]

    def _parts(self, text: str) -> list[tuple[str, list[int]]]:
        """The text in the parts that are encoded by themselves, with their ids: nearly always one."""
        text = checked_text(text)
        ids = self._encode_part(text)
        found = self._not_text & {*ids}
        if not found:
            return [(text, ids)]
        names = "|".join(re.escape(self._names[n]) for n in self._not_text if len(self._names.get(n, "")) > 1)
        inside = [place.start() + 1 for place in re.finditer(f"(?i:{names})", text)] if names else []
        parts = [text[start:end] for start, end in pairwise([0, *inside, len(text)])]
        encoded = [(part, self._encode_part(part)) for part in parts]
        if any(self._not_text & {*ids} for _, ids in encoded):
            role = {n: role for role, n in self.special.named.items()}
            told = ", ".join(f"{n} ({role.get(n) or self._names.get(n)})" for n in sorted(found)[:3])
            raise InputError(
                f"the tokenizer encodes text to the special ids {told}, which no text may become: {shown(text)}"
            )
        return encoded

    def _encode_part(self, text: str) -> list[int]:
        ids = self.adapter.encode(text)
        if any(not 0 <= n < self.vocab_size for n in ids):
            raise InputError(f"the tokenizer gave an id outside of its {self.vocab_size} ids for {shown(text)}")
        return ids

    def cut(self, text: str) -> Iterator[str]:
        """The text as it is: nothing is known about where it may be cut."""
        yield checked_text(text)

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """The text of ids; special ids appear by their names, or are left out with `skip_special`."""
        parts: list[str] = []
        run: list[int] = []
        special = self.adapter.special | self._not_text
        try:
            for n in [*map(int, ids), -1]:
                if n in self._names and n not in special:
                    run.append(n)
                    continue
                parts.append(self.adapter.decode(run) if run else "")
                parts.append("" if skip_special else self._names.get(n, ""))
                run = []
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(f"expected token ids, whole numbers from 0, got {shown(ids)}") from error
        return "".join(parts)

    def word_ids(self, text: str) -> list[int]:
        """The word of each token of `encode(text)`; raises `InputError` where it is not known where words begin."""
        starts = self.special.starts_word
        if starts is None:
            raise InputError(f"{type(self.adapter).__name__} does not tell where words begin")
        words, word = [], -1
        for n in self.encode(text):
            word += bool(starts[n]) or word < 0
            words.append(word)
        return words

    @cached_property
    def byte_lengths(self) -> Tensor | None:
        """None: an id alone does not tell its bytes."""
        return None

    def byte_counts(self, text: str) -> list[int] | None:
        """The UTF-8 bytes of text that each token of `encode(text)` stands for; None where they are not known."""
        ends: list[int] = []
        begin = 0
        for part, ids in self._parts(text):
            own = self.adapter.ends(part, ids) if ids else []
            if own is None:
                return None
            ends += [begin + end for end in own]
            begin += len(part)
        return bytes_between(text, ends)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything that is known to decide which tokens a text becomes, and which ids are special."""
        return hashlib.blake2b(f"{self.to_json().decode()} {self.special}".encode(), digest_size=16).hexdigest()

    def to_json(self) -> bytes:
        """What a file holds of the tokenizer; one of an object of Python says what it was."""
        return json.dumps(self.adapter.described() | {"added": dict(self.adapter.added)}).encode()


def adapt(
    adapter: Adapter,
    declared: Mapping[str, int | None],
    notes: list[str],
    sentinels: int,
    roles: Iterable[str] | Mapping[str, str | int | None],
) -> AdaptedTokenizer:
    """The tokenizer of an adapter, with ids for what it lacks: see `load_tokenizer`."""
    vocabulary = adapter.vocabulary
    _check_ids(vocabulary)
    stated = stated_ids(vocabulary, roles) if isinstance(roles, Mapping) else {}
    chosen = {role: n for role, n in declared.items() if n is not None} | stated
    already = adapter.special
    known = {name: n for name, n in vocabulary.items() if n in already}
    added, numbers = dict(adapter.added), count(max(vocabulary.values()) + 1)

    def add(name: str) -> int:
        while name in vocabulary:  # a text of that name is in the vocabulary
            name += "_"
        added[name] = vocabulary[name] = next(numbers)
        return vocabulary[name]

    ids: dict[str, int] = {}
    for role in KNOWN_NAMES:
        found = id_by_name(role, vocabulary, known) if role not in chosen else None
        if found is not None:
            notes.append(f"{role}: {found[0]} = {found[1]}, by its name")
        ids[role] = chosen[role] if role in chosen else found[1] if found else add(KNOWN_NAMES[role][0])
        if role not in chosen and found is None:
            notes.append(f"{role}: {KNOWN_NAMES[role][0]} = {ids[role]}, added")
    named = {role: chosen[role] for role in chosen if role not in (*KNOWN_NAMES, "unk")}
    for role in check_roles(roles):
        if role not in chosen and role != "unk":
            name = role_token(role)
            named[role] = vocabulary[name] if name in vocabulary else add(name)
    existing = [vocabulary[name] for name in takewhile(vocabulary.__contains__, map(sentinel_token, count()))]
    new = {k: add(sentinel_token(k)) for k in reversed(range(len(existing), sentinels))}
    made = copy.copy(adapter)
    made.added = added
    made.unknown = chosen.get("unk", adapter.unknown)
    if named.get("decoder_start") == ids["pad"]:
        del named["decoder_start"]
    special = _special_ids(made, ids, named, [*existing, *(new[k] for k in sorted(new))])
    notes += looks_special(vocabulary, special)
    return AdaptedTokenizer(made, special, notes)


def _special_ids(
    adapter: Adapter, ids: Mapping[str, int], roles: Mapping[str, int], sentinels: Sequence[int]
) -> SpecialIds:
    vocabulary = adapter.vocabulary
    size = max(vocabulary.values()) + 1
    meant = {*ids.values(), *roles.values(), *sentinels}
    unknown = {adapter.unknown} if adapter.unknown is not None else set()
    gaps = set(range(size)) - {*vocabulary.values()}
    others = (adapter.special | unknown | gaps) - meant
    tables = layout_tables(vocabulary, adapter.layout, size, meant | others)
    return SpecialIds(size, ids["pad"], ids["eos"], ids["mask"], sentinels, sorted(others), roles, **tables)


def _check_ids(vocabulary: Mapping[str, int]) -> None:
    ids = list(vocabulary.values())
    if not ids or min(ids) < 0 or max(ids) >= MAX_VOCAB_SIZE or len(set(ids)) < len(ids):
        raise InputError(f"expected a vocabulary of 1 to {MAX_VOCAB_SIZE:,} ids from 0, each for one token")
