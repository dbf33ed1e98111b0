"""Blocks of packed text: a dataset of examples of one length, cut from the token streams one after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..checks import check_int
from ..errors import InputError
from ..escape import shown

if TYPE_CHECKING:
    from .corpora.shards import PackedShards
    from .mixture import Mixture
    from .packing import Packed


class Blocks(torch.utils.data.Dataset):
    """The whole blocks of each part of a packed text: `blocks.take(ids)` gives (B, length), `blocks[i]` one example.

    As a dataset, each example has its `example_id`, from which the collator seeds its noise, and the `epoch` last given
    to `set_epoch`, which `accelerate` calls, and so does the Hugging Face Trainer.

    >>> from clozelab.data import pack, train_bpe
    >>> tokenizer = train_bpe(["abc"] * 2, vocab_size=400)
    >>> blocks = pack(["abc", "abcabc"], tokenizer).blocks(2)
    >>> len(blocks), blocks.remainder
    (2, 1)

    Raises `InputError` for what is not packed, a length below 1, and a text that does not fill one block.
    """

    def __init__(self, packed: Packed | PackedShards | Mixture, length: int) -> None:
        if not hasattr(packed, "parts"):
            raise InputError(f"expected packed text, which pack makes, got {type(packed).__name__}")
        if check_int(length, "the length of a block", most=2**40) < 1:
            raise InputError(f"a block needs at least 1 token, got {length}")
        self._parts = [part.tokens[: len(part) // length * length].reshape(-1, length) for part in packed.parts]
        self._starts = np.cumsum([0, *map(len, self._parts)])  # the number of each part's first block
        if len(self) == 0:
            raise InputError(
                f"the text of {packed.documents} documents has {len(packed)} tokens, which does not fill one block "
                f"of {length}: use more text or shorter blocks"
            )
        self.packed = packed
        self.length = length
        self.epoch = 0

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def remainder(self) -> int:
        """The number of tokens at the ends of the parts that do not fill a block, and are left out."""
        return len(self.packed) - len(self) * self.length

    def take(self, ids: Sequence[int] | Tensor) -> Tensor:
        """Blocks by their numbers (B,): a copy (B, length), int64.

        Raises `InputError` for what are no block numbers, and for tokens that are not those which were written;
        `IndexError` for a number beyond the last block.
        """
        numbers = np.asarray(ids)
        if numbers.ndim != 1 or (numbers.size and (numbers.dtype.kind not in "iu" or numbers.min() < 0)):
            raise InputError(f"expected the numbers (B,) of blocks, from 0, got {shown(ids)}")
        if numbers.size and numbers.max() >= len(self):
            raise IndexError(f"block {numbers.max()} of {len(self)}")
        numbers = numbers.astype(np.int64)
        taken = np.empty((len(numbers), self.length), np.int64)
        parts = np.searchsorted(self._starts, numbers, side="right") - 1  # which part each lies in
        for part in np.unique(parts):
            here = parts == part
            rows = numbers[here] - self._starts[part]
            for row in rows.tolist():
                self.packed.parts[part].verify(row * self.length, (row + 1) * self.length)
            taken[here] = self._parts[part][rows]
        return torch.from_numpy(taken)

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the examples that are taken next."""
        self.epoch = check_int(epoch, "epoch")

    def __getitem__(self, i: int) -> dict[str, Any]:
        if not -len(self) <= check_int(i, "the number of a block") < len(self):
            raise IndexError(f"block {i} of {len(self)}")
        i %= len(self)
        return {"input_ids": self.take([i])[0], "example_id": i, "epoch": self.epoch}
