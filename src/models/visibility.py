"""Who may read whom: bool masks, True = may read, for T queries (rows) and S keys (columns).

Everything that tells the three architectures apart, but for one cross-attention, is in this file:

    causal(4)    full(4, 4)    prefix(4, 2)    within_documents of 1 1 2 2
    x . . .      x x x x       x x . .         x x . .
    x x . .      x x x x       x x . .         x x . .
    x x x .      x x x x       x x x .         . . x x
    x x x x      x x x x       x x x x         . . x x

Masks broadcast to (B, 1, T, S), one for all heads, and combine with `&`. Padding hides *columns*: nobody reads a
pad. Hiding its row as well would gain nothing, since nobody reads what stands there.

A row may still be empty: a pad to the left of a causal text, or a decoder's document that the encoder does not
hold. Such a query reads nothing and gets nothing: its attention is zero, not the NaN of a softmax over nothing, and
not the average of what it must not see. `F.scaled_dot_product_attention` keeps this promise, and so does
`attention_reference`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..checks import WHOLE, tensor, whole_number
from ..errors import InputError


def causal(queries: int, keys: int | None = None, device: torch.device | None = None) -> Tensor:
    """(T, S): each reads itself and what came before it; the T queries are the last T of the S keys.

    >>> causal(3).int()
    tensor([[1, 0, 0],
            [1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    >>> causal(1, 3).int()  # a third token, after two that a cache remembers
    tensor([[1, 1, 1]], dtype=torch.int32)

    Raises `InputError` for more queries than keys. Source: Vaswani et al. 2017, section 3.2.3.
    """
    queries = whole_number(queries, "the number of queries", 0)
    keys = queries if keys is None else whole_number(keys, "the number of keys", 0)
    if keys < queries:
        raise InputError(f"causal queries are the last of the keys, but there are {queries} queries and {keys} keys")
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def full(queries: int, keys: int, device: torch.device | None = None) -> Tensor:
    """(T, S): everyone reads everyone.

    >>> full(2, 3).all()
    tensor(True)

    Source: Devlin et al. 2019 (BERT), section 3.
    """
    queries, keys = whole_number(queries, "the number of queries", 0), whole_number(keys, "the number of keys", 0)
    return torch.ones(queries, keys, dtype=torch.bool, device=device)


def prefix(length: int, prefix_length: int | Tensor) -> Tensor:
    """(T, T), or (B, 1, T, T) for prefix lengths (B,): both ways inside the prefix, from the left after it.

    >>> prefix(3, 2).int()
    tensor([[1, 1, 0],
            [1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)

    Raises `InputError` for a prefix that is longer than the text. Source: Raffel et al. 2020 (T5), section 3.2.1.
    """
    length = whole_number(length, "the length", 0)
    if not isinstance(prefix_length, Tensor):
        prefix_length = torch.tensor(whole_number(prefix_length, "the length of the prefix"))
    lengths = tensor(prefix_length, "the lengths of the prefixes", "(...)", WHOLE)
    if lengths.numel() and not (int(lengths.min()) >= 0 and int(lengths.max()) <= length):
        raise InputError(f"a prefix of {length} tokens has 0 to {length} tokens, got {prefix_length}")
    inside = torch.arange(length, device=lengths.device) < lengths[..., None]  # (T) or (B, T)
    readable = causal(length, device=lengths.device) | inside[..., None, :]  # (T, T) or (B, T, T)
    return readable if lengths.dim() == 0 else readable[:, None]  # (B, 1, T, T)


def within_documents(query_documents: Tensor, key_documents: Tensor) -> Tensor:
    """(B, 1, T, S) from document ids (B, T) and (B, S): nobody reads another document of the same row.

    >>> within_documents(torch.tensor([[1, 2, 2]]), torch.tensor([[1, 1, 2]]))[0, 0].int()
    tensor([[1, 1, 0],
            [0, 0, 1],
            [0, 0, 1]], dtype=torch.int32)

    Raises `InputError` for ids that are not (B, T) and (B, S).
    """
    tensor(query_documents, "query_documents", "(..., T)")
    tensor(key_documents, "key_documents", "(..., S)")
    if query_documents.dim() != 2 or key_documents.dim() != 2 or len(query_documents) != len(key_documents):
        came = f"{tuple(query_documents.shape)} and {tuple(key_documents.shape)}"
        raise InputError(f"expected document ids (B, T) and (B, S), got {came}")
    return query_documents[:, None, :, None] == key_documents[:, None, None, :]


def real(attention_mask: Tensor) -> Tensor:
    """(B, 1, 1, S) from an attention mask (B, S), 1 = real and 0 = padding: nobody reads a pad.

    >>> real(torch.tensor([[1, 1, 0]])).shape
    torch.Size([1, 1, 1, 3])
    """
    return tensor(attention_mask, "attention_mask", "(B, S)")[:, None, None, :] != 0


@dataclass(frozen=True)
class Visibility:
    """Who may read whom in one attention: a rule that kernels know by name, and what else is hidden.

    Most batches need no mask at all: `causal` or full says everything, and the fastest kernels take no other.

    >>> Visibility.of(3, 3, causal=True, attention_mask=torch.ones(1, 3)).by_rule
    True
    >>> Visibility.of(3, 3, causal=True, attention_mask=torch.tensor([[1, 1, 0]])).matrix[0, 0].int()
    tensor([[1, 0, 0],
            [1, 1, 0],
            [1, 1, 0]], dtype=torch.int32)
    """

    queries: int
    """T."""
    keys: int
    """S; the queries of a causal rule are the last T of them."""
    causal: bool
    """The rule: from the left, or both sides."""
    device: torch.device | None = None
    """Where the masks are made."""
    readable: Tensor | None = None
    """(B, 1, 1 or T, S): what padding and documents leave, on top of the rule; None where they hide nothing."""

    @classmethod
    def of(
        cls,
        queries: int,
        keys: int,
        *,
        causal: bool,
        device: torch.device | None = None,
        attention_mask: Tensor | None = None,
        query_documents: Tensor | None = None,
        key_documents: Tensor | None = None,
    ) -> Visibility:
        """The rule together with padding (B, S) and documents (B, T) and (B, S)."""
        queries, keys = whole_number(queries, "the number of queries", 0), whole_number(keys, "the number of keys", 0)
        if causal and keys < queries:
            raise InputError(f"causal queries are the last of the keys, but there are {queries} and {keys} keys")
        for name, flags, length in (
            ("attention_mask", attention_mask, keys),
            ("query_documents", query_documents, queries),
            ("key_documents", key_documents, keys),
        ):
            if flags is not None and tensor(flags, name, "(B, T)").shape[1] != length:
                raise InputError(f"expected {name} of {length} tokens, got shape {tuple(flags.shape)}")
        readable = None
        # One look at B x S flags (and on an accelerator one wait) buys the kernel without a mask.
        if attention_mask is not None and not bool((attention_mask != 0).all()):
            readable = real(attention_mask)
        if query_documents is not None and key_documents is not None:
            same = within_documents(query_documents, key_documents)
            readable = same if readable is None else readable & same
        return cls(queries, keys, causal, device, readable)

    @property
    def by_rule(self) -> bool:
        """True where the rule alone says it, and a kernel needs no mask."""
        return self.readable is None and (not self.causal or self.queries in (1, self.keys))

    @cached_property
    def matrix(self) -> Tensor:
        """The whole truth as a bool mask (T, S) or (B, 1, T, S)."""
        rule = (
            causal(self.queries, self.keys, self.device) if self.causal else full(self.queries, self.keys, self.device)
        )
        return rule if self.readable is None else rule & self.readable

    def matrix_of(self, batch: int) -> Tensor:
        """(B, T, S): the matrix of each row of a batch."""
        return self.matrix.expand(batch, 1, self.queries, self.keys)[:, 0]


def among(
    tokens: Tensor,
    *,
    causal: bool,
    attention_mask: Tensor | None = None,
    document_ids: Tensor | None = None,
    past: int = 0,
) -> Visibility:
    """The visibility of self-attention among tokens (B, T, ...), after `past` more that a cache remembers."""
    return Visibility.of(
        tokens.shape[1],
        past + tokens.shape[1],
        causal=causal,
        device=tokens.device,
        attention_mask=attention_mask,
        query_documents=document_ids,
        key_documents=document_ids,
    )
