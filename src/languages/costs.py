"""What text from a `MarkovSource` costs the best possible model, position by position, in nats.

That model knows the language and the corruption, and reads what the objective lets it read. A trained model's loss on
the same batch may come near these costs from above, and below them only by chance, whose size is known. A model that is
further below depends on what it must not read. Each objective's `entropy_floor` is one of these sums.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from ..checks import FLAGS, REAL, WHOLE, check_same_shape, check_tensor, check_type
from ..data.examples import IGNORED
from ..data.spans import split_spans
from ..data.special_ids import SpecialIds
from ..errors import InputError
from .hidden_markov import HiddenMarkovSource, messages_from_left, messages_from_right
from .markov import MarkovSource, check_symbols


def chain_costs(source: MarkovSource, tokens: Tensor, predicted: Tensor | None = None) -> Tensor:
    """(B, T) float64: -ln p(x[0]), then -ln p(x[t+1] | x[t]); the expectation of the latter is the entropy rate.

    Shapes: tokens (B, T). Where not all of them are symbols, `predicted` (B, T - 1) bool says at which t the pair
    (t, t + 1) counts; the cost of others is arbitrary.

    >>> import torch
    >>> from clozelab.languages import MarkovSource, chain_costs
    >>> coin = MarkovSource(torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    >>> [round(cost, 4) for cost in chain_costs(coin, torch.tensor([[0, 0, 1]]))[0].tolist()]
    [0.6931, 0.1054, 2.3026]

    Raises `InputError` for a predicted pair that is not of symbols.
    """
    check_type(source, MarkovSource, "the source")
    check_tensor(tokens, "tokens", "(B, T)", WHOLE)
    if predicted is not None:
        check_same_shape(pairs=tokens[:, 1:], predicted=check_tensor(predicted, "predicted", "(B, T - 1)", FLAGS))
    for part in (tokens[:, :-1], tokens[:, 1:]):
        check_symbols(part if predicted is None else part[predicted], source.symbols)
    inside = tokens.clamp(0, source.symbols - 1)
    first = -source.stationary.log()[inside[:, :1]]
    return torch.cat([first, -source.transition.log()[inside[:, :-1], inside[:, 1:]]], 1)


def step_costs(source: MarkovSource, tokens: Tensor, steps: int, predicted: Tensor) -> Tensor:
    """(B, T - steps) float64: -ln p(x[t + steps] | x[t]) where `predicted` (B, T - steps) says so, 0 elsewhere.

    Nothing between the two is known; the expectation rises with `steps` from the entropy rate to the entropy of a
    single symbol.

    >>> import torch
    >>> from clozelab.languages import MarkovSource, step_costs
    >>> coin = MarkovSource(torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    >>> step_costs(coin, torch.tensor([[0, 0, 1]]), 2, torch.tensor([[True]])).exp()  # 1 / (0.9 0.1 + 0.1 0.9)
    tensor([[5.5556]], dtype=torch.float64)

    Raises `InputError` for a predicted pair that is not of symbols.
    """
    check_type(source, MarkovSource, "the source")
    check_tensor(tokens, "tokens", "(B, T)", WHOLE)
    first, last = tokens[:, : tokens.shape[1] - steps], tokens[:, steps:]
    for part in (first, last):
        check_symbols(part[predicted], source.symbols)
    jump = torch.linalg.matrix_power(source.transition, steps).log()
    inside = [part.clamp(0, source.symbols - 1) for part in (first, last)]
    return -jump[inside[0], inside[1]] * predicted


def masked_costs(
    source: MarkovSource | HiddenMarkovSource, seen: Tensor, labels: Tensor, channel: Tensor, own_channel: Tensor
) -> Tensor:
    """(B, T) float64: -ln p(label | the whole row as it is seen, this position was hidden), 0 where there is no label.

    The `label_costs` of `masked_posteriors`. Shapes: seen (B, T), columns of the channels (K, S); labels (B, T) of
    symbols, -100 where not predicted.

    Raises `InputError` for labels that are not symbols and for shapes that do not fit.
    """
    check_same_shape(labels=check_tensor(labels, "labels", "(B, T)", WHOLE), seen=check_tensor(seen, "seen", "(B, T)"))
    return label_costs(masked_posteriors(source, seen, channel, own_channel), labels)


def masked_posteriors(
    source: MarkovSource | HiddenMarkovSource, seen: Tensor, channel: Tensor, own_channel: Tensor
) -> Tensor:
    """(B, T, K) float64: p(symbol | the whole row as it is seen, this position was hidden).

    A corruption that treats tokens independently is a noisy channel after a Markov chain, that is, a hidden Markov
    model: `channel[x, s]` is the probability that symbol x is seen as s, whether it was hidden or not, and
    `own_channel` the same for a hidden symbol, which the position in question is known to be. Forward and backward
    messages give the posterior. Of a `HiddenMarkovSource` they are messages about its states, whose symbols the channel
    corrupts.

    Shapes: seen (B, T), columns of the channels (K, S).

    >>> import torch
    >>> from clozelab.languages import MarkovSource, masked_posteriors
    >>> coin = MarkovSource(torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    >>> channel, masked = torch.tensor([[0.8, 0.0, 0.2], [0.0, 0.8, 0.2]]), torch.tensor([[0.0, 0.0, 1.0]] * 2)
    >>> masked_posteriors(coin, torch.tensor([[0, 2, 0]]), channel, masked)[0, 1]  # 0.9 0.9 against 0.1 0.1
    tensor([0.9878, 0.0122], dtype=torch.float64)

    Raises `InputError` for shapes that do not fit.
    Source: Rabiner 1989, section III.
    """
    check_type(source, (MarkovSource, HiddenMarkovSource), "the source")
    check_tensor(seen, "seen", "(B, T)", WHOLE)
    for name, one in (("channel", channel), ("own_channel", own_channel)):
        if len(check_tensor(one, name, "(K, S)", REAL)) != source.symbols or one.shape != channel.shape:
            raise InputError(f"expected {name} ({source.symbols}, S), got {tuple(one.shape)}")
    check_symbols(seen, channel.shape[1])
    if isinstance(source, HiddenMarkovSource):
        evidence = (source.emission @ channel.double()).T[seen]  # (B, T, S)
        states = messages_from_left(source.states, evidence) * messages_from_right(source.states, evidence)
        posterior = states @ source.emission * own_channel.double().T[seen]  # (B, T, K)
    else:
        evidence = channel.double().T[seen]  # (B, T, K)
        messages = messages_from_left(source, evidence) * messages_from_right(source, evidence)
        posterior = messages * own_channel.double().T[seen]
    return posterior / posterior.sum(2, keepdim=True)


def label_costs(posteriors: Tensor, labels: Tensor) -> Tensor:
    """(B, T) float64: -ln of the probability (B, T, K) of each label (B, T), 0 where there is none.

    >>> import torch
    >>> from clozelab.languages import label_costs
    >>> label_costs(torch.tensor([[[0.5, 0.5], [1.0, 0.0]]]), torch.tensor([[1, -100]]))
    tensor([[0.6931, 0.0000]], dtype=torch.float64)

    Raises `InputError` for labels that are not symbols.
    """
    check_tensor(posteriors, "posteriors", "(B, T, K)", REAL)
    check_symbols(check_tensor(labels, "labels", "(B, T)", WHOLE)[labels != IGNORED], posteriors.shape[2])
    check_same_shape(labels=labels, posteriors=posteriors[..., 0])
    costs = -posteriors.double().gather(2, labels.clamp(min=0)[..., None]).squeeze(2).log()
    return costs.masked_fill(labels == IGNORED, 0)


def gap_costs(source: MarkovSource, tokens: Tensor, hidden: Tensor, is_token: Tensor | None = None) -> Tensor:
    """(B,) float64: -ln p(hidden tokens | visible tokens), whatever the order in which they are predicted.

    It is -ln p(text) + ln p(visible tokens), and between two visible tokens that are k apart the chain makes k steps.

    Shapes: tokens (B, T) with what is hidden; hidden (B, T) bool; `is_token` (B, T) bool is False for padding on the
    right.

    >>> import torch
    >>> from clozelab.languages import MarkovSource, gap_costs
    >>> coin = MarkovSource(torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    >>> nats = gap_costs(coin, torch.tensor([[0, 0, 1]]), torch.tensor([[False, True, False]]))
    >>> nats.exp()  # 0 0 1 and 0 1 1 are equally likely
    tensor([2.], dtype=torch.float64)

    Raises `InputError` for tokens that are not symbols and for shapes that do not fit.
    """
    check_type(source, MarkovSource, "the source")
    hidden = check_tensor(hidden, "hidden", "(B, T)", FLAGS)
    check_same_shape(tokens=check_tensor(tokens, "tokens", "(B, T)", WHOLE), hidden=hidden)
    real = torch.ones_like(hidden) if is_token is None else check_tensor(is_token, "is_token", "(B, T)", FLAGS)
    tokens, length = tokens.where(real, 0), tokens.shape[1]
    whole = -(chain_costs(source, tokens) * real).sum(1)
    columns = torch.arange(length).expand_as(tokens)
    last = columns.masked_fill(hidden, -1).cummax(1).values  # the last visible column up to each
    before = torch.cat([torch.full_like(last[:, :1], -1), last[:, :-1]], 1)  # and before each
    powers = torch.stack([torch.linalg.matrix_power(source.transition, steps) for steps in range(length + 1)]).log()
    first = source.stationary.log()[tokens]
    later = powers[columns - before.clamp(min=0), tokens.gather(1, before.clamp(min=0)), tokens]
    return torch.where(before < 0, first, later).masked_fill(hidden | ~real, 0).sum(1) - whole


def span_costs(source: MarkovSource, inputs: Tensor, labels: Tensor, special: SpecialIds) -> Tensor:
    """(B,) float64: -ln p(targets | inputs) of span corruption, sentinels and end of text included.

    Inputs and targets together say what the text and the mask were, so

        -ln p(targets | inputs) = -ln p(text) - ln p(mask) + ln p(inputs),

    and p(inputs) sums over all texts and masks that leave these inputs. `random_spans_mask` draws all masks with its
    counts with equal probability and always hides the last token, so p(mask) cancels. What is left is a sum over the
    lengths of the spans (at least 1 each, with the planned total) of a product over the gaps: a gap between symbols a
    and b that hides l others has the factor (P^(l+1))[a, b], and the last one, open to the right, 1. The sum over
    lengths is a convolution over the gaps.

    Shapes: inputs (B, S) and labels (B, L) as the collator makes them from rows of one length.

    Raises `InputError` for masks that do not begin visible and end hidden.
    """
    check_type(source, MarkovSource, "the source")
    check_tensor(inputs, "inputs", "(B, S)", WHOLE)
    if not len(check_tensor(labels, "labels", "(B, L)", WHOLE)) or len(labels) != len(inputs):
        raise InputError(f"expected inputs and labels of as many rows, got {len(inputs)} and {len(labels)}")
    powers = [source.transition]  # powers[l] = P^(l + 1)
    nats = []
    for row, targets in zip(inputs.tolist(), labels.tolist()):
        targets = [label for label in targets if label != IGNORED]
        visible, spans = _segments(row, special), split_spans(targets[:-1], special.sentinels)
        hidden = [span for _, span in spans if span]
        total = sum(map(len, hidden))
        while len(powers) <= total:
            powers.append(powers[-1] @ source.transition)
        text = [symbol for pair in zip(visible, hidden) for part in pair for symbol in part]
        whole = source.log_prob(torch.tensor(text))
        inside = sum(source.log_prob(torch.tensor(part)) - source.stationary[part[0]].log() for part in visible)
        begin = source.stationary[visible[0][0]].log()
        crossings = [[float(power[a[-1], b[0]]) for power in powers] for a, b in pairwise(visible)]
        nats.append(-whole + begin + inside + math.log(_ways(crossings, total)))
    return torch.stack(nats)


def _segments(inputs: list[int], special: SpecialIds) -> list[list[int]]:
    """The visible parts, one before each sentinel."""
    segments: list[list[int]] = [[]]
    for token in inputs:
        if token in special.sentinels:
            segments.append([])
        elif token not in (special.eos, special.pad):
            segments[-1].append(token)
    *before, behind = segments
    if behind or not all(before):
        raise InputError("the exact floor needs masks that begin visible and end hidden, as random_spans_mask draws")
    return before


def _ways(crossings: list[list[float]], total: int) -> float:
    """The sum over lengths >= 1 with this total of the product of crossings[gap][length]; one more gap, open, has 1."""
    reached = [1.0] + [0.0] * total  # by the number of symbols that the gaps so far hide
    for crossing in crossings:
        reached = [sum(reached[m] * crossing[n - m] for m in range(n)) for n in range(total + 1)]
    return sum(reached[:total])  # the open gap hides the rest, at least one
