"""What all three architectures are made of, written once: attention, feed-forward, rotary positions, one block.

Where we differ from GPT-2, BERT and T5, we follow what later models agree on: pre-norm with RMSNorm, rotary positions,
normalised queries and keys, no biases, projections into the residual stream that start at zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import number, of_kind, tensor, whole_number
from ..errors import InputError
from .visibility import Visibility


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model; `dataclasses.asdict` makes it JSON, `ModelConfig(**json)` brings it back.

    >>> ModelConfig(vocab_size=4096).head_size
    32

    Raises `InputError` for sizes that do not fit together.
    """

    vocab_size: int
    """V: ids are 0 .. vocab_size - 1."""
    width: int = 128
    """D: numbers in the residual stream of a token."""
    layers: int = 4
    """Blocks; for an encoder-decoder, those of the encoder."""
    heads: int = 4
    """H: attention heads; each has width / heads numbers, which must be even (rotary positions turn pairs)."""
    feed_forward: int | None = None
    """Inner width of the feed-forward; None: 8/3 x width, which with its gate costs what 4 x width costs without."""
    decoder_layers: int | None = None
    """Blocks of the decoder of an encoder-decoder; None: as many as the encoder. Must be None elsewhere."""
    dropout: float = 0.0
    """Share of what a block adds to the residual stream that is left out in training, for a small corpus seen often."""
    tied: bool = True
    """One table for reading and predicting tokens, instead of two."""
    rotary_base: float = 10_000.0
    """The slowest rotary pair turns once in about 2 pi x this many tokens."""
    norm_eps: float = 1e-6
    """Keeps the norm of a zero vector finite."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "width", "layers", "heads", "feed_forward", "decoder_layers"):
            if getattr(self, name) is not None or name not in ("feed_forward", "decoder_layers"):
                whole_number(getattr(self, name), name, least=1)
        if self.width % (2 * self.heads):
            raise InputError(
                f"width {self.width} must be an even multiple of heads {self.heads}: each head gets width / heads "
                "numbers, and rotary positions turn them in pairs"
            )
        of_kind(self.tied, bool, "tied")
        if not 0.0 <= number(self.dropout, "dropout") < 1.0:
            raise InputError(f"dropout is a share, in [0, 1), got {self.dropout!r}")
        for name in ("rotary_base", "norm_eps"):
            if not 0 < number(getattr(self, name), name) < math.inf:
                raise InputError(f"{name} must be positive and finite, got {getattr(self, name)!r}")

    @property
    def head_size(self) -> int:
        """K."""
        return self.width // self.heads

    @property
    def inner_width(self) -> int:
        """Inner width of the feed-forward, a multiple of 8 where it is not given."""
        return 8 * math.ceil(self.width / 3) if self.feed_forward is None else self.feed_forward


def rms_norm(x: Tensor, eps: float) -> Tensor:
    """x divided by its root mean square over the last axis: direction without length.

    No gain: the matrix that reads the result can hold it, and without one the backward is twice as fast on a CPU.
    Source: Zhang and Sennrich 2019, section 3.
    """
    return F.rms_norm(x, x.shape[-1:], eps=eps)


def rotary(positions: Tensor, head_size: int, base: float = 10_000.0) -> Tensor:
    """Unit complex numbers (T, K/2): how far each pair of a head is turned at positions (T,).

    >>> rotary(torch.tensor([0, 1]), head_size=4)
    tensor([[1.0000+0.0000j, 1.0000+0.0000j],
            [0.5403+0.8415j, 0.9999+0.0100j]])

    Source: Su et al. 2021 (RoFormer), section 3.2.2.
    """
    speeds = base ** -(torch.arange(0, head_size, 2, device=positions.device) / head_size)  # (K/2,) radians a token
    angles = positions[:, None] * speeds  # (T, K/2)
    return torch.polar(torch.ones_like(angles), angles)


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the pairs of x (B, H, T, K) by `rotary`'s numbers (T, K/2): a multiplication of complex numbers.

    The product of a query at t and a key at s then depends on t - s alone. So packed documents need no positions of
    their own, and padding on the left changes nothing.
    """
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))  # (B, H, T, K/2)
    return torch.view_as_real(pairs * turns).flatten(-2).type_as(x)  # (B, H, T, K)


