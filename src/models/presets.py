"""Named sizes."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ..errors import InputError
from .config import ModelConfig
from .encoder_decoder import EncoderDecoder
from .transformer import DecoderOnly, EncoderOnly

ARCHITECTURES: dict[str, type[DecoderOnly] | type[EncoderOnly] | type[EncoderDecoder]] = {
    "decoder-only": DecoderOnly,
    "encoder-only": EncoderOnly,
    "encoder-decoder": EncoderDecoder,
}
"""The three, by name: `ARCHITECTURES[model.architecture](model.config)` makes the same shape again."""

_TRANSFORMER = {
    "tiny": {"d_model": 128, "n_layers": 4, "n_heads": 4},  # 0.8 M, and 0.5 M for a vocabulary of 4096
    "small": {"d_model": 384, "n_layers": 6, "n_heads": 6},  # 10.6 M, and 1.6 M
    "base": {"d_model": 768, "n_layers": 12, "n_heads": 12},  # 84.9 M: GPT-2 small and BERT-base
}

PRESETS: dict[str, dict[str, dict[str, int]]] = {
    "decoder-only": _TRANSFORMER,
    "encoder-only": _TRANSFORMER,
    # A decoder block also has a cross-attention, so 4 blocks here weigh what 4 2/3 blocks weigh above.
    "encoder-decoder": {
        "tiny": {"d_model": 128, "n_layers": 2, "n_decoder_layers": 2, "n_heads": 4},  # 0.9 M, and 0.5 M
        "small": {"d_model": 384, "n_layers": 3, "n_decoder_layers": 2, "n_heads": 6},  # 10.0 M, and 1.6 M
        "base": {"d_model": 768, "n_layers": 12, "n_decoder_layers": 12, "n_heads": 12},  # 198.2 M: T5-base
    },
}
"""Fields of `ModelConfig` by architecture and size."""


def model_config(architecture: str, size: str, vocab_size: int, **overrides: Any) -> ModelConfig:
    """The shape of a named size; `overrides` are fields of `ModelConfig`.

    >>> from clozelab.models import model_config
    >>> model_config("encoder-only", "tiny", 4096, n_layers=2).n_layers
    2

    Raises `InputError` for names and fields that do not exist.
    """
    if not isinstance(architecture, str) or architecture not in PRESETS:
        raise InputError(f"architecture must be one of {', '.join(PRESETS)}, got {architecture!r}")
    if not isinstance(size, str) or size not in PRESETS[architecture]:
        raise InputError(f"size must be one of {', '.join(PRESETS[architecture])}, got {size!r}")
    unknown = overrides.keys() - {field.name for field in fields(ModelConfig)}
    if unknown:
        known = ", ".join(field.name for field in fields(ModelConfig))
        raise InputError(f"a model has no {', '.join(sorted(unknown))}; what can be set is {known}")
    settings: dict[str, Any] = {**PRESETS[architecture][size], "vocab_size": vocab_size, **overrides}
    return ModelConfig(**settings)


def build(
    architecture: str, size: str = "tiny", vocab_size: int = 4096, **overrides: Any
) -> DecoderOnly | EncoderOnly | EncoderDecoder:
    """A fresh model of a named size. Its weights come from the global random state, as PyTorch's layers do.

    >>> from clozelab.models import build
    >>> build("decoder-only", "tiny", vocab_size=4096).parameter_count()
    1314816

    Raises `InputError` for names and fields that do not exist.
    """
    config = model_config(architecture, size, vocab_size, **overrides)
    return ARCHITECTURES[architecture](config)
