"""A language of several kinds of text, where the kind of a text is a hidden variable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import check_int, check_type
from ..errors import InputError
from .markov import MarkovSource


@dataclass(frozen=True)
class MixtureSource:
    """Each text is drawn, from its first symbol to its last, from one of several `MarkovSource`s, all equally likely.

    The more certain the kind of a text, the better it can be continued. Probabilities of texts and the posterior of
    the kind are exact.

    >>> import torch
    >>> from clozelab.languages import MarkovSource, MixtureSource
    >>> sticky, restless = (MarkovSource(torch.tensor([[p, 1 - p], [1 - p, p]])) for p in (0.9, 0.1))
    >>> source = MixtureSource((sticky, restless))
    >>> text, kinds = source.sample(4, 10, seed=0)
    >>> text.shape, kinds.shape
    (torch.Size([4, 10]), torch.Size([4]))
    >>> source.posterior(torch.tensor([0, 0, 0]))  # 0.9 x 0.9 against 0.1 x 0.1
    tensor([0.9878, 0.0122], dtype=torch.float64)

    Raises `InputError` for fewer than two sources, and for sources of different numbers of symbols.
    Source: Xie et al. 2022 (an explanation of in-context learning), section 2, where documents share a hidden concept.
    """

    sources: Sequence[MarkovSource]
    """At least two, of K symbols each."""

    def __post_init__(self) -> None:
        if not isinstance(self.sources, Iterable):
            raise InputError(f"expected several sources, got {type(self.sources).__name__}")
        object.__setattr__(
            self, "sources", tuple(check_type(source, MarkovSource, "a source") for source in self.sources)
        )
        sizes = [source.symbols for source in self.sources]
        if len(sizes) < 2 or len(set(sizes)) > 1:
            raise InputError(f"expected at least two sources of as many symbols each, got {sizes} symbols")

    @property
    def symbols(self) -> int:
        """K."""
        return self.sources[0].symbols

    def sample(self, texts: int, length: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Texts (texts, length) int64 of symbols 0 .. K - 1, and the kind (texts,) int64 of each."""
        generator = torch.Generator().manual_seed(check_int(seed, "seed", -(2**63), 2**64 - 1))
        check_int(texts, "texts", 0)
        check_int(length, "length", 1)
        kinds = torch.randint(len(self.sources), (texts,), generator=generator)
        seeds = torch.randint(2**31, (len(self.sources),), generator=generator).tolist()
        text = torch.empty(texts, length, dtype=torch.int64)
        for kind, (source, own) in enumerate(zip(self.sources, seeds)):
            rows = kinds == kind
            text[rows] = source.sample(int(rows.sum()), length, seed=own)
        return text, kinds

    def log_prob(self, text: Tensor) -> Tensor:
        """(...) float64: ln p of texts (..., T), summed over their kinds."""
        return self._of_each_kind(text).logsumexp(-1)

    def posterior(self, text: Tensor) -> Tensor:
        """p(kind | text) of texts (..., T): (..., N), which sums to one."""
        return self._of_each_kind(text).softmax(-1)

    def _of_each_kind(self, text: Tensor) -> Tensor:
        """ln p(text, kind): (..., N)."""
        chances = torch.stack([source.log_prob(text) for source in self.sources], -1)
        return chances - torch.tensor(float(len(self.sources))).log()
