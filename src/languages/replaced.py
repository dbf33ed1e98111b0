"""How certain a discriminator can be that a token was replaced (ELECTRA): exactly, and a bound for any generator."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import FLAGS, REAL, WHOLE, check_number, check_same_shape, check_tensor, check_type
from ..errors import InputError
from .markov import MarkovSource, check_symbols


def replaced_probabilities(
    source: MarkovSource,
    text: Tensor,
    hide_rate: float,
    generator: Literal["ideal", "uniform"] = "ideal",
    is_token: Tensor | None = None,
) -> Tensor:
    """(B, T) float64: p(this symbol is not the source's own | the whole text (B, T), in which some were replaced).

    Each symbol is hidden with probability `hide_rate`, and the generator puts another in its place, which may be the
    same: the "ideal" one draws it from p(x[t] | the visible symbols), each place by itself, and the "uniform" one from
    all K symbols alike.

    The sum runs over all sets of hidden symbols. What was hidden between two visible symbols i and j depends on these
    two alone, so a set is a path over visible symbols. A step from i to j has, with r the rate and q the generator,

        (1 - r) r^(j-i-1) P^(j-i)[x[i], x[j]] x the product of q(x[s]) over i < s < j,

    and forward and backward sums over the paths give the probability of each step. Within a step x[s] is the source's
    own with p(x[s] | x[i], x[j]), whatever the generator drew. T^2 steps, each of at most T factors. `is_token` (B, T)
    bool is False for padding on the right, which is never hidden.

    >>> import torch
    >>> from clozelab.languages import MarkovSource, replaced_probabilities
    >>> coin = MarkovSource(torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    >>> replaced_probabilities(coin, torch.tensor([[0, 0, 1, 0, 0]]), 0.15).round(decimals=2)
    tensor([[0.0200, 0.0600, 0.2100, 0.0600, 0.0200]], dtype=torch.float64)

    Raises `InputError` for symbols that are none, a rate outside (0, 1), and another generator.
    """
    check_type(source, MarkovSource, "the source")
    real = torch.ones_like(text, dtype=torch.bool) if is_token is None else is_token
    text = check_tensor(text, "the text", "(B, T)", WHOLE).where(check_tensor(real, "is_token", "(B, T)", FLAGS), 0)
    check_symbols(text, source.symbols)
    if not 0 < check_number(hide_rate, "hide_rate") < 1 or generator not in ("ideal", "uniform"):
        raise InputError(
            f'expected a rate in (0, 1) and a generator that is "ideal" or "uniform", got {hide_rate!r}, {generator!r}'
        )
    rate, uniform = math.log(hide_rate), -math.log(source.symbols)
    kept, end = math.log1p(-hide_rate), text.shape[1] + 1
    pad = F.pad(~real, (1, 1))  # (B, T + 2)
    leads = _log_transitions(source, text).masked_fill(pad[:, None] | pad[..., None], 0)  # as to the end
    hideable = torch.zeros_like(leads[:, 0]).masked_fill(pad, -torch.inf)
    steps: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}  # (i, j): ln weight (B,), p(x[s] | x[i], x[j]) (B, j-i-1)
    for i in range(end):
        for j in range(i + 1, end + 1):
            own = leads[:, i, i + 1 : j] + leads[:, i + 1 : j, j] - leads[:, i, j, None]
            drawn = own if generator == "ideal" else torch.full_like(own, uniform)
            weight = leads[:, i, j] + (rate + drawn + hideable[:, i + 1 : j]).sum(1)
            if j < end:
                weight = weight + kept * ~pad[:, j]
            steps[i, j] = weight, own.exp()
    before, after = torch.zeros(2, len(text), end + 1, dtype=torch.float64)  # ln of the sums over paths to and from i
    for j in range(1, end + 1):
        before[:, j] = torch.stack([before[:, i] + steps[i, j][0] for i in range(j)], 1).logsumexp(1)
    for i in range(end - 1, -1, -1):
        after[:, i] = torch.stack([steps[i, j][0] + after[:, j] for j in range(i + 1, end + 1)], 1).logsumexp(1)
    replaced = torch.zeros(len(text), end + 1, dtype=torch.float64)
    for (i, j), (weight, own) in steps.items():
        taken = (before[:, i] + weight + after[:, j] - before[:, end]).exp()
        replaced[:, i + 1 : j] += taken[:, None] * (1 - own)
    return replaced[:, 1:end].clamp(0, 1)


def detection_costs(fits: Tensor, drawn: Tensor, replaced: Tensor, hide_rate: float) -> Tensor:
    """(B, T) nats: the least it can cost to say of each symbol whether it was replaced, whatever the generator.

    A bound for every discriminator: it is the cost of a reader who is told all other symbols of the text as they were,
    and with what probability the generator draws each symbol. `fits` (B, T) is p(the symbol that is seen | all other
    symbols of the text), `drawn` (B, T) the probability with which the generator draws it where it is hidden,
    `replaced` (B, T) bool whether it is another than the text's. With r the rate, the symbol is the text's own or
    replaced with the weights

        (1 - r) fits + r fits drawn        it was not hidden, or the generator drew the same
        r drawn (1 - fits)

    Of symbols that are known to be hidden the rate is 1.

    >>> import torch
    >>> from clozelab.languages import detection_costs
    >>> fits, drawn = torch.tensor([[0.9, 0.1]]), torch.tensor([[0.5, 0.5]])
    >>> detection_costs(fits, drawn, torch.tensor([[False, True]]), 0.15).round(decimals=3)
    tensor([[0.0090, 0.8630]])

    Raises `InputError` for shapes that do not fit, what is no probability, and a rate outside (0, 1].
    """
    fits, drawn = (check_tensor(one, name, "(B, T)", REAL) for one, name in ((fits, "fits"), (drawn, "the drawn ones")))
    for one, name in ((fits, "fits"), (drawn, "the drawn ones")):
        if not bool(((one >= 0) & (one <= 1)).all()):
            raise InputError(f"expected probabilities in {name}, got numbers outside [0, 1]")
    check_same_shape(fits=fits, drawn=drawn, replaced=check_tensor(replaced, "replaced", "(B, T)", FLAGS))
    if not 0 < check_number(hide_rate, "hide_rate") <= 1:
        raise InputError(f"expected a rate in (0, 1], got {hide_rate!r}")
    own, other = (1 - hide_rate) * fits + hide_rate * fits * drawn, hide_rate * drawn * (1 - fits)
    return -(torch.where(replaced.bool(), other, own) / (own + other)).log()


def _log_transitions(source: MarkovSource, text: Tensor) -> Tensor:
    """(B, T + 2, T + 2): [s, t] is ln p(x[t] | x[s]) for s < t; column T + 1 the end, which any symbol leads to."""
    size = text.shape[1]
    leads = torch.zeros(len(text), size + 2, size + 2, dtype=torch.float64)
    leads[:, 0, 1:-1] = source.stationary[text].log()
    jump = torch.eye(source.symbols, dtype=torch.float64)
    for distance in range(1, size):
        jump = jump @ source.transition
        s = torch.arange(size - distance)
        leads[:, s + 1, s + 1 + distance] = jump.log()[text[:, :-distance], text[:, distance:]]
    return leads
