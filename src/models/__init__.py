"""Read: one block under one attention mask, in three arrangements.

|  | `DecoderOnly` | `EncoderOnly` | `EncoderDecoder` |
|---|---|---|---|
| a token attends to | before it, or by rank | both sides | both sides; the decoder: before it, and the encoder |
| canonical model | GPT | BERT | T5 |

Models never see labels: they return hidden states (B, T, D) and own an `unembedding` (V, D). A model with several
outputs returns {name: Prediction} instead (`clozelab.objectives`).
"""

from ..doors import explain_errors
from .attention_mask import (
    AttentionMask,
    causal_mask,
    cross_attention_mask,
    document_mask,
    full_mask,
    group_mask,
    padding_mask,
    rank_mask,
    self_attention_mask,
)
from .config import ModelConfig
from .encoder_decoder import EncoderDecoder
from .generator_discriminator import GeneratorDiscriminator
from .language_model import LanguageModel, Prediction, eval_mode
from .layers import Cache, attention_reference
from .multi_token import MultiTokenDecoder
from .presets import ARCHITECTURES, PRESETS, build, model_config
from .span_boundary import SpanBoundaryEncoder
from .token_order import TokenOrderDecoder
from .transformer import DecoderOnly, EncoderOnly, Transformer

__all__ = [
    "ARCHITECTURES",
    "PRESETS",
    "AttentionMask",
    "Cache",
    "DecoderOnly",
    "EncoderDecoder",
    "EncoderOnly",
    "GeneratorDiscriminator",
    "LanguageModel",
    "ModelConfig",
    "MultiTokenDecoder",
    "Prediction",
    "SpanBoundaryEncoder",
    "TokenOrderDecoder",
    "Transformer",
    "attention_reference",
    "build",
    "causal_mask",
    "cross_attention_mask",
    "document_mask",
    "eval_mode",
    "full_mask",
    "group_mask",
    "model_config",
    "padding_mask",
    "rank_mask",
    "self_attention_mask",
]

explain_errors(__name__)
