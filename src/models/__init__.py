"""Read: one block, three arrangements.

|  | `DecoderOnly` | `EncoderOnly` | `EncoderDecoder` |
|---|---|---|---|
| a token reads | what came before it | both sides | both sides; the decoder's, before it and the encoder |
| speaks through | `generate` | `fill_masks` | `fill_spans` |
| canonical model | GPT | BERT | T5 |

Models never see labels: they return hidden states (B, T, D) and own an `unembedding` (V, D).
"""

from .decoder_only import DecoderOnly
from .encoder_decoder import EncoderDecoder
from .encoder_only import EncoderOnly
from .generation import ORDERS, Sampling, fill_masks, fill_spans, generate, sample_token, token_chances
from .language_model import LanguageModel, measuring
from .layers import Cache, ModelConfig, attention_reference
from .presets import ARCHITECTURES, PRESETS, build, model_config
from .visibility import Visibility, causal, full, prefix, real, within_documents

__all__ = [
    "ARCHITECTURES",
    "ORDERS",
    "PRESETS",
    "Cache",
    "DecoderOnly",
    "EncoderDecoder",
    "EncoderOnly",
    "LanguageModel",
    "ModelConfig",
    "Sampling",
    "Visibility",
    "attention_reference",
    "build",
    "causal",
    "fill_masks",
    "fill_spans",
    "full",
    "generate",
    "measuring",
    "model_config",
    "prefix",
    "real",
    "sample_token",
    "token_chances",
    "within_documents",
]
