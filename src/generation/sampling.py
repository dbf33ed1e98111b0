"""Sampling: which token a row of logits becomes."""

from __future__ import annotations

import math
from typing import TypedDict

import torch
from torch import Tensor

from ..checks import REAL, check_int, check_number, check_tensor, check_type
from ..device import to_float64
from ..errors import InputError, NotFinite


class Sampling(TypedDict, total=False):
    """How a token is chosen: the keywords of `sample_token`."""

    temperature: float
    top_k: int | None
    top_p: float | None
    greedy: bool
    generator: torch.Generator | None


def sample_token(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    greedy: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One id (B,) for each row of logits (B, V).

    - `temperature` divides the logits: lower is more deterministic;
    - `top_k` keeps the k likeliest;
    - `top_p` keeps the fewest likeliest that together hold at least this much probability, and at least one
      (Holtzman et al. 2020, section 3.1); with `top_k` as well, of what that left;
    - `greedy` takes the likeliest, and draws nothing;
    - `generator` draws, on any device; without one, a fresh one of seed 0: the same each time.

    >>> import torch
    >>> from clozelab.generation import sample_token
    >>> sample_token(torch.tensor([[0.1, 3.0, 0.2]]), greedy=True)
    tensor([1])

    Raises `InputError` for a temperature that is not above 0, top_k below 1 and top_p outside (0, 1]; `NotFinite` for
    logits that are not numbers.
    """
    check_tensor(logits, "logits", "(B, V)", REAL)
    if generator is not None:
        check_type(generator, torch.Generator, "the generator")
    if greedy:
        _check_sampling(logits, temperature, top_k, top_p)
        return logits.argmax(-1)
    probabilities = token_probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    source = torch.Generator().manual_seed(0) if generator is None else generator
    return probabilities.to(source.device).multinomial(1, generator=source)[:, 0].to(logits.device)


def token_probabilities(
    logits: Tensor, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Tensor:
    """The probability with which `sample_token` draws each id: float64 of the shape of the logits (..., V).

    They lie on the processor where the device of the logits has no float64. A truncated distribution sums to one as
    it stands, so that what is drawn has an exact probability:

    >>> import torch
    >>> from clozelab.generation import token_probabilities
    >>> token_probabilities(torch.tensor([0.5, 0.3, 0.2]).log(), top_p=0.7)
    tensor([0.6250, 0.3750, 0.0000], dtype=torch.float64)

    Raises what `sample_token` raises.
    """
    _check_sampling(logits, temperature, top_k, top_p)
    logits = to_float64(logits)
    logits = (logits - logits.amax(-1, keepdim=True)) / temperature  # the most probable stays 0, however low it is
    if top_k is not None and top_k < logits.shape[-1]:
        likeliest = logits.topk(top_k).indices  # ties are broken, so k are kept and no more
        logits = torch.full_like(logits, -torch.inf).scatter(-1, likeliest, logits.gather(-1, likeliest))
    probabilities = logits.softmax(-1)
    if top_p is not None:
        down, ids = probabilities.sort(descending=True, stable=True)
        down = down.masked_fill(down.cumsum(-1) - down >= top_p, 0)  # the more probable ones hold enough without it
        probabilities = torch.zeros_like(probabilities).scatter(-1, ids, down / down.sum(-1, keepdim=True))
    return probabilities


def _check_sampling(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> None:
    if not check_tensor(logits, "logits", "(..., V)", REAL).shape[-1]:
        raise InputError("expected logits of at least one id, got none")
    if not 0 < check_number(temperature, "temperature") < math.inf:
        raise InputError(
            f"temperature must be above 0 and finite, got {temperature!r}: for the likeliest token say greedy=True"
        )
    if top_k is not None and check_int(top_k, "top_k") < 1:
        raise InputError(f"top_k must be at least 1, got {top_k!r}: None keeps all")
    if top_p is not None and not 0 < check_number(top_p, "top_p") <= 1:
        raise InputError(f"top_p must lie in (0, 1], got {top_p!r}: None or 1.0 keeps all")
    if not bool(logits.amax(-1).isfinite().all()):  # NaN, infinity, or all of a row forbidden
        raise NotFinite("some logits are NaN or infinite, so there is no likeliest token: are the weights finite?")
