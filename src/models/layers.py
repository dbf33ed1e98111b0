"""The layers that all architectures share, written once: attention, feed-forward, rotary positions, one block.

Where we differ from GPT-2, BERT and T5, we follow what later models agree on: pre-norm with RMSNorm, rotary positions,
normalised queries and keys, no biases, projections into the residual stream that start at zero.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import FLAGS, REAL, check_tensor
from ..device import has_complex
from .attention_mask import AttentionMask
from .config import ModelConfig


def rms_norm(x: Tensor, eps: float) -> Tensor:
    """RMSNorm without a gain: x divided by its root mean square over the last axis.

    The matrix that follows can hold the gain, and without one the backward is twice as fast on a CPU.
    Source: Zhang and Sennrich 2019, section 4.
    """
    return F.rms_norm(x, x.shape[-1:], eps=eps)


def rotary_freqs(positions: Tensor, d_head: int, base: float = 10_000.0, dtype: torch.dtype = torch.float32) -> Tensor:
    """(..., K/2, 2): cosine and sine of the angle by which each pair of a head is rotated at positions (...).

    >>> import torch
    >>> from clozelab.models.layers import rotary_freqs
    >>> rotary_freqs(torch.tensor([1]), d_head=4)
    tensor([[[0.5403, 0.8415],
             [0.9999, 0.0100]]])

    Source: Su et al. 2021 (RoFormer), section 3.2.2.
    """
    pairs = torch.arange(0, d_head, 2, device=positions.device, dtype=dtype)
    speeds = base ** -(pairs / d_head)  # (K/2,) radians a token
    angles = positions[..., None] * speeds  # (..., K/2)
    return torch.stack((angles.cos(), angles.sin()), -1)


def apply_rotary(x: Tensor, freqs: Tensor) -> Tensor:
    """Rotate the pairs of x (B, H, T, K) by `rotary_freqs` (T, K/2, 2) or (B, 1, T, K/2, 2).

    The product of a query at t and a key at s then depends on t - s alone. So packed documents need no positions of
    their own, and padding on the left changes nothing.

    It is a complex multiplication, one pass over the memory in place of six: on a processor three times as fast as
    real numbers. torch.compile joins the six into one kernel, and has none for complex numbers; nor has MPS.
    """
    pairs = x.to(torch.promote_types(x.dtype, torch.float32)).unflatten(-1, (-1, 2))  # (B, H, T, K/2, 2)
    if has_complex(x.device) and not torch.compiler.is_compiling():
        rotated = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(freqs))
    else:
        (a, b), (cos, sin) = pairs.unbind(-1), freqs.unbind(-1)
        rotated = torch.stack((a * cos - b * sin, a * sin + b * cos), -1)
    return rotated.flatten(-2).type_as(x)


def attention_reference(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention by its definition: q (B, H, T, K), k and v (B, H, S, K), mask (B, 1, T, S) bool -> (B, H, T, K).

    >>> import torch
    >>> from clozelab.models import attention_reference
    >>> q, k, v = torch.randn(3, 1, 1, 4, 8)
    >>> attention_reference(q, k, v, torch.eye(4, dtype=torch.bool)).equal(v)  # each attends to itself alone
    True

    Source: Vaswani et al. 2017, section 3.2.1.
    """
    for name, heads in (("q", q), ("k", k), ("v", v)):
        check_tensor(heads, name, "(B, H, T, K)", REAL)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (B, H, T, S)
    if mask is not None:
        check_tensor(mask, "the mask", "(..., T, S)", FLAGS)
    if mask is None:
        return scores.softmax(-1) @ v
    hide = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, torch.finfo(q.dtype).min)
    mixed = (scores + hide).softmax(-1) @ v
    return mixed.masked_fill(~mask.any(-1, keepdim=True), 0)  # a query that may attend to nothing outputs zero


