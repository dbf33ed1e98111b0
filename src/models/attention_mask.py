"""Who may attend to whom: boolean masks, True = may, for T queries (rows) and S keys (columns).

Everything that tells the architectures apart, but for one cross-attention, is in this file:

    causal_mask(4)   full_mask(4, 4)   rank_mask of 0 0 1 2   document_mask of 1 1 2 2
    x . . .          x x x x           x x . .                x x . .
    x x . .          x x x x           x x . .                x x . .
    x x x .          x x x x           x x x .                . . x x
    x x x x          x x x x           x x x x                . . x x

Masks broadcast to (B, 1, T, S), one for all heads, and combine with `&`. Padding hides *columns*: no query attends to
a pad. Its row stays: what a pad computes is read by nobody.

A row may be empty: a pad to the left of a causal text, or a decoder's document that the encoder does not hold. A query
that may attend to nothing outputs zero, not the NaN of a softmax over nothing. `F.scaled_dot_product_attention` keeps
this promise, and so does `attention_reference`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..checks import WHOLE, check_int, check_tensor, tracing
from ..errors import InputError


def causal_mask(queries: int, keys: int | None = None, device: torch.device | None = None) -> Tensor:
    """(T, S): each query attends to itself and what comes before it; the T queries are the last T of the S keys.

    >>> from clozelab.models import causal_mask
    >>> causal_mask(3).int()
    tensor([[1, 0, 0],
            [1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    >>> causal_mask(1, 3).int()  # a third token, after two in a cache
    tensor([[1, 1, 1]], dtype=torch.int32)

    Raises `InputError` for more queries than keys. Source: Vaswani et al. 2017, section 3.2.3.
    """
    queries = check_int(queries, "the number of queries", 0)
    keys = queries if keys is None else check_int(keys, "the number of keys", 0)
    if keys < queries:
        raise InputError(f"causal queries are the last of the keys, but there are {queries} queries and {keys} keys")
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def full_mask(queries: int, keys: int, device: torch.device | None = None) -> Tensor:
    """(T, S): every query attends to every key.

    >>> from clozelab.models import full_mask
    >>> full_mask(2, 3).all()
    tensor(True)

    Source: Devlin et al. 2019 (BERT), section 3.
    """
    queries, keys = check_int(queries, "the number of queries", 0), check_int(keys, "the number of keys", 0)
    return torch.ones(queries, keys, dtype=torch.bool, device=device)


def rank_mask(query_rank: Tensor, key_rank: Tensor) -> Tensor:
    """(B, 1, T, S) from reading ranks (B, T) and (B, S): query t attends to key s iff key_rank[s] <= query_rank[t].

    One integer per token says every pattern of this library: 0 1 2 3 is causal, 0 0 0 0 is full, max(0, t - P + 1) is a
    prefix of P, t // b is causal over blocks of b, and a token's place in an order is that order.

    >>> import torch
    >>> from clozelab.models import rank_mask
    >>> rank = torch.tensor([[0, 0, 1]])  # a prefix of two
    >>> rank_mask(rank, rank)[0, 0].int()
    tensor([[1, 1, 0],
            [1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)

    Raises `InputError` for ranks that are not (B, T) and (B, S).
    Source: Raffel et al. 2020 (T5), section 3.2.1, for the prefix; Yang et al. 2019 (XLNet), section 2.2, for orders.
    """
    _check_pair(query_rank, key_rank, "reading ranks")
    return key_rank[:, None, None, :] <= query_rank[:, None, :, None]


def group_mask(query_group: Tensor, key_group: Tensor) -> Tensor:
    """(B, 1, T, S): a key of group 0 is open to every query, any other only to queries of its own group.

    >>> import torch
    >>> from clozelab.models import group_mask
    >>> group = torch.tensor([[1, 2, 0]])
    >>> group_mask(group, group)[0, 0].int()
    tensor([[1, 0, 1],
            [0, 1, 1],
            [0, 0, 1]], dtype=torch.int32)

    Raises `InputError` for groups that are not (B, T) and (B, S).
    """
    _check_pair(query_group, key_group, "reading groups")
    keys = key_group[:, None, None, :]
    return (keys == 0) | (keys == query_group[:, None, :, None])


def document_mask(query_documents: Tensor, key_documents: Tensor) -> Tensor:
    """(B, 1, T, S) from document ids (B, T) and (B, S): no query attends to another document of its row.

    >>> import torch
    >>> from clozelab.models import document_mask
    >>> document_mask(torch.tensor([[1, 2, 2]]), torch.tensor([[1, 1, 2]]))[0, 0].int()
    tensor([[1, 1, 0],
            [0, 0, 1],
            [0, 0, 1]], dtype=torch.int32)

    Raises `InputError` for ids that are not (B, T) and (B, S).
    """
    _check_pair(query_documents, key_documents, "document ids")
    return query_documents[:, None, :, None] == key_documents[:, None, None, :]


def padding_mask(attention_mask: Tensor) -> Tensor:
    """(B, 1, 1, S) from an attention mask (B, S), 1 = token and 0 = padding: no query attends to a pad.

    >>> import torch
    >>> from clozelab.models import padding_mask
    >>> padding_mask(torch.tensor([[1, 1, 0]])).shape
    torch.Size([1, 1, 1, 3])
    """
    return check_tensor(attention_mask, "attention_mask", "(B, S)")[:, None, None, :] != 0


def _check_pair(of_queries: Tensor, of_keys: Tensor, name: str) -> None:
    check_tensor(of_queries, f"the {name} of the queries", "(B, T)", WHOLE)
    check_tensor(of_keys, f"the {name} of the keys", "(B, S)", WHOLE)
    if len(of_queries) != len(of_keys):
        came = f"{tuple(of_queries.shape)} and {tuple(of_keys.shape)}"
        raise InputError(f"expected {name} (B, T) and (B, S), got {came}")


@dataclass
class AttentionMask:
    """The mask of one attention: a structure that kernels know by name, and what else is hidden.

    Most batches need no matrix at all: causal or full says everything, and the fastest kernels take no other.

    >>> import torch
    >>> from clozelab.models import self_attention_mask
    >>> tokens = torch.zeros(1, 3, dtype=torch.long)
    >>> self_attention_mask(tokens, causal=True, attention_mask=torch.ones(1, 3)).is_structural
    True
    >>> self_attention_mask(tokens, causal=True, attention_mask=torch.tensor([[1, 1, 0]])).matrix[0, 0].int()
    tensor([[1, 0, 0],
            [1, 1, 0],
            [1, 1, 0]], dtype=torch.int32)
    """

    queries: int
    """T."""
    keys: int
    """S; causal queries are the last T of them."""
    causal: bool
    """Causal or full."""
    device: torch.device | None = None
    """Where the matrix is made."""
    mask: Tensor | None = None
    """(B, 1, 1 or T, S): what padding, documents, ranks and groups leave; None where they hide nothing."""
    _matrix = None  # no field: FSDP rebuilds what it passes on from the fields

    @property
    def is_structural(self) -> bool:
        """True where causal or full says everything, and a kernel needs no matrix."""
        return self.mask is None and (not self.causal or self.queries in (1, self.keys))

    @property
    def matrix(self) -> Tensor:
        """(T, S) or (B, 1, T, S) bool, structure and mask together; made once, for all layers."""
        if self._matrix is None:  # `cached_property` holds a lock in Python 3.11, which no compiler can trace
            make = causal_mask if self.causal else full_mask
            structure = make(self.queries, self.keys, self.device)
            self._matrix = structure if self.mask is None else structure & self.mask
        return self._matrix

    def expand(self, batch: int) -> Tensor:
        """(B, T, S): the matrix of each row of a batch."""
        return self.matrix.expand(batch, 1, self.queries, self.keys)[:, 0]


def self_attention_mask(
    tokens: Tensor,
    *,
    causal: bool,
    attention_mask: Tensor | None = None,
    document_ids: Tensor | None = None,
    reading_rank: Tensor | None = None,
    reading_group: Tensor | None = None,
    past: int = 0,
) -> AttentionMask:
    """The mask among tokens (B, T, ...), after `past` more in a cache; flags are (B, T) and combine by "and".

    A `reading_rank` takes the place of the causal order.
    """
    if not isinstance(tokens, Tensor) or tokens.dim() < 2:
        raise InputError(f"expected tokens (B, T, ...), got shape {tuple(getattr(tokens, 'shape', ()))}")
    length = tokens.shape[1]
    masks = [
        None if _all_ones(attention_mask) else padding_mask(attention_mask),  # type: ignore[arg-type]
        None if document_ids is None else document_mask(document_ids, document_ids),
        None if reading_rank is None else rank_mask(reading_rank, reading_rank),
        None if reading_group is None else group_mask(reading_group, reading_group),
    ]
    causal = causal and reading_rank is None
    return AttentionMask(length, past + length, causal, tokens.device, _all_of(masks))


def cross_attention_mask(
    tokens: Tensor,
    encoder_tokens: Tensor,
    attention_mask: Tensor | None = None,
    decoder_document_ids: Tensor | None = None,
    document_ids: Tensor | None = None,
) -> AttentionMask:
    """The mask of decoder tokens (B, T, ...) over encoder tokens (B, S, ...), without order."""
    if min(tokens.dim(), encoder_tokens.dim()) < 2:
        raise InputError(f"expected tokens (B, T, ...), got {tuple(tokens.shape)} and {tuple(encoder_tokens.shape)}")
    masks = [
        None if _all_ones(attention_mask) else padding_mask(attention_mask),  # type: ignore[arg-type]
        None
        if decoder_document_ids is None or document_ids is None
        else document_mask(decoder_document_ids, document_ids),
    ]
    return AttentionMask(tokens.shape[1], encoder_tokens.shape[1], False, tokens.device, _all_of(masks))


def _all_ones(attention_mask: Tensor | None) -> bool:
    """One look at B x S flags (on an accelerator, one wait) buys the kernel without a mask."""
    return attention_mask is None or (not tracing() and bool((attention_mask != 0).all()))


def _all_of(masks: list[Tensor | None]) -> Tensor | None:
    together = None
    for mask in masks:
        if mask is not None:
            together = mask if together is None else together & mask
    return together
