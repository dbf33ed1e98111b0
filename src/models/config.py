"""The shape of a model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..checks import check_int, check_number, check_type
from ..errors import InputError


@dataclass
class ModelConfig:
    """The shape of a model; `dataclasses.asdict` makes it JSON, `ModelConfig(**json)` brings it back.

    It is not frozen: Hugging Face's Trainer writes `use_cache` into the configuration of the model that it trains.

    >>> from clozelab.models import ModelConfig
    >>> ModelConfig(vocab_size=4096).d_head
    32

    Raises `InputError` for sizes that do not fit together.
    """

    vocab_size: int
    """V: ids are 0 .. vocab_size - 1."""
    d_model: int = 128
    """D: the width of the residual stream."""
    n_layers: int = 4
    """Blocks; for an encoder-decoder, those of the encoder."""
    n_heads: int = 4
    """H: attention heads of d_model / n_heads numbers each, an even number (rotary positions rotate pairs)."""
    d_ff: int | None = None
    """Inner width of the feed-forward; None: 8/3 d_model, which with its gate costs what 4 d_model cost without."""
    n_decoder_layers: int | None = None
    """Blocks of the decoder of an encoder-decoder; None: as many as the encoder has. Must be None elsewhere."""
    dropout: float = 0.0
    """Dropout probability of what a block adds to the residual stream."""
    tied: bool = True
    """One table for embedding and unembedding instead of two."""
    cross_rotary: bool = False
    """Rotary positions in the cross-attention of an encoder-decoder too, for a decoder that writes the text that the
    encoder reads; T5 has none there. Must be False elsewhere."""
    rotary_base: float = 10_000.0
    """The slowest rotary pair completes a turn in about 2 pi x this many tokens."""
    norm_eps: float = 1e-6
    """Keeps the norm of a zero vector finite."""

    def __post_init__(self) -> None:
        for name in ("vocab_size", "d_model", "n_layers", "n_heads", "d_ff", "n_decoder_layers"):
            if getattr(self, name) is not None or name not in ("d_ff", "n_decoder_layers"):
                check_int(getattr(self, name), name, 1, 2**40)
        if self.d_model % (2 * self.n_heads):
            raise InputError(
                f"d_model {self.d_model} must be an even multiple of n_heads {self.n_heads}: each head gets "
                "d_model / n_heads numbers, and rotary positions rotate them in pairs"
            )
        check_type(self.tied, bool, "tied")
        check_type(self.cross_rotary, bool, "cross_rotary")
        if not 0.0 <= check_number(self.dropout, "dropout") < 1.0:
            raise InputError(f"dropout is a probability in [0, 1), got {self.dropout!r}")
        for name in ("rotary_base", "norm_eps"):
            if not 0 < check_number(getattr(self, name), name) < math.inf:
                raise InputError(f"{name} must be positive and finite, got {getattr(self, name)!r}")

    @property
    def d_head(self) -> int:
        """K: the width of one head."""
        return self.d_model // self.n_heads

    @property
    def feed_forward_size(self) -> int:
        """F: the inner width of the feed-forward, a multiple of 8 where `d_ff` is None."""
        return 8 * math.ceil(self.d_model / 3) if self.d_ff is None else self.d_ff
