"""The ids that mean something other than text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from ..checks import WHOLE, check_int, check_tensor, check_type
from ..errors import InputError

MAX_IDS = 2**24
"""Of a vocabulary, so that tables of its ids stay small: sixty times the largest vocabulary in use."""


class _Table:
    """A field of `SpecialIds` that may be given as a function, which is called when the field is first read."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, special: SpecialIds, given: Tensor | Callable[[], Tensor | None] | None) -> None:
        vars(special)[self.name] = None if given is self else given  # itself: the field's default

    def __get__(self, special: SpecialIds | None, owner: type) -> Tensor | None:
        if special is None:
            return None
        table = vars(special)[self.name]
        if callable(table):
            table = vars(special)[self.name] = table()
        if table is not None and not (isinstance(table, Tensor) and table.shape == (special.vocab_size,)):
            raise InputError(
                f"expected {self.name} as a tensor ({special.vocab_size},) of bools, got {type(table).__name__}"
            )
        return table


@dataclass(frozen=True)
class SpecialIds:
    """Every id that is not text, as plain integers, so that the core never needs a tokenizer object.

    `Tokenizer.special` makes one; with a tokenizer of your own, fill it in by hand:

    >>> import torch
    >>> from clozelab import SpecialIds
    >>> special = SpecialIds(vocab_size=32, pad=0, eos=1, mask=2, sentinels=(31, 30, 29), others=(3,))
    >>> special.replacements
    tensor([ 4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
            22, 23, 24, 25, 26, 27, 28])
    >>> special.is_special(torch.tensor([5, 1, 31]))
    tensor([False,  True,  True])
    >>> special["mask"], special["decoder_start"]
    (2, 0)

    Raises `InputError` when an id lies outside the vocabulary or has two meanings, and for a role without an id.
    """

    vocab_size: int
    """Ids are 0 .. vocab_size - 1."""
    pad: int
    """Fills short rows. No query attends to it, and it is never predicted."""
    eos: int
    """End of text: stands between documents, closes T5's inputs and targets."""
    mask: int | None = None
    """Stands in place of a hidden token in masked LM."""
    sentinels: Sequence[int] = ()
    """`sentinels[k]` stands in place of the k-th hidden span, in this order, whatever the direction of the ids."""
    others: Sequence[int] = ()
    """Further ids that are never text (unknown, beginning of text, ...)."""
    roles: Mapping[str, int] = field(default_factory=dict)
    """Further ids by name, which an objective asks for: `decoder_start`, which is pad where it is not given (T5: pad,
    BART: eos, others: bos), `fim_prefix`, ..."""
    starts_word: _Table = field(default=_Table(), compare=False, repr=False)
    """(V,) bool: whether a token begins a word; None where it is not known. May be given as a function that returns
    it, and is called when the table is first read."""
    ends_sentence: _Table = field(default=_Table(), compare=False, repr=False)
    """(V,) bool: whether a token ends a sentence; None where it is not known. May be a function as well."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "pad", "eos", "mask"):
            if not (name == "mask" and self.mask is None):
                object.__setattr__(self, name, check_int(getattr(self, name), name))
        for name in ("sentinels", "others"):
            ids = getattr(self, name)
            if isinstance(ids, str) or not isinstance(ids, Iterable):
                raise InputError(f"{name} must be a list of ids, got {type(ids).__name__}")
            object.__setattr__(self, name, tuple(check_int(one, f"each of {name}") for one in ids))
        roles = check_type(self.roles, Mapping, "roles", "names with their ids")
        object.__setattr__(
            self, "roles", {str(name): check_int(one, f"the role {name}") for name, one in roles.items()}
        )
        if not 1 <= self.vocab_size <= MAX_IDS:
            raise InputError(f"vocab_size must lie in 1 .. {MAX_IDS:,}, got {self.vocab_size}")
        for one in self.all:
            if not 0 <= one < self.vocab_size:
                raise InputError(
                    f"special id {one} is outside the vocabulary of {self.vocab_size} ids "
                    f"(0 to {self.vocab_size - 1}): was the vocabulary grown after vocab_size was read?"
                )
        for name in ("starts_word", "ends_sentence"):
            if not callable(vars(self)[name]):
                getattr(self, name)  # checks its shape
        # pad = eos is common in the wild; it is allowed, because padding here is known by position, never by id. What a
        # text or a decoder begins with may be any id.
        own = [one for name, one in self.roles.items() if name not in ("decoder_start", "bos")]
        meanings = [*{self.pad, self.eos}, *([] if self.mask is None else [self.mask]), *self.sentinels, *own]
        if len(set(meanings)) < len(meanings):
            raise InputError(
                f"pad {self.pad} or eos {self.eos}, mask {self.mask}, the {len(self.sentinels)} sentinels and the "
                f"roles {dict(self.roles)} must all be different ids, but "
                f"{sorted({i for i in meanings if meanings.count(i) > 1})} have two meanings"
            )

    def __getitem__(self, role: str) -> int:
        """The id of a role; raises `InputError` where the vocabulary has none."""
        if role in self.roles:
            return self.roles[role]
        found = {"pad": self.pad, "eos": self.eos, "mask": self.mask, "decoder_start": self.pad}.get(role)
        if found is None:
            raise InputError(
                f"this vocabulary has no id for the role {role!r}: "
                + (
                    "add a mask token to the tokenizer (load_tokenizer does) and set it"
                    if role == "mask"
                    else f"reserve one as the tokenizer is trained (roles=[{role!r}]), or set SpecialIds.roles"
                )
            )
        return found

    @property
    def named(self) -> dict[str, int]:
        """Every role that has one id: pad, eos, mask where there is one, and `roles`."""
        mask = {} if self.mask is None else {"mask": self.mask}
        return {"pad": self.pad, "eos": self.eos, **mask, **self.roles}

    @cached_property
    def all(self) -> tuple[int, ...]:
        """All special ids, ascending, each once."""
        mask = () if self.mask is None else (self.mask,)
        return tuple(sorted({self.pad, self.eos, *mask, *self.sentinels, *self.others, *self.roles.values()}))

    @cached_property
    def replacements(self) -> Tensor:
        """The ids (N,) that a random replacement may use: the whole vocabulary without the special ids."""
        return (~self._is_special).nonzero().flatten()

    def is_special(self, tokens: Tensor) -> Tensor:
        """True where a token is a special id; any shape in, the same shape out."""
        ids = check_tensor(tokens, "tokens", "(...)", WHOLE).flatten().long()
        try:
            return self._is_special.to(tokens.device).index_select(0, ids).view(tokens.shape)
        except IndexError as error:
            raise InputError(f"token ids must lie in 0 .. {self.vocab_size - 1}, and some do not") from error

    @cached_property
    def _is_special(self) -> Tensor:
        table = torch.zeros(self.vocab_size, dtype=torch.bool)
        table[list(self.all)] = True
        return table
