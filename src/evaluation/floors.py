"""The least loss that any model can reach, exactly, on text from a `MarkovSource`.

Each function takes the very texts and batches that a model is measured on and returns what the best possible model
pays on them, in nats: one that knows the language and the rule of hiding, and reads just what the objective lets it
read. A model's loss on the same batch may come near this from above; below it only by luck, whose size is known. A
model that is further below has read what it should not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..checks import WHOLE, check_int, check_number, check_same_shape, check_tensor, check_type
from ..data.hiding import IGNORED, HideTokens
from ..data.masking import Bernoulli, RandomSpans
from ..data.replacement import check_shares
from ..data.sentinels import split_spans
from ..data.special_ids import SpecialIds
from ..errors import InputError
from ..languages.markov import MarkovSource, check_symbols
from ..objectives import CausalLM, MaskedLM, Objective, SpanCorruption


@dataclass(frozen=True)
class Floor:
    """What the best possible model pays for each row of a batch."""

    nats: Tensor
    """(B,) float64: summed over the paid positions of the row."""
    counts: Tensor
    """(B,) int64: paid positions."""

    @property
    def mean(self) -> float:
        """Nats per paid position."""
        return float(self.nats.sum() / self.counts.sum())


def floor(objective: Objective, source: MarkovSource, special: SpecialIds, batch: Mapping[str, Tensor]) -> Floor:
    """The floor of a batch of one of the three objectives; raises `InputError` for settings that have no exact one."""
    check_type(special, SpecialIds, "special ids", "give source.special_ids()")
    if isinstance(objective, CausalLM):
        return causal_floor(source, _of(batch, "labels"))
    if isinstance(objective, MaskedLM) and isinstance(objective.hide, HideTokens):
        hide = objective.hide
        if not isinstance(hide.scheme, Bernoulli):
            raise InputError(
                "the exact floor of masked LM needs tokens hidden independently, MaskedLM(scheme=Bernoulli()): "
                "an exact count tells a little about each token by all others"
            )
        return masked_floor(
            source,
            _of(batch, "input_ids"),
            _of(batch, "labels"),
            mask_id=special.mask if special.mask is not None else -1,
            rate=hide.scheme.rate,
            mask_replace_prob=hide.mask_replace_prob,
            random_replace_prob=hide.random_replace_prob,
        )
    if isinstance(objective, SpanCorruption) and isinstance(getattr(objective.hide, "scheme", None), RandomSpans):
        return span_floor(source, _of(batch, "input_ids"), _of(batch, "labels"), special)
    raise InputError(f"no exact floor is known for {objective}")


# --------------------------------------------------------------------------- causal LM


def causal_floor(source: MarkovSource, labels: Tensor) -> Floor:
    """-ln p(x[t+1] | x[t]) at each paid position; its expectation is the entropy rate.

    In a block of T tokens that begins at the stationary distribution T - 1 positions are paid, and each costs the
    entropy rate in expectation. (With the first one paid too it would be (H(first) + (T - 1) H(rate)) / T.)

    Shapes: labels (B, T) of symbols, -100 where not paid.

    >>> coin = MarkovSource(torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    >>> round(causal_floor(coin, torch.tensor([[0, 0, 1]])).mean, 4)  # (-ln 0.9 - ln 0.1) / 2
    1.204

    Raises `InputError` for a paid label behind one that is not: what the model read there is not among the labels.
    """
    _check_labels(source, labels)
    before, after = labels[:, :-1], labels[:, 1:]
    paid = after != IGNORED
    if bool((paid & (before == IGNORED)).any()):
        raise InputError(
            "expected every paid label to stand behind another one, whose symbol it depends on: give whole texts, and "
            "leave out what is not to be counted from the end"
        )
    cost = -source.transition.log()[before.clamp(min=0), after.clamp(min=0)]
    return Floor((cost * paid).sum(1), paid.sum(1))


def _of(batch: Mapping[str, Tensor], key: str) -> Tensor:
    if not isinstance(batch, Mapping) or key not in batch:
        raise InputError(f"expected a batch with {key!r}: did it come from objective.collator(...)?")
    return batch[key]


def _check_labels(source: MarkovSource, labels: Tensor) -> None:
    check_type(source, MarkovSource, "the source")
    check_tensor(labels, "labels", "(B, T)", WHOLE)
    check_symbols(labels[labels != IGNORED], source.symbols)


# --------------------------------------------------------------------------- masked LM


def masked_floor(
    source: MarkovSource,
    inputs: Tensor,
    labels: Tensor,
    *,
    mask_id: int,
    rate: float = 0.15,
    mask_replace_prob: float = 0.8,
    random_replace_prob: float = 0.1,
) -> Floor:
    """-ln p(hidden token | the whole corrupted row, this position was selected), by forward and backward messages.

    The corruption is a noisy channel behind a Markov chain, that is, a hidden Markov model: a symbol is seen as itself,
    as [MASK], or as another symbol. Whether a position was selected is not seen, save that a [MASK] was and that the
    position in question was, because it pays. So the channel of all others mixes "selected" with "not", and its own
    does not. Holds for tokens that are selected independently.

    Shapes: inputs and labels (B, T).

    Source: Rabiner 1989, section III; the channel is BERT's 80/10/10.
    """
    _check_labels(source, labels)
    check_same_shape(labels=labels, inputs=check_tensor(inputs, "inputs", "(B, T)", WHOLE))
    check_shares(mask_replace_prob, random_replace_prob)
    if not 0 <= check_number(rate, "rate") <= 1:
        raise InputError(f"rate is a share, from 0 to 1, got {rate!r}")
    k, mask_id = source.symbols, check_int(mask_id, "mask_id")
    check_symbols(inputs[inputs != mask_id], k)
    same = torch.eye(k, dtype=torch.float64)
    keep_share = 1.0 - mask_replace_prob - random_replace_prob
    # (K, K + 1): probability that a selected symbol is seen as each symbol, and in the last column as [MASK].
    selected = torch.cat(
        [keep_share * same + random_replace_prob / k, torch.full((k, 1), mask_replace_prob).double()], 1
    )
    untouched = torch.cat([same, torch.zeros(k, 1).double()], 1)
    channel = (1 - rate) * untouched + rate * selected
    seen = torch.where(inputs == mask_id, k, inputs)  # (B, T) columns of the channel
    evidence = channel.T[seen]  # (B, T, K): of each position, whether selected or not

    before = [source.stationary.expand(len(inputs), k)]  # p(x[t], what was seen before t), up to a factor
    for t in range(1, inputs.shape[1]):
        step = (before[-1] * evidence[:, t - 1]) @ source.transition
        before.append(step / step.sum(1, keepdim=True))
    after = [torch.ones_like(before[0])]  # p(what is seen after t | x[t]), up to a factor
    for t in range(inputs.shape[1] - 1, 0, -1):
        step = (after[-1] * evidence[:, t]) @ source.transition.T
        after.append(step / step.sum(1, keepdim=True))
    posterior = torch.stack(before, 1) * torch.stack(after[::-1], 1) * selected.T[seen]  # (B, T, K)
    posterior = posterior / posterior.sum(2, keepdim=True)
    paid = labels != IGNORED
    cost = -posterior.gather(2, labels.clamp(min=0)[..., None]).squeeze(2).log()
    return Floor(cost.masked_fill(~paid, 0).sum(1), paid.sum(1))


# --------------------------------------------------------------------------- span corruption


def span_floor(source: MarkovSource, inputs: Tensor, labels: Tensor, special: SpecialIds) -> Floor:
    """-ln p(targets | inputs), sentinels and end of text included.

    Inputs and targets together say what the text and the mask were, so

        -ln p(targets | inputs) = -ln p(text) - ln p(mask) + ln p(inputs),

    and p(inputs) sums over all texts and masks that leave these inputs. `RandomSpans` draws all masks with its counts
    alike and always hides the last token, so p(mask) cancels, and what is left is a sum over the lengths of the spans
    (at least 1 each, all together the planned number): the product of what leads across each gap. A gap between symbols
    a and b that hides l of them is crossed with probability (P^(l+1))[a, b], the last one, open to the right, with 1.
    The sum over lengths is a convolution over the gaps.

    Shapes: inputs (B, S) and labels (B, L) as the collator makes them from rows of one length.
    """
    check_type(source, MarkovSource, "the source")
    check_tensor(inputs, "inputs", "(B, S)", WHOLE)
    check_tensor(labels, "labels", "(B, L)", WHOLE)
    nats, counts = [], []
    for read, said in zip(inputs.tolist(), labels.tolist()):
        said = [label for label in said if label != IGNORED]
        visible, spans = _segments(read, special), split_spans(said[:-1], special.sentinels)
        hidden = [span for _, span in spans if span]
        total = sum(map(len, hidden))
        text = [symbol for pair in zip(visible, hidden) for part in pair for symbol in part]
        whole = source.log_prob(torch.tensor(text))
        inside = sum(source.log_prob(torch.tensor(part)) - source.stationary[part[0]].log() for part in visible)
        begin = source.stationary[visible[0][0]].log()
        ways = _ways(source, [(a[-1], b[0]) for a, b in pairwise(visible)], total)
        nats.append(-whole + begin + inside + ways.log())
        counts.append(len(said))
    return Floor(torch.stack(nats), torch.tensor(counts))


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
        raise InputError("the exact floor needs masks that begin visible and end hidden, as RandomSpans draws them")
    return before


def _ways(source: MarkovSource, gaps: list[tuple[int, int]], total: int) -> Tensor:
    """The sum over lengths >= 1 with this total: the product over `gaps` of P^(l+1)[a, b], one more gap being open."""
    powers = [source.transition]
    for _ in range(total):
        powers.append(powers[-1] @ source.transition)  # powers[l] = P^(l+1)
    reached = torch.zeros(total + 1, dtype=torch.float64)  # by the number of symbols that the gaps so far hide
    reached[0] = 1.0
    for a, b in gaps:
        crossing = torch.stack([power[a, b] for power in powers])  # (total + 1,) by length
        crossing[0] = 0.0  # a span hides at least one
        reached = torch.stack([(reached[: n + 1] * crossing[: n + 1].flip(0)).sum() for n in range(total + 1)])
    return reached[:total].sum()  # the open gap hides the rest, at least one
