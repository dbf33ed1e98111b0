"""Corpora of token ids have no tokenizer: their ids, written as numbers, stand where text does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...checks import check_int, check_type
from ...errors import InputError
from ...escape import shorten, shown
from ..corpora.documents import IDS_AT_ONCE, BadRow, Document
from ..corpora.ids import IdRows
from ..special_ids import SpecialIds
from .tokenizer import Tokenizer
from .vocabulary import MAX_VOCAB_SIZE

KEY = "token_ids"
"""Begins the file of an `IdTokenizer`."""


class IdTokenizer(Tokenizer):
    """The special ids of a corpus of token ids, in the place of a tokenizer: `pack`, `train` and prompts take it.

    Documents are arrays (N,) of ids, which are checked and else left as they are. In prompts and samples ids are
    written as numbers, special ones too. There is no text, so bits per byte are not defined.

    >>> from clozelab import SpecialIds
    >>> from clozelab.data import IdTokenizer, pack
    >>> tokenizer = IdTokenizer(SpecialIds(vocab_size=8, pad=6, eos=7))
    >>> tokenizer.encode("3 1 4"), tokenizer.decode([3, 1, 7])
    ([3, 1, 4], '3 1 7 ')
    >>> pack([[3, 1, 4], [1, 5]], tokenizer).tokens.tolist()
    [3, 1, 4, 7, 1, 5, 7]

    Raises `InputError` for a vocabulary of more than two million ids; `encode` for ids that stand in no document.
    """

    def __init__(self, special: SpecialIds, notes: Iterable[str] = ()) -> None:
        check_type(special, SpecialIds, "special ids")
        if special.vocab_size > MAX_VOCAB_SIZE:
            raise InputError(f"expected a vocabulary of at most {MAX_VOCAB_SIZE:,} ids, got {special.vocab_size:,}")
        self.special = special
        self.notes = tuple(notes)
        self.unknown = None
        self.ids = IdRows(special)

    def __reduce__(self) -> tuple[Any, ...]:
        return IdTokenizer, (self.special, self.notes)

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """The numbers, as they are written."""
        return {str(n): n for n in range(self.vocab_size)}

    def token(self, number: int) -> str | None:
        """An id as it is written; None outside of the vocabulary."""
        return str(number) if 0 <= number < self.vocab_size else None

    @cached_property
    def added(self) -> frozenset[int]:
        """None: no token was added."""
        return frozenset()

    @cached_property
    def layout(self) -> None:
        """None: ids have no words."""
        return None

    def encode(self, text: Any) -> list[int]:
        """The ids of a document, or of numbers with spaces between them."""
        ids = self._numbers(text) if isinstance(text, str) else text
        row = self.ids(ids, "the document")
        if not isinstance(row, np.ndarray):
            raise InputError(f"expected token ids: {row.reason if isinstance(row, BadRow) else 'got none'}")
        return (np.asarray(ids) if isinstance(text, str) else row).tolist()

    def _numbers(self, text: str) -> list[int]:
        words = text.split()
        wrong = next((word for word in words if not (word.isascii() and word.isdecimal() and len(word) < 19)), None)
        if wrong is not None:
            raise InputError(f"expected token ids as numbers with spaces between them, got {shown(wrong, 40)}")
        return [int(word) for word in words]

    def encode_batch(self, texts: Sequence[Any]) -> list[list[int]]:
        """The ids of several documents."""
        return [self.encode(text) for text in texts]

    def cut(self, text: Any) -> Iterator[Any]:
        """A long document in pieces."""
        document: Document = text if isinstance(text, (str, np.ndarray)) else np.asarray(text)
        if isinstance(document, str) or not len(document):
            yield document
            return
        for start in range(0, len(document), IDS_AT_ONCE):
            yield document[start : start + IDS_AT_ONCE]

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Numbers, each with a space behind it; `skip_special` leaves special ids out."""
        left_out = set(self.special.all) if skip_special else ()
        try:
            return "".join(f"{int(n)} " for n in ids if n not in left_out)
        except (TypeError, ValueError) as error:
            raise InputError(f"expected token ids, whole numbers from 0, got {shown(ids)}") from error

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Each id as it is written."""
        return [str(int(n)) for n in ids]

    def word_ids(self, text: Any) -> list[int]:
        """Raises `InputError`: ids have no words."""
        raise InputError("token ids have no words")

    @cached_property
    def byte_lengths(self) -> Tensor | None:
        """None: ids stand for no text."""
        return None

    def byte_counts(self, text: Any) -> None:
        """None: ids stand for no text."""
        return None

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the special ids."""
        return hashlib.blake2b(self.to_json(), digest_size=16).hexdigest()

    def to_json(self) -> bytes:
        """The special ids, as `load_tokenizer` reads them."""
        special = self.special
        described = {
            "vocab_size": special.vocab_size,
            "pad": special.pad,
            "eos": special.eos,
            "mask": special.mask,
            "sentinels": list(special.sentinels),
            "others": list(special.others),
            "roles": dict(special.roles),
        }
        return json.dumps({KEY: described}).encode()


def special_ids_from(described: Any, path: Path) -> SpecialIds:
    """The special ids that the file of an `IdTokenizer` holds; raises `InputError` for a damaged one."""
    try:
        return SpecialIds(**described)
    except (TypeError, InputError) as error:
        raise InputError(f"{path} is damaged: it describes no special ids ({shorten(error, 200)})") from error


def is_of_ids(path: Path) -> bool:
    """Whether a file is that of an `IdTokenizer`."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(KEY) + 3) == f'{{"{KEY}"'.encode()


def special_ids_behind(count: int, roles: Mapping[str, Any], sentinels: int) -> tuple[SpecialIds, list[str]]:
    """(special ids of a corpus that may hold ids 0 to `count` - 1, a line about those that were added behind them).

    `roles` states ids among the first `count`; of pad, eos, mask and its own keys, those that are None are added.

    >>> from clozelab.data.tokenizers.ids import special_ids_behind
    >>> special, notes = special_ids_behind(128, {"eos": 0, "mask": None}, sentinels=2)
    >>> special.named, special.sentinels, special.vocab_size
    ({'pad': 128, 'eos': 0, 'mask': 129}, (131, 130), 132)
    >>> notes
    ['pad 128, mask 129, sentinels 130 to 131, added behind the 128 ids of the corpus']

    Raises `InputError` for a stated id that is none of the first `count`, and what `SpecialIds` raises.
    """
    ids: dict[str, int] = {}
    added: list[str] = []
    size = check_int(count, "the number of ids", 1)
    for role in dict.fromkeys(("pad", "eos", "mask", *roles)):
        stated = roles.get(role)
        if stated is None:
            ids[role], size = size, size + 1
            added.append(f"{role} {ids[role]}")
        elif not isinstance(stated, int) or not 0 <= stated < count:
            raise InputError(f"{role}: expected an id of the corpus, 0 to {count - 1:,}, got {shown(stated, 40)}")
        else:
            ids[role] = stated
    behind = range(size + sentinels - 1, size - 1, -1)  # as T5 has them
    added += [f"sentinels {size} to {size + sentinels - 1}"] if sentinels else []
    others = sorted(
        {ids.pop(role) for role in ("unk", "bos") if role in ids} - {ids[r] for r in ("pad", "eos", "mask")}
    )
    pad, eos, mask = (ids.pop(role) for role in ("pad", "eos", "mask"))
    special = SpecialIds(size + sentinels, pad, eos, mask, behind, others, ids)
    return special, [f"{', '.join(added)}, added behind the {count:,} ids of the corpus"] if added else []