def attention_reference(q: Tensor, k: Tensor, v: Tensor, readable: Tensor | None = None) -> Tensor:
    """What attention is: q (B, H, T, K), k and v (B, H, S, K), who may read whom (B, 1, T, S) -> (B, H, T, K).

    >>> q, k, v = torch.randn(3, 1, 1, 4, 8)
    >>> attention_reference(q, k, v, torch.eye(4, dtype=torch.bool)).equal(v)  # each reads itself alone
    True

    Source: Vaswani et al. 2017, section 3.2.1.
    """
    for name, heads in (("q", q), ("k", k), ("v", v)):
        tensor(heads, name, "(B, H, T, K)")
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)  # (B, H, T, S)
    if readable is None:
        return scores.softmax(-1) @ v
    hide = torch.zeros_like(readable, dtype=q.dtype).masked_fill(~readable, torch.finfo(q.dtype).min)
    said = (scores + hide).softmax(-1) @ v
    return said.masked_fill(~readable.any(-1, keepdim=True), 0)  # who may read nobody gets nothing


def attend(q: Tensor, k: Tensor, v: Tensor, visible: Visibility) -> Tensor:
    """`attention_reference` by the fastest road: the fused kernel, but for short bfloat16 on a CPU."""
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and visible.keys < 512:
        # There the fused kernel is 1.5 to 7 times slower than plain products; at 512 keys they meet.
        return attention_reference(q, k, v, None if visible.by_rule and not visible.causal else visible.matrix)
    if visible.by_rule:
        return F.scaled_dot_product_attention(q, k, v, is_causal=visible.causal and visible.queries > 1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=visible.matrix)


class Cache(dict[nn.Module, tuple[Tensor, Tensor]]):
    """The keys and values (B, H, S, K) that each attention has computed, so that a next token costs one token."""

    length: int = 0
    """Tokens that the decoder has read."""


class Attention(nn.Module):
    """Each token asks (query), all that it may read answer (key, value): x (B, T, D) -> (B, T, D).

    Queries and keys are normalised, so that no score grows beyond sqrt(K) (Dehghani et al. 2023, section 2).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.eps = config.heads, config.norm_eps
        self.query = nn.Linear(config.width, config.width, bias=False)
        self.key = nn.Linear(config.width, config.width, bias=False)
        self.value = nn.Linear(config.width, config.width, bias=False)
        self.output = nn.Linear(config.width, config.width, bias=False)
        nn.init.zeros_(self.output.weight)

    def forward(
        self,
        x: Tensor,
        visible: Visibility,
        turns: Tensor | None = None,
        memory: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Read x itself, turned by `turns` (T, K/2), or a memory (B, S, D) where one is given."""
        q = self._heads(self.query(x))
        past = None if cache is None else cache.get(self)
        if memory is not None and past is not None:
            k, v = past  # the memory does not change
        else:
            source = x if memory is None else memory
            k, v = self._heads(self.key(source)), self._heads(self.value(source))
            k = rms_norm(k, self.eps)
            if turns is not None:
                k = rotate(k, turns)
            if past is not None:
                k, v = torch.cat((past[0], k), -2), torch.cat((past[1], v), -2)
        q = rms_norm(q, self.eps)
        if turns is not None:
            q = rotate(q, turns)
        if cache is not None:
            cache[self] = k, v
        return self.output(attend(q, k, v, visible).transpose(1, 2).flatten(2))  # (B, H, T, K) -> (B, T, D)

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, T, D) -> (B, H, T, K)


class FeedForward(nn.Module):
    """Each token thinks alone, half of it deciding how much of the other half to say: x (B, T, D) -> (B, T, D).

    SwiGLU (Shazeer 2020, section 2). At equal parameters squared ReLU ended within 0.01 nats of it, in the same time
    (`benchmarks/feed_forward.py`).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate = nn.Linear(config.width, config.inner_width, bias=False)
        self.input = nn.Linear(config.width, config.inner_width, bias=False)
        self.output = nn.Linear(config.inner_width, config.width, bias=False)
        nn.init.zeros_(self.output.weight)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, T, D) -> (B, T, D); each token by itself."""
        return self.output(F.silu(self.gate(x)) * self.input(x))


class Block(nn.Module):
    """Read the text, read the encoder's memory if there is one, think; each adds to the residual stream.

    The projections that add to the stream start at zero, so every block starts as the identity.
    """

    def __init__(self, config: ModelConfig, *, reads_memory: bool = False) -> None:
        super().__init__()
        self.eps = config.norm_eps
        self.attention = Attention(config)
        self.cross_attention = Attention(config) if reads_memory else None
        self.feed_forward = FeedForward(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        visible: Visibility,
        turns: Tensor,
        memory: Tensor | None = None,
        memory_visible: Visibility | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        x = x + self.dropout(self.attention(rms_norm(x, self.eps), visible, turns, cache=cache))
        if self.cross_attention is not None:
            assert memory_visible is not None
            said = self.cross_attention(rms_norm(x, self.eps), memory_visible, memory=memory, cache=cache)
            x = x + self.dropout(said)
        return x + self.dropout(self.feed_forward(rms_norm(x, self.eps)))