def attend(q: Tensor, k: Tensor, v: Tensor, mask: AttentionMask) -> Tensor:
    """`attention_reference` with the fastest kernel: the fused one, except for short bfloat16 on a CPU."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and mask.keys < 512:
        # There the fused kernel is 1.5 to 7 times slower than plain products; at 512 keys they meet.
        return attention_reference(q, k, v, None if mask.is_structural and not mask.causal else mask.matrix)
    if not mask.is_structural:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask.matrix)
    if mask.causal and mask.queries > 1:  # a branch: where torch.compile has any length, a comparison is no bool
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return F.scaled_dot_product_attention(q, k, v)


class Cache(dict[nn.Module, tuple[Tensor, Tensor]]):
    """The keys and values (B, H, S, K) that each attention has computed, so that a next token costs one token."""

    length: int = 0
    """Tokens that the decoder has read."""


class Attention(nn.Module):
    """Multi-head attention with normalised queries and keys: x (B, T, D) -> (B, T, D).

    Normalised, no score grows beyond sqrt(K) (Dehghani et al. 2023, section 2).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_heads, self.eps = config.n_heads, config.norm_eps
        self.query = nn.Linear(config.d_model, config.d_model, bias=False)
        self.key = nn.Linear(config.d_model, config.d_model, bias=False)
        self.value = nn.Linear(config.d_model, config.d_model, bias=False)
        self.output = nn.Linear(config.d_model, config.d_model, bias=False)
        nn.init.zeros_(self.output.weight)

    def forward(
        self,
        x: Tensor,
        mask: AttentionMask,
        freqs: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        cache: Cache | None = None,
        key_freqs: Tensor | None = None,
    ) -> Tensor:
        """Self-attention under rotary `freqs`; cross-attention where `encoder_hidden_states` (B, S, D) are given.

        Then `key_freqs` rotate the encoder's keys, and `freqs` the queries alone; both None: without positions.
        """
        q = self._split_heads(self.query(x))
        past = None if cache is None else cache.get(self)
        if encoder_hidden_states is not None and past is not None:
            k, v = past  # the encoder's states do not change
        else:
            source = x if encoder_hidden_states is None else encoder_hidden_states
            k, v = self._split_heads(self.key(source)), self._split_heads(self.value(source))
            k = rms_norm(k, self.eps)
            key_freqs = freqs if encoder_hidden_states is None else key_freqs
            if key_freqs is not None:
                k = apply_rotary(k, key_freqs)
            if past is not None:
                k, v = torch.cat((past[0], k), -2), torch.cat((past[1], v), -2)
        q = rms_norm(q, self.eps)
        if freqs is not None:
            q = apply_rotary(q, freqs)
        if cache is not None:
            cache[self] = k, v
        return self.output(attend(q, k, v, mask).transpose(1, 2).flatten(2))  # (B, H, T, K) -> (B, T, D)

    def _split_heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, T, D) -> (B, H, T, K)


class FeedForward(nn.Module):
    """SwiGLU feed-forward, position by position: x (B, T, D) -> (B, T, D).

    Source: Shazeer 2020, section 2. At equal parameters squared ReLU ended within 0.01 nats of it, in the same time
    (`benchmarks/feed_forward.py`).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.d_model, config.feed_forward_size, bias=False)
        self.input = nn.Linear(config.d_model, config.feed_forward_size, bias=False)
        self.output = nn.Linear(config.feed_forward_size, config.d_model, bias=False)
        nn.init.zeros_(self.output.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        return self.output(F.silu(self.gate(x)) * self.input(x))


class Block(nn.Module):
    """Self-attention, cross-attention if there is an encoder, feed-forward; each adds to the residual stream.

    The projections into the residual stream start at zero, so every block starts as the identity.
    """

    def __init__(self, config: ModelConfig, *, cross_attention: bool = False) -> None:
        super().__init__()
        self.eps = config.norm_eps
        self.attention = Attention(config)
        self.cross_attention = Attention(config) if cross_attention else None
        self.feed_forward = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        mask: AttentionMask,
        freqs: Tensor,
        encoder_hidden_states: Tensor | None = None,
        encoder_mask: AttentionMask | None = None,
        cache: Cache | None = None,
        encoder_freqs: Tensor | None = None,
    ) -> Tensor:
        """x (B, T, D) -> (B, T, D); cross-attention has positions where there are `encoder_freqs`."""
        x = x + self.dropout(self.attention(rms_norm(x, self.eps), mask, freqs, cache=cache))
        if self.cross_attention is not None:
            assert encoder_mask is not None
            query_freqs = None if encoder_freqs is None else freqs
            crossed = self.cross_attention(
                rms_norm(x, self.eps), encoder_mask, query_freqs, encoder_hidden_states, cache, encoder_freqs
            )
            x = x + self.dropout(crossed)
        return x + self.dropout(self.feed_forward(rms_norm(x, self.eps)))
