"""The ids that mean something other than text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..checks import whole_number
from ..errors import InputError


@dataclass(frozen=True)
class SpecialIds:
    """Every id that is not text, as plain integers, so that the core never needs a tokenizer object.

    `Tokenizer.special` makes one; with a tokenizer of your own, fill it in by hand:

    >>> special = SpecialIds(vocab_size=32, pad=0, eos=1, mask=2, sentinels=(31, 30, 29), others=(3,))
    >>> special.replacements
    tensor([ 4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
            22, 23, 24, 25, 26, 27, 28])
    >>> special.is_special(torch.tensor([5, 1, 31]))
    tensor([False,  True,  True])

    Raises `InputError` when an id lies outside the vocabulary or has two meanings.
    """

    vocab_size: int
    """Ids are 0 .. vocab_size - 1."""
    pad: int
    """Fills short rows; also T5's decoder start token. Never read, never predicted."""
    eos: int
    """End of text: stands between documents, closes T5's inputs and targets."""
    mask: int | None = None
    """Stands in place of a hidden token in masked LM."""
    sentinels: Sequence[int] = ()
    """`sentinels[k]` stands in place of the k-th hidden span, in this order, whatever the direction of the ids."""
    others: Sequence[int] = ()
    """Further ids that are never text (unknown, beginning of text, ...)."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "pad", "eos", "mask"):
            if not (name == "mask" and self.mask is None):
                object.__setattr__(self, name, whole_number(getattr(self, name), name))
        for name in ("sentinels", "others"):
            ids = getattr(self, name)
            if isinstance(ids, str) or not isinstance(ids, Iterable):
                raise InputError(f"{name} must be a list of ids, got {type(ids).__name__}")
            object.__setattr__(self, name, tuple(whole_number(id, f"each of {name}") for id in ids))
        if not 1 <= self.vocab_size <= 2**31:
            raise InputError(f"vocab_size must lie in 1 .. 2^31, got {self.vocab_size}")
        for id in self.all:
            if not 0 <= id < self.vocab_size:
                raise InputError(
                    f"special id {id} is outside the vocabulary of {self.vocab_size} ids "
                    f"(0 to {self.vocab_size - 1}): was the vocabulary grown after vocab_size was read?"
                )
        # pad = eos is common in the wild; it is allowed, because padding here is known by position, never by id.
        meanings = [*{self.pad, self.eos}, *([] if self.mask is None else [self.mask]), *self.sentinels]
        if len(set(meanings)) < len(meanings):
            raise InputError(
                f"pad {self.pad} or eos {self.eos}, mask {self.mask} and the {len(self.sentinels)} sentinels must all "
                f"be different ids, but {sorted({i for i in meanings if meanings.count(i) > 1})} have two meanings"
            )

    @cached_property
    def all(self) -> tuple[int, ...]:
        """All special ids, ascending, each once."""
        mask = () if self.mask is None else (self.mask,)
        return tuple(sorted({self.pad, self.eos, *mask, *self.sentinels, *self.others}))

    @cached_property
    def replacements(self) -> Tensor:
        """The ids (N,) that a random replacement may use: the whole vocabulary without the special ids."""
        return (~self._is_special).nonzero().flatten()

    def is_special(self, tokens: Tensor) -> Tensor:
        """True where a token is a special id; any shape in, the same shape out."""
        return self._is_special.to(tokens.device).index_select(0, tokens.flatten()).view(tokens.shape)

    @cached_property
    def _is_special(self) -> Tensor:
        table = torch.zeros(self.vocab_size, dtype=torch.bool)
        table[list(self.all)] = True
        return table
