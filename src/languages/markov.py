"""A Markov chain as a language: its entropy is known exactly, so a loss can be compared with its minimum."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..checks import WHOLE, check_int, check_number, check_tensor
from ..data.special_ids import MAX_IDS, SpecialIds
from ..errors import InputError


@dataclass(frozen=True)
class MarkovSource:
    """A language of K symbols in which each symbol depends on the one before it, and on nothing else.

    `transition[a, b]` is the probability that b follows a. Texts begin at the stationary distribution, so that all
    positions have the same distribution.

    >>> import torch
    >>> from clozelab.languages import MarkovSource
    >>> coin = MarkovSource(torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    >>> coin.stationary
    tensor([0.5000, 0.5000], dtype=torch.float64)
    >>> round(coin.entropy_rate, 4)  # nats a symbol
    0.3251
    >>> coin.sample(1, 10, seed=0).shape
    torch.Size([1, 10])

    Raises `InputError` for rows that are not probabilities and for a chain with symbols that are never reached again.
    Source: Shannon 1948, sections 4 and 7.
    """

    transition: Tensor
    """(K, K), rows sum to one."""

    def __post_init__(self) -> None:
        matrix = check_tensor(self.transition, "the transition matrix", "(..., K)").double()
        square = matrix.dim() == 2 and len(matrix) == matrix.shape[1] and len(matrix) > 0
        if not square or (matrix < 0).any() or not torch.allclose(matrix.sum(1), torch.ones(len(matrix)).double()):
            raise InputError(
                f"expected a square matrix whose rows are probabilities, got shape {tuple(matrix.shape)}"
                + (f" with row sums {matrix.sum(1).tolist()[:4]}" if square else "")
            )
        object.__setattr__(self, "transition", matrix / matrix.sum(1, keepdim=True))
        apart = int(torch.linalg.matrix_rank(self.transition.T - torch.eye(len(matrix)).double())) < len(matrix) - 1
        if apart or (self.stationary < 1e-12).any():
            raise InputError("some symbols are never reached again: expected a chain in which each can follow in time")

    @classmethod
    def random(cls, symbols: int, *, entropy: float, seed: int = 0) -> MarkovSource:
        """A random chain of `symbols` symbols with this entropy rate, in nats a symbol, to 1e-6.

        Random numbers, sharpened or flattened until the entropy is right. Raises `InputError` for an entropy outside
        (0, ln K).
        """
        most = math.log(check_int(symbols, "symbols", 1, 2**14))
        if not 0.0 < check_number(entropy, "entropy") < most:
            raise InputError(
                f"the entropy of {symbols} symbols lies between 0 and ln {symbols} = {most:.4f}, got {entropy}"
            )
        numbers = torch.randn(symbols, symbols, generator=_generator(seed), dtype=torch.float64)

        def chain(sharpness: float) -> MarkovSource:
            """From uniform (0) to one successor each, with a millionth of uniform, so that every symbol is reached."""
            return cls((numbers * sharpness).softmax(1) * (1 - 1e-6) + 1e-6 / symbols)

        low, high = 0.0, 200.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if chain(middle).entropy_rate > entropy else (low, middle)
        return chain(low)

    @property
    def symbols(self) -> int:
        """K."""
        return len(self.transition)

    @cached_property
    def stationary(self) -> Tensor:
        """(K,): how often each symbol occurs."""
        k = self.symbols
        balance = torch.cat([self.transition.T - torch.eye(k).double(), torch.ones(1, k).double()])
        wanted = torch.cat([torch.zeros(k), torch.ones(1)]).double()
        return torch.linalg.lstsq(balance, wanted[:, None]).solution[:, 0].clamp(min=0)

    @cached_property
    def entropy_rate(self) -> float:
        """Nats a symbol, given the one before it."""
        return float(-(self.stationary[:, None] * torch.xlogy(self.transition, self.transition)).sum())

    @cached_property
    def entropy(self) -> float:
        """Nats of a symbol by itself."""
        return float(-torch.xlogy(self.stationary, self.stationary).sum())

    def sample(self, texts: int, length: int, *, seed: int = 0) -> Tensor:
        """(texts, length) int64 of symbols 0 .. K - 1."""
        texts, length = check_int(texts, "texts", 0, 2**40), check_int(length, "length", 1, 2**40)
        generator = _generator(seed)
        draws = torch.rand(texts, length, generator=generator, dtype=torch.float64)
        following = self.transition.cumsum(1)
        symbol = (draws[:, :1] > self.stationary.cumsum(0)).sum(1).clamp(max=self.symbols - 1)
        text = [symbol]
        for t in range(1, length):
            symbol = (draws[:, t, None] > following[symbol]).sum(1).clamp(max=self.symbols - 1)
            text.append(symbol)
        return torch.stack(text, 1)

    def log_prob(self, text: Tensor) -> Tensor:
        """ln p of texts (..., T): a number each."""
        if not check_tensor(text, "text", "(..., T)", WHOLE).shape[-1]:
            raise InputError("expected texts of at least one symbol")
        check_symbols(text, self.symbols)
        text = text.long()  # uint8 would select by a mask
        first = self.stationary.log()[text[..., 0]]
        return first + self.transition.log()[text[..., :-1], text[..., 1:]].sum(-1)

    def special_ids(self, sentinels: int = 100, roles: Sequence[str] = ()) -> SpecialIds:
        """Ids for models of this language: the symbols keep their numbers 0 .. K - 1, the special ids follow.

        `roles` beside pad, eos and mask get the ids after those.
        """
        return special_ids_after(self.symbols, sentinels, roles)


def special_ids_after(symbols: int, sentinels: int, roles: Sequence[str]) -> SpecialIds:
    """Ids for models of a language: its symbols keep their numbers, pad, eos, mask, roles and sentinels follow."""
    sentinels = check_int(sentinels, "sentinels", 0, MAX_IDS // 2)
    more = [role for role in roles if role not in ("pad", "eos", "mask")]
    size = symbols + 3 + len(more) + sentinels
    ids = {role: symbols + 3 + n for n, role in enumerate(more)}
    sentinel_ids = range(size - 1, size - 1 - sentinels, -1)
    return SpecialIds(size, symbols, symbols + 1, symbols + 2, sentinel_ids, roles=ids)


def check_symbols(text: Tensor, symbols: int) -> None:
    """Raises `InputError` for ids outside 0 .. symbols - 1."""
    if text.numel() and not 0 <= int(text.min()) <= int(text.max()) < symbols:
        raise InputError(f"symbols must lie in 0 .. {symbols - 1}, got {int(text.min())} .. {int(text.max())}")


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(check_int(seed, "seed", -(2**63), 2**64 - 1))
