"""Spans and sentinels: a text and a mask to inputs and targets, and back.

Span corruption turns a text and a mask into two texts. In the inputs each run of hidden tokens is replaced by
one sentinel; the targets spell out, after each sentinel, what it stands for:

    text      Thank you for inviting me to your party last week .
    mask                x   x                       x
    inputs    Thank you <X>          me to your party <Y> week .
    targets   <X> for inviting <Y> last <Z>

Sentinels are numbered by the hidden runs alone, from the left, so every boolean mask can be undone, also one
that begins with noise (T5's own code numbers the targets' sentinels by the *visible* runs, which agrees for
its own masks, since they begin visible, and is off by one for any that does not).

The closing <Z> is a choice. The paper's figure 2 shows it; T5's code never writes it, because its masks always
end hidden. `final_sentinel=True` gives the paper's form.

Source: Raffel et al. 2020 (T5), section 3.1.4 and figure 2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..checks import FLAGS, WHOLE, check_int, check_same_shape, check_tensor
from ..errors import InputError


def corrupt_spans(
    tokens: Tensor,
    mask: Tensor,
    sentinels: Sequence[int],
    *,
    eos: int | None = None,
    final_sentinel: bool = False,
) -> tuple[Tensor, Tensor]:
    """Inputs and targets of one text: tokens (T,), mask (T,) bool to inputs (S,), targets (L,).

    S = T - hidden + runs and L = hidden + runs, plus one for each of `eos` (both) and `final_sentinel` (targets).

    >>> import torch
    >>> from clozelab.data import corrupt_spans, restore_spans
    >>> tokens = torch.tensor([10, 11, 12, 13, 14, 15])
    >>> mask = torch.tensor([False, False, True, True, False, True])
    >>> inputs, targets = corrupt_spans(tokens, mask, sentinels=[99, 98, 97], eos=1)
    >>> inputs
    tensor([10, 11, 99, 14, 98,  1])
    >>> targets
    tensor([99, 12, 13, 98, 15,  1])
    >>> restore_spans(inputs, targets, sentinels=[99, 98, 97], eos=1)
    tensor([10, 11, 12, 13, 14, 15])

    Raises `InputError` for shapes or types that do not fit, for more hidden runs than there are sentinels, and
    for a text that holds a sentinel already.
    """
    check_tensor(tokens, "tokens", "(..., T)", WHOLE)
    if tokens.dim() != 1 or tokens.shape != check_tensor(mask, "mask", "(..., T)").shape:
        raise InputError(
            f"expected tokens (T,) and a mask of the same shape, got {tuple(tokens.shape)} and {tuple(mask.shape)}; "
            "corrupt_span_batch takes rows (B, T)"
        )
    batch = corrupt_span_batch(tokens[None], mask[None], sentinels, eos=eos, final_sentinel=final_sentinel)
    return batch.inputs[0], batch.targets[0]


@dataclass(frozen=True)
class CorruptedSpans:
    """A batch of inputs and targets, short rows filled up; `lengths` tell what is real."""

    inputs: Tensor
    """(B, S)"""
    targets: Tensor
    """(B, L)"""
    input_lengths: Tensor
    """(B,)"""
    target_lengths: Tensor
    """(B,)"""
    input_documents: Tensor | None = None
    """(B, S), where document ids were given: of the token that is read, for a sentinel of its first token."""
    target_documents: Tensor | None = None
    """(B, L), likewise, of the token that is predicted."""
    target_in_loss: Tensor | None = None
    """(B, L) bool, where `in_loss` was given: of the hidden token, for a sentinel of its first; True at the end."""


def corrupt_span_batch(
    tokens: Tensor,
    mask: Tensor,
    sentinels: Sequence[int],
    *,
    eos: int | None = None,
    final_sentinel: bool = False,
    is_token: Tensor | None = None,
    pad: int = 0,
    documents: Tensor | None = None,
    in_loss: Tensor | None = None,
) -> CorruptedSpans:
    """`corrupt_spans` for rows (B, T), all at once; `is_token` (B, T) bool is False where a row is only padding.

    `documents` and `in_loss` (B, T), where given, are carried along with the tokens. A hidden run that crosses from one
    document into the next is two spans, each with a sentinel of its own.
    """
    tokens = check_tensor(tokens, "tokens", "(B, T)", WHOLE).long()  # a narrow type may hold no sentinel
    if check_tensor(mask, "mask", "(B, T)").dtype != torch.bool:
        raise InputError(f"expected a boolean mask (True = hidden), got {mask.dtype}")
    is_token = torch.ones_like(mask) if is_token is None else check_tensor(is_token, "is_token", "(B, T)", FLAGS)
    check_same_shape(tokens=tokens, mask=mask, is_token=is_token)
    eos = None if eos is None else check_int(eos, "eos")
    if documents is not None:
        check_same_shape(tokens=tokens, documents=check_tensor(documents, "documents", "(B, T)"))
    hidden = mask & is_token
    starts = hidden.clone()  # the first token of each hidden run
    continues = hidden[:, :-1] if documents is None else hidden[:, :-1] & (documents[:, 1:] == documents[:, :-1])
    starts[:, 1:] &= ~continues
    runs = starts.sum(1)  # (B,)
    ids = _sentinel_ids(sentinels, runs, final_sentinel, tokens)

    # One page per row that holds everything either text may need, in order: before each token the sentinel of
    # the run that it might begin, and at the end the closing sentinel and the end of text. (B, 2T + 2)
    run = (starts.cumsum(1) - 1).clamp(min=0)
    page = _page(ids[run], tokens, ids[runs], torch.full_like(runs, pad if eos is None else eos))
    every = torch.ones_like(runs, dtype=torch.bool)
    ended = every & (eos is not None)
    # The two texts are what one reads off the page: the sentinels both, each token one of them.
    in_inputs = _page(starts, is_token & ~hidden, ~every, ended)
    in_targets = _page(starts, hidden, every & final_sentinel, ended)
    inputs, input_lengths = _read(page, in_inputs, pad)
    targets, target_lengths = _read(page, in_targets, pad)
    spans = CorruptedSpans(inputs, targets, input_lengths, target_lengths)
    if documents is not None:
        none_before = torch.nn.functional.pad(documents, (1, 0))  # so that the last document of an empty row is 0
        last = none_before.gather(1, is_token.sum(1, keepdim=True)).squeeze(1)  # (B,)
        document_page = _page(documents, documents, last, last)
        of_inputs, of_targets = _read(document_page, in_inputs, 0)[0], _read(document_page, in_targets, 0)[0]
        spans = replace(spans, input_documents=of_inputs, target_documents=of_targets)
    if in_loss is not None:
        flags, _ = _read(_page(in_loss, in_loss, every, every), in_targets, False)
        spans = replace(spans, target_in_loss=flags)
    return spans


def _page(before: Tensor, at: Tensor, *end: Tensor) -> Tensor:
    """Interleave (B, T) with (B, T), then append columns (B,): (B, 2T + columns)."""
    return torch.cat([torch.stack([before, at], 2).flatten(1), torch.stack(end, 1)], 1)


def _read(page: Tensor, chosen: Tensor, pad: int) -> tuple[Tensor, Tensor]:
    """What is chosen of each row, moved together to the left and filled up with `pad`, and how much it is."""
    lengths = chosen.sum(1)  # (B,)
    longest = int(lengths.max()) if len(lengths) else 0
    text = page.new_full((len(page), longest), pad)
    real = torch.arange(longest, device=page.device) < lengths[:, None]
    return text.masked_scatter_(real, page.masked_select(chosen)), lengths


def _sentinel_ids(sentinels: Sequence[int], runs: Tensor, final_sentinel: bool, tokens: Tensor) -> Tensor:
    """The sentinels as a tensor, one more than is used, once they are known to be enough and not in the text."""
    if isinstance(sentinels, str) or not hasattr(sentinels, "__len__"):
        raise InputError(f"expected sentinels as a list of ids, got {type(sentinels).__name__}")
    needed = (int(runs.max()) if len(runs) else 0) + final_sentinel
    if needed > len(sentinels):
        raise InputError(
            f"the mask hides {needed - final_sentinel} spans"
            + (" and a final sentinel closes the targets" if final_sentinel else "")
            + f", so {needed} sentinels are needed, but there are {len(sentinels)}: reserve more of them in the "
            "tokenizer (sentinels=...), use shorter texts, a lower noise density or a longer mean span"
        )
    sentinels = [check_int(id, "each sentinel") for id in sentinels]
    if len(set(sentinels)) < len(sentinels) or min(sentinels, default=0) < 0:
        raise InputError(f"sentinels must be ids, no two alike, got {sentinels[:8]}")
    ids = torch.tensor([*sentinels, 0], dtype=tokens.dtype, device=tokens.device)
    low, high = (min(sentinels), max(sentinels)) if sentinels else (0, -1)
    if ((tokens >= low) & (tokens <= high)).any():  # cheap; only then look closer
        found = tokens[torch.isin(tokens, ids[:-1])].unique().tolist()
        if found:
            raise InputError(
                f"the text holds the sentinel ids {found[:5]} before any span is hidden, so it could not be told "
                "from its own blanks: was it corrupted already, or tokenised with its sentinels as special tokens?"
            )
    return ids


# --------------------------------------------------------------------------- and back


def split_spans(targets: Tensor | Sequence[int], sentinels: Sequence[int]) -> list[tuple[int, list[int]]]:
    """The targets (L,) as [(k, tokens of the span behind sentinel k), ...].

    Takes whatever a model generates: tokens before the first sentinel are left out, order and repetitions kept.

    >>> from clozelab.data import split_spans
    >>> split_spans([99, 12, 13, 98, 15, 97], sentinels=[99, 98, 97])
    [(0, [12, 13]), (1, [15]), (2, [])]
    """
    number = _numbered(sentinels)
    spans: list[tuple[int, list[int]]] = []
    ids = check_tensor(targets, "targets", "(L)").tolist() if isinstance(targets, Tensor) else targets
    if not isinstance(ids, Sequence):
        raise InputError(f"expected targets as a tensor (L) or a list of ids, got {type(ids).__name__}")
    for token in ids:
        if token in number:
            spans.append((number[token], []))
        elif spans:
            spans[-1][1].append(token)
    return spans


def _numbered(sentinels: Sequence[int]) -> dict[int, int]:
    if isinstance(sentinels, str) or not isinstance(sentinels, Iterable):
        raise InputError(f"expected sentinels as a list of ids, got {type(sentinels).__name__}")
    return {check_int(id, "each sentinel"): k for k, id in enumerate(sentinels)}


def restore_spans(inputs: Tensor, targets: Tensor, sentinels: Sequence[int], *, eos: int | None = None) -> Tensor:
    """The text (T,) from its inputs (S,) and targets (L,), without padding: the inverse of `corrupt_spans`.

    Raises `InputError` when they do not belong together, which is how sentinels out of step are found: the
    targets must answer the sentinels of the inputs, each once, in the same order, counted from the first one.
    One more sentinel with nothing behind it may close the targets.
    """
    inputs = check_tensor(inputs, "inputs", "(S)", WHOLE).long()
    targets = check_tensor(targets, "targets", "(L)", WHOLE).long()
    if eos is not None:
        for name, text in (("inputs", inputs), ("targets", targets)):
            if len(text) == 0 or text[-1] != eos:
                raise InputError(f"expected the {name} to end with the end-of-text id {eos}, got {text.tolist()[-3:]}")
        inputs, targets = inputs[:-1], targets[:-1]
    number = _numbered(sentinels)
    asked = [number[token] for token in inputs.tolist() if token in number]
    spans = split_spans(targets, sentinels)
    if spans and spans[-1] == (len(asked), []):
        spans = spans[:-1]  # the closing sentinel
    answered = [k for k, span in spans if span]
    astray = len(targets) > 0 and int(targets[0]) not in number
    if asked != list(range(len(asked))) or answered != asked or len(spans) != len(asked) or astray:
        raise InputError(
            f"inputs and targets are out of step: the inputs ask for spans {asked}, the targets answer {answered}"
            + (", with tokens before the first sentinel" if astray else "")
            + "; both must count up from 0, as sentinels numbered by the hidden runs do"
        )
    restored: list[int] = []
    for token in inputs.tolist():
        restored += spans[number[token]][1] if token in number else [token]
    return torch.tensor(restored, dtype=inputs.dtype, device=inputs.device)
