"""The wrapper around a `tokenizers.Tokenizer`: text to ids and back, with the special ids as plain integers."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
from torch import Tensor

from ...checks import check_type
from ...errors import InputError
from ...escape import shown
from ..corpora.cache import written_whole
from ..corpora.documents import checked_text
from ..special_ids import SpecialIds
from .cutting import cut_text, panic_as_error
from .tables import Layout, find_layout
from .text_encoder import text_encoder
from .unknown import can_drop_text, unknown_id
from .vocabulary import role_token, unused_ids


class Tokenizer:
    """A `tokenizers.Tokenizer` with its special ids; `train_bpe`, `train_characters` and `load_tokenizer` make one.

    No text is encoded to a special id, except that of an unknown token for what the vocabulary cannot write: the
    characters `<pad>` in a corpus become ordinary tokens. Ordinary tokens of the backend that `SpecialIds.others` names
    by hand remain what text is written in. With byte-level BPE any Unicode text is decoded exactly.

    >>> from clozelab.data import train_bpe
    >>> tokenizer = train_bpe(["the cat sat on the mat"] * 3, vocab_size=400, sentinels=4)
    >>> tokenizer.decode(tokenizer.encode("the <mask> \\N{CAT FACE}"))
    'the <mask> 🐱'
    >>> tokenizer.pieces(tokenizer.encode("the cat sat"))
    ['the', ' cat', ' sat']
    >>> tokenizer.special.pad, tokenizer.special.eos, tokenizer.special.mask, len(tokenizer.special.sentinels)
    (0, 1, 2, 4)

    Raises `InputError` for a backend of another library, and for special ids of a smaller vocabulary.
    """

    def __init__(self, backend: tokenizers.Tokenizer, special: SpecialIds, notes: Iterable[str] = ()) -> None:
        check_type(backend, tokenizers.Tokenizer, "the backend", "load_tokenizer takes other kinds")
        check_type(special, SpecialIds, "special ids")
        if special.vocab_size < backend.get_vocab_size():
            raise InputError(
                f"the special ids are of a vocabulary of {special.vocab_size} ids, but the tokenizer has "
                f"{backend.get_vocab_size()}: do they belong together?"
            )
        backend.encode_special_tokens = True  # the names of special tokens are ordinary text
        backend.no_padding()
        backend.no_truncation()
        if getattr(backend.model, "dropout", None):
            backend.model.dropout = None  # it would encode the same text differently each time
        self.backend = backend
        self.special = special
        self.notes = tuple(notes)
        """What was guessed or added as the tokenizer was loaded, a line each."""
        self.unknown = unknown_id(backend)
        """The id of what the vocabulary cannot write, None where there is none."""

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickled backend forgets that the names of special tokens are text; it is told again where it is built.
        return Tokenizer, (self.backend, self.special, self.notes)

    @property
    def vocab_size(self) -> int:
        """Ids are 0 .. vocab_size - 1."""
        return self.special.vocab_size

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """All tokens and their ids."""
        return self.backend.get_vocab(with_added_tokens=True)

    def token(self, number: int) -> str | None:
        """An id's token as the vocabulary writes it; None where the id stands for no token."""
        return self.backend.id_to_token(number) if 0 <= number < self.vocab_size else None

    @cached_property
    def added(self) -> frozenset[int]:
        """Ids of tokens that were added to the vocabulary, and are written as they are."""
        return frozenset(self.backend.get_added_tokens_decoder())

    @cached_property
    def layout(self) -> Layout | None:
        """How the vocabulary writes where words begin: see `find_layout`."""
        return find_layout(self.backend, self.vocabulary)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens; raises `InputError` for what is no Unicode text."""
        return self._encode(text).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of many texts, encoded in parallel."""
        if isinstance(texts, str) or not isinstance(texts, Iterable):
            raise InputError(f"expected several texts, got one {type(texts).__name__}: put it in a list")
        checked = [checked_text(text) for text in texts]
        with panic_as_error():
            encodings = self._encoder.encode_batch_fast(checked, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    @cached_property
    def _encoder(self) -> tokenizers.Tokenizer:
        """The backend, or a copy of it that finds no special id in a text."""
        # Further ids that somebody declared, and the backend has as ordinary tokens, are parts of its other tokens.
        special, own = self.special, self.added | unused_ids(self.vocabulary) | {self.unknown}
        parts = set(special.others) - own
        return text_encoder(self.backend, set(special.all) - parts)

    def _encode(self, text: str) -> tokenizers.Encoding:
        with panic_as_error():
            return self._encoder.encode(checked_text(text), add_special_tokens=False)

    def cut(self, text: str) -> Iterator[str]:
        """A long text in pieces whose tokens, one after another, are those of the whole; a short one as it is.

        Raises `InputError` for a text that cannot be cut and is too long to be encoded whole.
        """
        return cut_text(checked_text(text), self._encoder)

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """The text of ids; special ids appear by their names, or are left out with `skip_special`."""
        try:
            return self.backend.decode(list(ids), skip_special_tokens=skip_special)
        except (TypeError, OverflowError) as error:
            raise InputError(f"expected token ids, whole numbers from 0, got {shown(ids)}") from error

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The text of each token by itself; part of a character shows as U+FFFD."""
        return [self.decode([token]) for token in ids]

    def word_ids(self, text: str) -> list[int]:
        """The word of each token of `encode(text)`, as the tokenizer itself split the text; -1 for none."""
        words = self._encode(text).word_ids
        return [-1 if word is None else word for word in words]

    @cached_property
    def byte_lengths(self) -> Tensor | None:
        """(V,) int64: the number of UTF-8 bytes that each id stands for wherever it stands, 0 for special ids.

        They add up to the bytes of any text. None where an id alone does not tell them: for every vocabulary that is
        not one of bytes, and where a normaliser changes the text first.
        """
        backend = self.backend
        added = backend.get_added_tokens_decoder()
        adds_space = '"add_prefix_space":true' in json.dumps(
            json.loads(backend.pre_tokenizer.__getstate__()) if backend.pre_tokenizer is not None else {},
            separators=(",", ":"),
        )
        if (
            self.layout != "bytes"
            or backend.normalizer is not None
            or adds_space
            or self.unknown is not None
            or can_drop_text(backend)
            or any(token.lstrip or token.rstrip for token in added.values() if not token.special)
        ):
            return None
        lengths = torch.zeros(self.vocab_size, dtype=torch.int64)
        special = set(self.special.all)
        for token, number in self.vocabulary.items():
            if number not in special:
                # A vocabulary of bytes writes each byte as one character; a token that was added is written as it is.
                lengths[number] = len(token.encode()) if number in added else len(token)
        return lengths

    def byte_counts(self, text: str) -> list[int] | None:
        """The UTF-8 bytes of text that each token of `encode(text)` stands for: those up to its end.

        Text behind the last token counts to it, so that they add up to the bytes of the text if there is a token. None
        where a tokenizer of another library does not tell where its tokens end.

        >>> from clozelab.data import train_characters
        >>> train_characters(["été"], sentinels=0).byte_counts("été!")
        [2, 1, 2, 1]
        """
        return bytes_between(text, [end for _, end in self._encode(text).offsets])

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything that decides which tokens a text becomes, and which ids are special."""
        special = self.special
        meant = {special.pad, special.eos, special.mask, *special.sentinels}
        others = tuple(token for token in special.all if token not in meant)
        content = self.backend.to_str(pretty=False) + (
            f"SpecialIds(vocab_size={special.vocab_size}, pad={special.pad}, eos={special.eos}, mask={special.mask}, "
            f"sentinels={special.sentinels}, others={others})"
        )
        # The backend holds the names of the other roles, except where somebody chose their ids by hand.
        chosen = {role: n for role, n in special.roles.items() if self.backend.token_to_id(role_token(role)) != n}
        content += f" roles={sorted(chosen.items())}" if chosen else ""
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def to_json(self) -> bytes:
        """The content of the tokenizer.json that `save` writes."""
        return self.backend.to_str(pretty=False).encode()

    def save(self, path: str | Path) -> None:
        """Write a tokenizer.json, which `load_tokenizer` and Hugging Face's libraries read."""
        with written_whole(Path(path)) as file:
            file.write(self.to_json())


def bytes_between(text: str, ends: Sequence[int]) -> list[int]:
    """The UTF-8 bytes of a text from each end of a token, in characters, to the next; the last has all that remain.

    >>> from clozelab.data.tokenizers.tokenizer import bytes_between
    >>> bytes_between("été!", [1, 2, 3])
    [2, 1, 3]
    """
    if not len(ends):
        return []
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
    sizes = 1 + (codes >= 0x80).astype(np.int64) + (codes >= 0x800) + (codes >= 0x10000)
    places = np.maximum.accumulate(np.array(ends, np.int64))
    places[-1] = len(text)
    return np.diff(np.concatenate([[0], np.cumsum(sizes)])[places], prepend=0).tolist()


@contextmanager
def tokenizing_in_one_thread() -> Iterator[None]:
    """Have processes that are started in this context tokenise in one thread.

    A forked process has none of the threads of `tokenizers`, and would wait for them for ever.
    """
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before
