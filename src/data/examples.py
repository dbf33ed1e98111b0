"""Examples and their noise: what every corruption is a pure function of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..checks import FLAGS, WHOLE, check_int, check_same_shape, check_tensor
from ..errors import InputError
from .noise import Noise
from .special_ids import SpecialIds

IGNORED = -100
"""The label of a position that is not in the loss (PyTorch's default `ignore_index`). It is a value of the label, not a
position, and never derived from the padding id."""

Batch = dict[str, Tensor]
"""What a model and its objective read, by Hugging Face's keys: `input_ids`, `attention_mask`, `labels`, ..."""


@dataclass(frozen=True)
class Examples:
    """B token sequences side by side, padded on the right to T, with all that a corruption may need to know.

    A column is the token's place in its example: whatever padding an example brought was removed before.
    """

    tokens: Tensor
    """(B, T) int64"""
    is_token: Tensor
    """(B, T) bool: False for padding."""
    maskable: Tensor
    """(B, T) bool: tokens that the caller allows to hide."""
    noise: Noise
    """The noise that belongs to each example."""
    special: SpecialIds
    labels: Tensor | None = None
    """(B, T), where the caller brought their own; -100 at padding."""
    word_ids: Tensor | None = None
    """(B, T), -1 where a token belongs to no word."""
    document_ids: Tensor | None = None
    """(B, T): which document of its row a token belongs to, where attention is to stay within documents."""
    in_loss: Tensor | None = None
    """(B, T) bool: False for tokens that may be hidden, and are not in the loss even so."""
    extra: Mapping[str, list[Tensor]] = field(default_factory=dict)
    """What else the corruption asks of an example, by key: B tensors, those with one value a token without padding."""
    progress: float = 1.0
    """How much of the training run is done, in [0, 1]; 1 outside of a run."""

    @property
    def answers(self) -> Tensor:
        """(B, T): the labels of the rows, or their tokens; -100 at padding and where a token is not in the loss."""
        answers = self.tokens if self.labels is None else self.labels
        return answers.masked_fill(~self.is_token if self.in_loss is None else ~(self.is_token & self.in_loss), IGNORED)

    @property
    def text_maskable(self) -> Tensor:
        """(B, T) bool: maskable tokens that are text, and not special ids."""
        return self.maskable & ~self.special.is_special(self.tokens)

    @property
    def is_eos(self) -> Tensor:
        """(B, T) bool: ends of text."""
        return self.is_token & (self.tokens == self.special.eos)

    def token_lists(self) -> list[list[int]]:
        """The ids of each example, without padding."""
        return [row[here].tolist() for row, here in zip(self.tokens, self.is_token)]

    def uniform(self, stream: int) -> Tensor:
        """(B, T) float64 in [0, 1): one number a token, numbered by its place in the example."""
        return self.noise.uniform(stream, self.tokens.shape[1])

    def uniform_row(self, stream: int) -> Tensor:
        """(B, 1) float64 in [0, 1): one number an example."""
        return self.noise.uniform(stream, 1)

    def words(self) -> Tensor:
        """(B, T): the word of each token, -1 for none: the rows' own word ids, or those of the vocabulary's table.

        Raises `InputError` where neither is known.
        """
        if self.word_ids is not None:
            return self.word_ids
        if self.special.starts_word is None:
            raise InputError(
                "whole words need to be known, but the rows have no 'word_ids' and the vocabulary no table of words: "
                "add Tokenizer.word_ids(text), or word_ids() of a Hugging Face encoding, -1 for special tokens"
            )
        begins = self.special.starts_word[self.tokens] | self.special.is_special(self.tokens)
        return begins.long().cumsum(1).masked_fill(self.special.is_special(self.tokens) | ~self.is_token, -1)

    def sentence_ends(self) -> Tensor:
        """(B, T) bool: tokens that end a sentence, by the vocabulary's table.

        Raises `InputError` where the vocabulary has none.
        """
        if self.special.ends_sentence is None:
            raise InputError(
                "sentences need to be known, but the vocabulary has no table of the tokens that end one: set "
                "permute_sentences=False, or, in Python, give SpecialIds(..., ends_sentence=)"
            )
        return self.special.ends_sentence[self.tokens] & self.is_token

    def with_end(self) -> Examples:
        """The same with an end of text behind each (B, T + 1): never hidden, and in the loss where there is a text."""
        n = self.is_token.sum(1, keepdim=True)  # (B, 1)

        def put(values: Tensor, end: Tensor | int | bool, fill: int | bool = 0) -> Tensor:
            wider = F.pad(values, (0, 1), value=fill)
            return wider.scatter(1, n, end if isinstance(end, Tensor) else torch.full_like(wider[:, :1], end))

        documents, eos = self.document_ids, self.special.eos
        return replace(
            self,
            tokens=put(self.tokens, eos, self.special.pad),
            is_token=put(self.is_token, True),
            maskable=put(self.maskable, False),
            labels=None if self.labels is None else put(self.labels, eos, IGNORED),
            word_ids=None if self.word_ids is None else put(self.word_ids, -1, -1),
            document_ids=None if documents is None else put(documents, F.pad(documents, (1, 0)).gather(1, n)),
            in_loss=put(self.is_token if self.in_loss is None else self.in_loss, n > 0),
        )

    def rows(self, index: Tensor) -> Examples:
        """Some of the examples (N,) with their own noise: for a mixture of corruptions.

        Raises `IndexError` for a number that no example has.
        """
        check_tensor(index, "the numbers of examples", "(N)")
        picked = {
            name: None if (value := getattr(self, name)) is None else value[index]
            for name in ("tokens", "is_token", "maskable", "labels", "word_ids", "document_ids", "in_loss")
        }
        extra = {key: [values[i] for i in index.tolist()] for key, values in self.extra.items()}
        return replace(self, noise=self.noise.rows(index), extra=extra, **picked)

    def reading_keys(self) -> Batch:
        """The keys that most batches have: `attention_mask`, and `document_ids` where documents are kept apart."""
        batch = {"attention_mask": self.is_token.long()}
        return batch if self.document_ids is None else {**batch, "document_ids": self.document_ids}


def smallest(noise: Tensor, k: Tensor, among: Tensor) -> Tensor:
    """(B, T) bool: of the positions that are True in `among`, the k (B, 1) with the smallest noise (B, T).

    >>> import torch
    >>> from clozelab.data import smallest
    >>> noise, among = torch.tensor([[0.9, 0.1, 0.5, 0.0]]), torch.tensor([[True, True, True, False]])
    >>> smallest(noise, torch.tensor([[2]]), among)
    tensor([[False,  True,  True, False]])
    """
    check_same_shape(noise=noise, among=check_tensor(among, "among", "(B, T)", FLAGS))
    if check_tensor(k, "k", "(B, 1)").shape != (len(noise), 1):
        raise InputError(f"expected k (B, 1), a number for each of {len(noise)} rows, got {tuple(k.shape)}")
    rank = noise.masked_fill(~among, 2.0).argsort(1).argsort(1)
    return (rank < k) & among


def pad_rows(rows: Sequence[Sequence[int] | Tensor], value: int) -> Tensor:
    """Rows of any length as one tensor (B, T), padded on the right.

    >>> from clozelab.data import pad_rows
    >>> pad_rows([[5, 6, 7], [8]], 0)
    tensor([[5, 6, 7],
            [8, 0, 0]])
    """
    if not len(rows):
        return torch.zeros(0, 0, dtype=torch.int64)
    return pad_sequence([_as_tensor(row) for row in rows], batch_first=True, padding_value=value)


def _as_tensor(row: Sequence[int] | Tensor) -> Tensor:
    """(T,); an empty list is one of whole numbers, which the default dtype is not."""
    if isinstance(row, Tensor):
        return row
    numbers = np.array(row)  # of a list four times as fast as PyTorch
    return torch.from_numpy(numbers.astype(np.int64) if not len(row) else numbers)


def fill_value(key: str, pad: int) -> int:
    """What fills up the rows of a key of a batch: `pad` for ids, -100 for labels, 0 for all else."""
    return {"input_ids": pad, "decoder_input_ids": pad, "labels": IGNORED, "shift_labels": IGNORED}.get(key, 0)


def stack_batches(batches: Sequence[Batch], index: Tensor, pad: int) -> Batch:
    """Batches of different widths as one: row `index[i]` of the result is their i-th row, counted through.

    Ids are padded with `pad`, labels with -100, all else with 0. Raises `InputError` for batches of different keys, and
    `IndexError` for an index that is no order of all rows.

    >>> import torch
    >>> from clozelab.data import stack_batches
    >>> one, two = {"labels": torch.tensor([[7, 8, 9]])}, {"labels": torch.tensor([[5]])}
    >>> stack_batches([one, two], torch.tensor([1, 0]), pad=0)["labels"]
    tensor([[   5, -100, -100],
            [   7,    8,    9]])
    """
    if not batches or any(batch.keys() != batches[0].keys() for batch in batches):
        keys = " and ".join(", ".join(sorted(batch)) for batch in batches) or "none"
        raise InputError(f"expected batches of the same keys, got {keys}: a key that one lacks would be lost")
    stacked = {}
    for key in batches[0]:
        rows = [row for batch in batches for row in batch[key]]
        together = pad_rows(rows, fill_value(key, pad)) if rows[0].dim() else torch.stack(rows)
        stacked[key] = together[index.argsort()]
    return stacked


def arrange(batch: Mapping[str, Tensor], order: Tensor, pad: int) -> Batch:
    """The columns of a batch (B, W) sorted by an order (B, W), ties as they stand; columns below 0 are left out.

    Rows are filled up as `stack_batches` does.

    >>> import torch
    >>> from clozelab.data import arrange
    >>> batch = {"input_ids": torch.tensor([[5, 6, 7], [8, 9, 0]])}
    >>> arrange(batch, torch.tensor([[2, 0, 1], [1, 0, -1]]), pad=0)["input_ids"]
    tensor([[6, 7, 5],
            [9, 8, 0]])
    """
    check_int(pad, "pad", 0, 2**31)
    kept = check_tensor(order, "the order", "(B, W)", WHOLE) >= 0
    width = int(kept.sum(1).max()) if len(order) else 0
    index = torch.where(kept, order, torch.iinfo(order.dtype).max).argsort(dim=1, stable=True)[:, :width]
    inside = kept.gather(1, index)
    return {key: value.gather(1, index).masked_fill(~inside, fill_value(key, pad)) for key, value in batch.items()}


def shift_targets(targets: Tensor, start: int, document_ids: Tensor | None = None) -> Tensor:
    """Decoder inputs (B, L): the targets one place later behind the start id, which also opens each later document.

    >>> import torch
    >>> from clozelab.data import shift_targets
    >>> shift_targets(torch.tensor([[99, 12, 13, 1]]), start=0)
    tensor([[ 0, 99, 12, 13]])
    >>> shift_targets(torch.tensor([[99, 12, 98, 13]]), start=0, document_ids=torch.tensor([[0, 0, 1, 1]]))
    tensor([[ 0, 99,  0, 98]])

    Source: Raffel et al. 2020 (T5), section 2.1; `make_autoregressive_inputs` of seqio for documents.
    """
    targets = check_tensor(targets, "targets", "(B, L)", WHOLE).long()
    start = check_int(start, "the start id")
    shifted = torch.cat([torch.full_like(targets[:, :1], start), targets[:, :-1]], 1)
    if document_ids is not None:
        shifted[:, 1:].masked_fill_(document_ids[:, 1:] != document_ids[:, :-1], start)
    return shifted
