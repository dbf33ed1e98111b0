"""T5's random spans: which runs of tokens are hidden, and the lengths that go together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..checks import FLAGS, REAL, check_int, check_same_shape, check_tensor
from ..errors import InputError
from .masking import check_noise


def span_counts(n: int, noise_density: float, mean_noise_span_length: float) -> tuple[int, int]:
    """(hidden tokens, spans) that T5 plans for a row of n tokens: shared by the sampler and the length solver.

    At least one token is hidden and one is not; there are at least one span, at most as many as hidden
    tokens, and at most as many as tokens to stand before them. A lone token is hidden.

    >>> from clozelab.data import span_counts
    >>> span_counts(568, noise_density=0.15, mean_noise_span_length=3.0)
    (85, 28)

    Source: `random_spans_noise_mask` of Raffel et al. 2020 (T5), which raises at densities above about 0.6
    where the spans outnumber what can stand between them; the last bound is ours.
    """
    check_spans(noise_density, mean_noise_span_length)
    n = check_int(n, "the number of tokens", 0, 2**62)
    if n <= 1:
        return n, n
    hidden = min(max(round(n * noise_density), 1), n - 1)
    spans = min(max(round(hidden / mean_noise_span_length), 1), hidden, n - hidden)
    return hidden, spans


def random_spans_mask(maskable: Tensor, noise: Tensor, noise_density: float, mean_noise_span_length: float) -> Tensor:
    """T5's spans: a fixed number of hidden tokens, cut into a fixed number of spans at random places.

    The hidden tokens are cut into `spans` non-empty parts, and so are the visible ones, each of the
    C(hidden - 1, spans - 1) x C(visible - 1, spans - 1) results equally likely; then the parts alternate,
    visible first. Two consequences, both true of T5's own code: **the first token is never hidden and the
    last one always is**. At 568 tokens the second is hidden with probability 27/482 = 0.056 and the one
    before the last with 57/84 = 0.68. Not a mistake in this function: unit-test your own scheme for it.

    The plan is made for the maskable tokens alone, so a protected token inside a span splits it in two.

    Shapes: maskable (B, T) or (T,) bool and noise of the same shape to a mask of that shape.

    >>> import torch
    >>> from clozelab.data import random_spans_mask
    >>> noise = torch.tensor([[0.3, 0.9, 0.1, 0.7, 0.8, 0.2, 0.6, 0.4]])
    >>> maskable = torch.ones(1, 8, dtype=torch.bool)
    >>> random_spans_mask(maskable, noise, noise_density=0.5, mean_noise_span_length=2.0).long()
    tensor([[0, 0, 0, 1, 1, 1, 0, 1]])

    Raises `InputError` for shapes, types and settings that do not fit.
    Source: Raffel et al. 2020 (T5), section 3.1.4, and `random_spans_noise_mask` of its code.
    """
    check_noise(maskable, noise, "(B, T)" if isinstance(maskable, Tensor) and maskable.dim() != 1 else "(T)")
    if maskable.dim() == 1:
        return random_spans_mask(maskable[None], noise[None], noise_density, mean_noise_span_length)[0]
    counts = maskable.sum(1).tolist()
    plans = {n: span_counts(n, noise_density, mean_noise_span_length) for n in set(counts)}
    return planned_spans_mask(maskable, noise, [plans[n] for n in counts])


def planned_spans_mask(maskable: Tensor, noise: Tensor, plans: Sequence[tuple[int, int]]) -> Tensor:
    """`random_spans_mask` where each row has a plan of its own: (hidden tokens, spans), as `span_counts` says.

    Shapes: maskable and noise (B, T), B plans, to a mask (B, T). A row whose plan is (0, 0) stays visible.

    >>> import torch
    >>> from clozelab.data.span_masking import planned_spans_mask
    >>> maskable, noise = torch.ones(2, 4, dtype=torch.bool), torch.tensor([[0.1, 0.7, 0.2, 0.5]] * 2)
    >>> planned_spans_mask(maskable, noise, [(2, 1), (2, 2)]).long()
    tensor([[0, 0, 1, 1],
            [0, 1, 0, 1]])
    """
    hidden, spans = torch.tensor(plans, dtype=torch.int64, device=noise.device).view(-1, 2, 1).unbind(1)  # (B, 1) each
    n = maskable.sum(1, keepdim=True)
    most = int(spans.max()) if len(plans) else 0
    hidden_ends = _ends(noise, torch.zeros_like(n), hidden, spans, most)
    visible_ends = _ends(noise, (hidden - 1).clamp(min=0), n - hidden, spans, most)
    begins = visible_ends + F.pad(hidden_ends, (1, 0))[:, :-1]  # of the hidden parts among the maskable tokens
    flips = torch.zeros(len(noise), noise.shape[1] + 1, dtype=torch.int64, device=noise.device)
    flips.scatter_(1, torch.cat([begins, visible_ends + hidden_ends], 1), 1)
    odd = flips.cumsum(1) & 1 == 1
    return odd.gather(1, (maskable.cumsum(1) - 1).clamp_(min=0)) & maskable


def rolled_mask(mask: Tensor, maskable: Tensor, noise: Tensor) -> Tensor:
    """A mask (B, T) rolled among the maskable tokens (B, T) of its row, by an offset uniform in 0 .. n - 1.

    `noise` (B, 1) in [0, 1) says how far. A run that crosses the last maskable token goes on at the first one.

    >>> import torch
    >>> from clozelab.data import rolled_mask
    >>> mask = torch.tensor([[False, False, True, True, False]])
    >>> maskable = torch.tensor([[True, True, True, True, False]])
    >>> rolled_mask(mask, maskable, torch.tensor([[0.3]])).long()  # by int(0.3 * 4) = 1
    tensor([[1, 0, 0, 1, 0]])

    Raises `InputError` for shapes and types that do not fit.
    Source: `random_roll` of `random_spans_noise_mask` in seqio, the successor of T5's code.
    """
    check_tensor(maskable, "maskable", "(B, T)", FLAGS)
    check_same_shape(maskable=maskable, mask=check_tensor(mask, "mask", "(B, T)", FLAGS))
    check_same_shape(first_column=maskable[:, :1], noise=check_tensor(noise, "noise", "(B, 1)", REAL))
    n = maskable.sum(1, keepdim=True)  # (B, 1)
    place = maskable.cumsum(1) - 1  # (B, T) of a maskable token among its own
    from_place = (place - (noise * n).long()) % n.clamp(min=1)
    columns = torch.zeros_like(place).masked_scatter_(_first(n, mask), maskable.nonzero()[:, 1])  # (B, T) of each place
    return mask.gather(1, columns.gather(1, from_place)) & maskable


def _first(n: Tensor, like: Tensor) -> Tensor:
    """(B, T) bool: the first n (B, 1) columns."""
    return torch.arange(like.shape[1], device=like.device) < n


def _ends(noise: Tensor, start: Tensor, total: Tensor, parts: Tensor, most: int) -> Tensor:
    """(B, max(most, 1)): where each part ends, of a `total` (B, 1) cut into `parts` (B, 1) of at least 1.

    Each composition is equally likely: the cuts are where the total - 1 numbers of noise from column `start` (B, 1) are
    smallest. Behind the last part all ends are the total.
    """
    k = max(most - 1, 0)
    low, high = (int(start.min()), int((start + total).max()) - 1) if k else (0, 0)
    place = torch.arange(low, high, device=noise.device) - start
    other = (place < 0) | (place >= total - 1)
    ordered = bool((parts < most).any())  # a row with fewer cuts has the first ones
    cuts = noise[:, low:high].masked_fill(other, 2).topk(k, largest=False, sorted=ordered).indices  # (B, k)
    cuts += low + 1 - start
    ends = torch.where(torch.arange(k, device=noise.device) < parts - 1, cuts, total).sort(1).values
    return torch.cat([ends, total], 1)


MAX_TEXT = 2**22
"""Tokens of the longest text whose lengths are solved for."""


def check_spans(noise_density: float, mean_noise_span_length: float) -> None:
    """Raises `InputError` for a density outside (0, 1) and a mean span below 1."""
    if not isinstance(noise_density, (int, float)) or not 0.0 < noise_density < 1.0:
        raise InputError(
            f"noise_density must lie strictly between 0 and 1, got {noise_density!r}: a share of the tokens"
        )
    mean = mean_noise_span_length
    if not isinstance(mean, (int, float)) or isinstance(mean, bool) or not 1.0 <= mean < float("inf"):
        raise InputError(f"mean_noise_span_length must be at least 1 token, and finite, got {mean_noise_span_length!r}")


@dataclass(frozen=True)
class SpanLengths:
    """The lengths that go together: `raw` tokens of text become `inputs` and `targets` of these lengths, always."""

    raw: int
    inputs: int
    targets: int
    spans: int


def span_lengths(
    raw: int,
    *,
    noise_density: float = 0.15,
    mean_noise_span_length: float = 3.0,
    eos: bool = True,
    final_sentinel: bool = False,
) -> SpanLengths:
    """What `random_spans_mask` makes of `raw` tokens: visible + spans (+ eos) and hidden + spans (+ closing, + eos)."""
    hidden, spans = span_counts(raw, noise_density, mean_noise_span_length)
    return SpanLengths(raw, raw - hidden + spans + eos, hidden + spans + final_sentinel + eos, spans)


def solve_span_lengths(
    inputs: int,
    *,
    noise_density: float = 0.15,
    mean_noise_span_length: float = 3.0,
    eos: bool = True,
    final_sentinel: bool = False,
) -> SpanLengths:
    """The longest raw text whose inputs fit into `inputs` tokens, so that nothing is ever padded.

    Counts with the rounding and clamping of the sampler itself (`span_counts`), so plan and result agree for
    every setting. In the few settings where the inputs' length jumps over the one asked for, the result says
    what it is. At a noise_density of one half the targets are kept as short as the inputs, as T5 does.

    >>> from clozelab.data import solve_span_lengths
    >>> solve_span_lengths(512)
    SpanLengths(raw=568, inputs=512, targets=114, spans=28)

    Raises `InputError` for a length too small to hold one hidden and one visible token, and for shares that
    are none. Source: `random_spans_helper` of T5's code.
    """
    inputs = check_int(inputs, "the length of the inputs")

    def lengths(raw: int) -> SpanLengths:
        return span_lengths(
            raw,
            noise_density=noise_density,
            mean_noise_span_length=mean_noise_span_length,
            eos=eos,
            final_sentinel=final_sentinel,
        )

    if lengths(2).inputs > inputs:
        raise InputError(
            f"inputs of {inputs} tokens cannot hold a visible token, a sentinel"
            f"{' and an end of text' if eos else ''}: {lengths(2).inputs} is the least"
        )
    # The inputs never shrink as the text grows: double until it is too long, then binary search.
    raw, too_long = 2, 3
    while lengths(too_long).inputs <= inputs:
        if too_long > MAX_TEXT:
            raise InputError(
                f"inputs of {inputs:,} tokens would be those of a text of more than {MAX_TEXT:,} tokens: choose a "
                f"lower noise_density than {noise_density}, or a shorter mean_noise_span_length"
            )
        raw, too_long = too_long, 2 * too_long
    while too_long - raw > 1:
        middle = (raw + too_long) // 2
        raw, too_long = (middle, too_long) if lengths(middle).inputs <= inputs else (raw, middle)
    if noise_density == 0.5 and lengths(raw).targets > inputs and raw > 2:
        raw -= 1
    return lengths(raw)
