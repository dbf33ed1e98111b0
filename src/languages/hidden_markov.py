"""A hidden Markov model as a language: what a reader of one side or of both sides can know is exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import REAL, WHOLE, check_int, check_tensor, check_type
from ..data.special_ids import SpecialIds
from ..errors import InputError
from .markov import MarkovSource, check_symbols, special_ids_after

READERS = ("token", "left", "both")
"""What a reader of a text knows when it guesses the state of a token: the token, what is left of it too, all of it."""


@dataclass(frozen=True)
class HiddenMarkovSource:
    """A language of K symbols that are emitted by the states of a Markov chain, which no text shows.

    In a text z[0], z[1], ... is a chain of `states`, and `emission[z, x]` is the probability that state z emits symbol
    x. The state is what a symbol means here: what stands on either side of it helps to tell, and how much each side
    helps is exact, since `posterior` is the best possible guess of a reader of one side or of both.

    >>> import torch
    >>> from clozelab.languages import HiddenMarkovSource, MarkovSource
    >>> sticky = MarkovSource(torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    >>> source = HiddenMarkovSource(sticky, torch.tensor([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]]))
    >>> text, states = source.sample(4, 10, seed=0)
    >>> text.shape, states.shape
    (torch.Size([4, 10]), torch.Size([4, 10]))
    >>> ambiguous = torch.tensor([[1, 1, 2]])  # 1 is emitted by both states, 2 by the second alone
    >>> source.posterior(ambiguous, "left")[0, 1], source.posterior(ambiguous, "both")[0, 1]
    (tensor([0.5000, 0.5000], dtype=torch.float64), tensor([0.1000, 0.9000], dtype=torch.float64))

    Raises `InputError` for rows of `emission` that are not probabilities, or not one for each state.
    Source: Rabiner 1989 (A tutorial on hidden Markov models), sections II and III.
    """

    states: MarkovSource
    """The chain of the S states."""
    emission: Tensor
    """(S, K), rows sum to one."""

    def __post_init__(self) -> None:
        chain = check_type(self.states, MarkovSource, "the chain of states")
        matrix = check_tensor(self.emission, "the emission matrix", "(S, K)", REAL).double()
        sums = matrix.sum(1)
        if len(matrix) != chain.symbols or (matrix < 0).any() or not torch.allclose(sums, torch.ones_like(sums)):
            raise InputError(
                f"expected a row of probabilities for each of {chain.symbols} states, got shape {tuple(matrix.shape)} "
                f"with row sums {sums.tolist()[:4]}"
            )
        object.__setattr__(self, "emission", matrix / sums[:, None])

    @property
    def symbols(self) -> int:
        """K."""
        return self.emission.shape[1]

    def sample(self, texts: int, length: int, *, seed: int = 0) -> tuple[Tensor, Tensor]:
        """Texts (texts, length) int64 of symbols 0 .. K - 1, and the state (texts, length) int64 of each symbol."""
        generator = torch.Generator().manual_seed(check_int(seed, "seed", -(2**63), 2**64 - 1))
        own = int(torch.randint(2**31, (1,), generator=generator))
        states = self.states.sample(texts, length, seed=own)
        draws = torch.rand(states.shape, generator=generator, dtype=torch.float64)
        symbols = (draws[..., None] > self.emission.cumsum(1)[states]).sum(-1)
        return symbols.clamp(max=self.symbols - 1), states

    def costs(self, text: Tensor) -> Tensor:
        """(B, T) float64: -ln p(x[t] | x[0], ..., x[t-1]) of texts (B, T), what they cost the best causal model.

        There is no closed form of their expectation, the entropy rate: the mean over many texts estimates it.
        """
        evidence = self._evidence(text)
        return -(messages_from_left(self.states, evidence) * evidence).sum(2).log()

    def log_prob(self, text: Tensor) -> Tensor:
        """(B,) float64: ln p of texts (B, T), summed over their states."""
        return -self.costs(text).sum(1)

    def posterior(self, text: Tensor, reads: str = "both") -> Tensor:
        """(B, T, S) float64: p(state of each token) of texts (B, T) for a reader who knows the language.

        It reads the `"token"` alone, what is `"left"` of it, too (filtering), or `"both"` sides (smoothing). Its most
        probable state is right more often than the guess of any other reader of as much.
        """
        if reads not in READERS:
            raise InputError(f"reads must be one of {', '.join(READERS)}, got {reads!r}")
        evidence = self._evidence(text)
        before = self.states.stationary if reads == "token" else messages_from_left(self.states, evidence)
        after = messages_from_right(self.states, evidence) if reads == "both" else 1.0
        joint = before * evidence * after
        return joint / joint.sum(2, keepdim=True)

    def special_ids(self, sentinels: int = 100, roles: Sequence[str] = ()) -> SpecialIds:
        """Ids for models of this language, as those of `MarkovSource.special_ids`."""
        return special_ids_after(self.symbols, sentinels, roles)

    def _evidence(self, text: Tensor) -> Tensor:
        """(B, T, S): p(x[t] | state)."""
        check_symbols(check_tensor(text, "text", "(B, T)", WHOLE), self.symbols)
        check_int(text.shape[1], "the length of the texts", 1)
        return self.emission.T[text.long()]


def messages_from_left(chain: MarkovSource, evidence: Tensor) -> Tensor:
    """(B, T, S) float64: p(state at t | what was seen before t), from the evidence p(what is seen at t | state)."""
    messages = [chain.stationary.expand(len(evidence), -1)]
    for t in range(1, evidence.shape[1]):
        step = (messages[-1] * evidence[:, t - 1]) @ chain.transition
        messages.append(step / step.sum(1, keepdim=True))
    return torch.stack(messages, 1)


def messages_from_right(chain: MarkovSource, evidence: Tensor) -> Tensor:
    """(B, T, S) float64: p(what is seen after t | state at t), up to a factor for each t."""
    messages = [torch.ones_like(evidence[:, 0])]
    for t in range(evidence.shape[1] - 1, 0, -1):
        step = (messages[-1] * evidence[:, t]) @ chain.transition.T
        messages.append(step / step.sum(1, keepdim=True))
    return torch.stack(messages[::-1], 1)
