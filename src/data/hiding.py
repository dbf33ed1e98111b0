"""How an example becomes an exercise: what is read, what is hidden, what is to be said.

A way of hiding is a function from `Rows` to the tensors of a batch. The three below are those of the three
objectives; the collator applies whichever it is given, so a new objective brings its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..checks import WHOLE, tensor, whole_number
from ..errors import InputError
from .masking import BatchScheme, ExactCount, MaskScheme, RandomSpans, scheme_name
from .noise import Noise
from .replacement import check_shares, replace_tokens
from .sentinels import corrupt_span_batch
from .special import SpecialIds

IGNORED = -100
"""The label of a position that is not paid (PyTorch's default `ignore_index`). It is a value of the label, not a
position, and never derived from the padding id."""

WHICH, WHAT = 0, 1  # streams of an example's noise: which tokens are hidden, what stands in their place


@dataclass(frozen=True)
class Rows:
    """B examples side by side, filled up to T, with all that a way of hiding may need to know."""

    tokens: Tensor
    """(B, T) int64"""
    present: Tensor
    """(B, T) bool: False where a row is only padding."""
    protected: Tensor
    """(B, T) bool: True where the caller forbids hiding."""
    noise: Noise
    """The noise that belongs to each row."""
    special: SpecialIds
    labels: Tensor | None = None
    """(B, T), where the caller brought their own."""
    word_ids: Tensor | None = None
    """(B, T), -1 where a token belongs to no word."""
    documents: Tensor | None = None
    """(B, T): which document of its row a token belongs to, where attention is to stay within documents."""


Hide = Callable[[Rows], dict[str, Tensor]]
"""A way of hiding: rows to `input_ids`, `labels` and whatever else the model reads."""


def choose(scheme: MaskScheme, rows: Rows, maskable: Tensor) -> Tensor:
    """The mask (B, T) of a scheme, ours all at once or a user's row by row, checked.

    A user's scheme sees one example without its padding: (tokens (n,), maskable (n,), generator). It is not asked for
    an example in which nothing is maskable.
    """
    if isinstance(scheme, BatchScheme):
        noise = rows.noise.uniform(WHICH, maskable.shape[1])
        return _checked(scheme.batch(maskable.clone(), noise, rows.word_ids), maskable, scheme_name(scheme))
    mask = torch.zeros_like(maskable)
    for b, generator in enumerate(rows.noise.generators(WHICH)):
        here = rows.present[b]
        free = maskable[b, here]
        if not bool(free.any()):
            continue  # nothing to choose from
        drawn = scheme(rows.tokens[b, here], free.clone(), generator)  # copies: ours stay as they are
        mask[b, here] = _checked(drawn, free, scheme_name(scheme))
    return mask


def _check_scheme(scheme: Any) -> None:
    if not callable(scheme) or isinstance(scheme, type):
        came = (
            f"the class {scheme.__name__}: make one, {scheme.__name__}()" if isinstance(scheme, type) else repr(scheme)
        )
        raise InputError(f"expected a masking scheme, a function (tokens, maskable, generator) -> bool[T], got {came}")


def _checked(mask: Any, maskable: Tensor, name: str | None) -> Tensor:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != maskable.shape:
        came = f"{mask.dtype} {tuple(mask.shape)}" if isinstance(mask, Tensor) else type(mask).__name__
        raise InputError(
            f"the scheme {name} must return a boolean tensor of shape {tuple(maskable.shape)}, True where a token "
            f"is hidden, but returned {came}"
        )
    if (mask & ~maskable).any():
        at = (mask & ~maskable).nonzero()[:, -1].tolist()
        raise InputError(
            f"the scheme {name} hides the protected positions {at[:5]}: special tokens and padding are not "
            "maskable; return mask & maskable"
        )
    return mask


@dataclass(frozen=True)
class HideNext:
    """Causal LM: nothing is covered, each token is hidden from those before it by the model's visibility.

        input_ids   the cat sat on  the mat
        labels      the cat sat on  the mat     position t is paid for saying labels[t + 1]

    The labels are *not* shifted; the objective shifts them, as Hugging Face's models do.
    """

    def __call__(self, rows: Rows) -> dict[str, Tensor]:
        labels = rows.tokens if rows.labels is None else rows.labels
        return {
            "input_ids": rows.tokens.clone(),  # never the caller's own memory
            "attention_mask": rows.present.long(),
            "labels": labels.masked_fill(~rows.present, IGNORED),
            **({} if rows.documents is None else {"document_ids": rows.documents}),
        }


@dataclass(frozen=True)
class HideTokens:
    """Masked LM: some tokens are covered, both sides stay readable, the covered ones are to be said.

        text        the cat sat on  the mat
        input_ids   the [M] sat on  [M] mat
        labels       .  cat  .  .   the  .      paid where a label stands, -100 elsewhere

    Special ids are never hidden and never a random replacement. Where the caller brings labels, only tokens
    with a label are hidden, and they are to be said as the caller's label says it.
    """

    scheme: MaskScheme = field(default_factory=ExactCount)
    """Which tokens: one of ours or any function (tokens, maskable, generator) -> bool[T]."""
    mask_share: float = 0.8
    """Share of the hidden tokens that become the mask token,"""
    random_share: float = 0.1
    """share that become a random token; the rest stay as they are."""

    def __post_init__(self) -> None:
        _check_scheme(self.scheme)
        check_shares(self.mask_share, self.random_share)

    def __call__(self, rows: Rows) -> dict[str, Tensor]:
        special = rows.special
        if special.mask is None:
            raise InputError(
                "masked LM needs a mask id, but SpecialIds.mask is None: add a mask token to the tokenizer "
                "(load_tokenizer does) and set it"
            )
        maskable = rows.present & ~rows.protected & ~special.is_special(rows.tokens)
        answers = rows.tokens
        if rows.labels is not None:
            maskable &= rows.labels != IGNORED
            answers = rows.labels
        mask = choose(self.scheme, rows, maskable)
        input_ids = replace_tokens(
            rows.tokens,
            mask,
            rows.noise.uniform(WHAT, mask.shape[1]),
            mask_id=special.mask,
            replacements=special.replacements,
            mask_share=self.mask_share,
            random_share=self.random_share,
        )
        return {
            "input_ids": input_ids,
            "attention_mask": rows.present.long(),
            "labels": answers.masked_fill(~mask, IGNORED),
            **({} if rows.documents is None else {"document_ids": rows.documents}),
        }


@dataclass(frozen=True)
class HideSpans:
    """Span corruption: runs of tokens vanish behind sentinels; a decoder is to say what stood there.

        text                Thank you for inviting me to your party last week .
        input_ids           Thank you <X> me to your party <Y> week . </s>
        labels              <X> for inviting <Y> last </s>          all paid, sentinels and end of text too
        decoder_input_ids   <pad> <X> for inviting <Y> last         the labels, one later, behind the start id

    An end of text inside a packed block is hidden like any token: so does T5, and so the lengths stay fixed.
    """

    scheme: MaskScheme = field(default_factory=RandomSpans)
    """Which tokens: one of ours or any function (tokens, maskable, generator) -> bool[T]; runs become spans."""
    final_sentinel: bool = False
    """Close the targets with one more sentinel, as the paper's figure 2 does and T5's code does not."""

    def __post_init__(self) -> None:
        _check_scheme(self.scheme)

    def __call__(self, rows: Rows) -> dict[str, Tensor]:
        special = rows.special
        maskable = rows.present & ~rows.protected
        if rows.labels is not None:
            ours = (rows.labels == rows.tokens) | (rows.labels == IGNORED) | ~rows.present
            if not ours.all():
                raise InputError(
                    "span corruption says the hidden tokens themselves, but the rows bring other labels: give "
                    "labels that equal input_ids, -100 where nothing may be hidden, or none"
                )
            maskable &= rows.labels != IGNORED
        spans = corrupt_span_batch(
            rows.tokens,
            choose(self.scheme, rows, maskable),
            special.sentinels,
            eos=special.eos,
            final_sentinel=self.final_sentinel,
            present=rows.present,
            pad=special.pad,
            documents=rows.documents,
        )
        read = torch.arange(spans.inputs.shape[1]) < spans.input_lengths[:, None]
        said = torch.arange(spans.targets.shape[1]) < spans.target_lengths[:, None]
        batch = {
            "input_ids": spans.inputs,
            "attention_mask": read.long(),
            "decoder_input_ids": shift_right(spans.targets, special.pad),
            "labels": spans.targets.masked_fill(~said, IGNORED),
        }
        if spans.input_documents is not None and spans.target_documents is not None:
            batch["document_ids"] = spans.input_documents
            batch["decoder_document_ids"] = spans.target_documents
        return batch


def shift_right(targets: Tensor, start: int) -> Tensor:
    """Decoder inputs (B, L): the targets one place later, behind the start id; -100 never enters a model.

    >>> shift_right(torch.tensor([[99, 12, 13, 1]]), start=0)
    tensor([[ 0, 99, 12, 13]])
    """
    tensor(targets, "targets", "(B, L)", WHOLE)
    start = whole_number(start, "the start id")
    return torch.cat([torch.full_like(targets[:, :1], start), targets[:, :-1]], 1)


def side_by_side(rows: Sequence[Any], value: int) -> Tensor:
    """Rows of any length as one tensor (B, T), filled up on the right.

    >>> side_by_side([[5, 6, 7], [8]], 0)
    tensor([[5, 6, 7],
            [8, 0, 0]])
    """
    return pad_sequence([torch.as_tensor(row) for row in rows], batch_first=True, padding_value=value)
