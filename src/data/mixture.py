"""Mixtures: the packed texts of several corpora, each with its share of the training blocks."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..checks import check_number
from ..errors import InputError
from .blocks import Blocks
from .packing import Packed

if TYPE_CHECKING:
    from .corpora.shards import PackedShards

WINDOW = 1000
"""Examples in which each corpus has its share, rounded to whole examples."""


@dataclass(frozen=True)
class Mixture:
    """The packed texts of several corpora and their weights, which need not add up to 1.

    The share of a corpus is that of the blocks that are trained on, and so of the tokens: of every 1,000 examples each
    corpus has `quotas`, in an order drawn for the seed (see `Batches`). Corpora that are small for their share are
    read more often than others.

    >>> from clozelab.data import Mixture, pack, train_bpe
    >>> tokenizer = train_bpe(["the cat sat"] * 2, vocab_size=400)
    >>> texts = [pack(["the cat sat"] * n, tokenizer) for n in (3, 50)]
    >>> mixture = Mixture(["small", "large"], texts, [1, 2])
    >>> mixture.quotas, mixture.block_counts(4)
    ([333, 667], [3, 50])

    Raises `InputError` for fewer than two texts, as many names and weights as there are no texts, a weight that is not
    positive or is less than a thousandth of all, and texts of different tokenizers.
    """

    names: Sequence[str]
    texts: Sequence[Packed | PackedShards]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.texts) < 2 or not len(self.names) == len(self.texts) == len(self.weights):
            raise InputError(
                "expected two texts or more, each with its name and weight, got "
                f"{len(self.texts)} texts, {len(self.names)} names, {len(self.weights)} weights"
            )
        for name, text in zip(self.names, self.texts):
            if not hasattr(text, "parts"):
                raise InputError(f"expected packed text, which pack makes, got {type(text).__name__} for {name}")
        if len({text.tokenizer for text in self.texts}) > 1:
            raise InputError(f"{', '.join(self.names)} were packed with different tokenizers: pack them with one")
        shares_of(self.names, self.weights)

    @property
    def shares(self) -> list[float]:
        """The shares of the training blocks, which add up to 1."""
        return shares_of(self.names, self.weights)

    @property
    def quotas(self) -> list[int]:
        """How many of every 1,000 examples are from each corpus: the shares, rounded so that they add up."""
        exact = [share * WINDOW for share in self.shares]
        quotas = [math.floor(one) for one in exact]
        by_remainder = sorted(range(len(exact)), key=lambda n: quotas[n] - exact[n])
        for n in by_remainder[: WINDOW - sum(quotas)]:
            quotas[n] += 1
        return quotas

    @property
    def parts(self) -> Sequence[Packed]:
        """The token streams that blocks are cut from, those of one corpus after those of another."""
        return [part for text in self.texts for part in text.parts]

    def __len__(self) -> int:
        return sum(map(len, self.texts))

    @property
    def documents(self) -> int:
        """The number of documents of all corpora."""
        return sum(text.documents for text in self.texts)

    @property
    def encoding_loss(self) -> str:
        """What of the texts the tokens do not hold: see `Packed.encoding_loss`."""
        lost = ((name, text.encoding_loss) for name, text in zip(self.names, self.texts))
        return "; ".join(f"{name}: {loss}" for name, loss in lost if loss)

    @property
    def tokenizer(self) -> str:
        """The tokenizer's own fingerprint."""
        return self.texts[0].tokenizer

    @property
    def fingerprint(self) -> str:
        """Of the texts and of how many of 1,000 examples each has."""
        content = repr([(text.fingerprint, quota) for text, quota in zip(self.texts, self.quotas)])
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()

    def blocks(self, length: int) -> Blocks:
        """The whole blocks of all corpora, which `Batches` draws by their shares.

        Raises `InputError` where a corpus has none.
        """
        for name, count, text in zip(self.names, self.block_counts(length), self.texts):
            if count == 0:
                raise InputError(
                    f"the text of {name} has {len(text)} tokens, which does not fill one block of {length}: use more "
                    "text or shorter blocks"
                )
        return Blocks(self, length)

    def block_counts(self, length: int) -> list[int]:
        """The number of whole blocks of each corpus."""
        return [sum(len(part) // length for part in text.parts) for text in self.texts]


def shares_of(names: Sequence[str], weights: Sequence[float]) -> list[float]:
    """The shares that weights are of their sum.

    >>> from clozelab.data.mixture import shares_of
    >>> shares_of(["a", "b"], [3, 1])
    [0.75, 0.25]

    Raises `InputError` for a weight that is not positive, and for a share of less than a thousandth.
    """
    for name, weight in zip(names, weights):
        if not 0 < check_number(weight, f"the weight of {name}") < math.inf:
            raise InputError(f"the weight of {name} must be positive and finite, got {weight!r}")
    shares = [weight / math.fsum(weights) for weight in weights]
    for name, share in zip(names, shares):
        if share * WINDOW < 1:
            raise InputError(f"the share of {name} is {share:.2g}: expected at least 1 in {WINDOW:,}")
    return shares
