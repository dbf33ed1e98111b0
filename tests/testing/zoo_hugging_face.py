"""Models of transformers from small random configurations, and its collators: nothing is downloaded."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from clozelab import CausalLM, FillInTheMiddle, MaskedDiffusion, MaskedLM, SpanCorruption
from clozelab.objectives import Objective
from clozelab.testing import Report, check_objective

from .catalogue_objectives import V
from .zoo import right

IDS = {"vocab_size": V, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
PLACES = {"max_position_embeddings": 128}
BODY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
GPT = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 128}
ROTARY = {**BODY, **PLACES, "num_key_value_heads": 1, "head_dim": 8}
BERT = {**BODY, **PLACES, "type_vocab_size": 1}
SEQ2SEQ = {
    **{f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 1), ("attention_heads", 2))},
    **{"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "decoder_start_token_id": 2, **PLACES},
}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "decoder_start_token_id": 0}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}

DECODERS: dict[str, dict[str, Any]] = {
    # learned positions
    "GPT2LMHeadModel": GPT,
    "GPTBigCodeForCausalLM": GPT,
    "OpenAIGPTLMHeadModel": GPT,
    "GPTNeoForCausalLM": {
        **{"hidden_size": 16, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]},
        **{"window_size": 256, "max_position_embeddings": 128},
    },
    "OPTForCausalLM": {**BODY, **PLACES, "ffn_dim": 32, "word_embed_proj_dim": 16},
    "BioGptForCausalLM": {**BODY, **PLACES},
    "XGLMForCausalLM": {"d_model": 16, "ffn_dim": 32, "num_layers": 1, "attention_heads": 2, **PLACES},
    "CTRLLMHeadModel": {"n_embd": 16, "dff": 32, "n_layer": 1, "n_head": 2, "n_positions": 128},
    # rotary
    "LlamaForCausalLM": ROTARY,
    "MistralForCausalLM": {**ROTARY, "sliding_window": 256},
    "Qwen2ForCausalLM": ROTARY,
    "Qwen3ForCausalLM": ROTARY,
    "GemmaForCausalLM": ROTARY,
    "Gemma2ForCausalLM": {**ROTARY, "query_pre_attn_scalar": 8},
    "PhiForCausalLM": {**BODY, **PLACES},
    "Phi3ForCausalLM": ROTARY,
    "GPTNeoXForCausalLM": {**BODY, **PLACES, "rotary_pct": 0.5},
    "GPTJForCausalLM": {**GPT, "rotary_dim": 4},
    "CodeGenForCausalLM": {**GPT, "n_head": 4, "rotary_dim": 4},
    "StableLmForCausalLM": ROTARY,
    "OlmoForCausalLM": ROTARY,
    "Olmo2ForCausalLM": ROTARY,
    "CohereForCausalLM": ROTARY,
    "GraniteForCausalLM": ROTARY,
    "SmolLM3ForCausalLM": ROTARY,
    "Starcoder2ForCausalLM": ROTARY,
    "MixtralForCausalLM": {**ROTARY, **EXPERTS},
    "OlmoeForCausalLM": {**ROTARY, "num_experts": 2, "num_experts_per_tok": 1},
    # ALiBi
    "BloomForCausalLM": {"hidden_size": 16, "n_layer": 1, "n_head": 2},
    "MptForCausalLM": {"d_model": 16, "n_layers": 1, "n_heads": 2, "max_seq_len": 128},
    "FalconForCausalLM": {**BODY, "alibi": True, "new_decoder_architecture": False},
    # recurrent: they take no attention mask, or do not look at it
    "MambaForCausalLM": {"hidden_size": 16, "num_hidden_layers": 1, "state_size": 4},
    "Mamba2ForCausalLM": {
        **{"hidden_size": 16, "num_hidden_layers": 1, "state_size": 4, "head_dim": 8, "num_heads": 4},
        **{"n_groups": 1, "chunk_size": 16},
    },
    "RecurrentGemmaForCausalLM": {**ROTARY, "num_hidden_layers": 3, "lru_width": 16, "attention_window_size": 128},
    "xLSTMForCausalLM": {"hidden_size": 128, "num_heads": 2, "num_hidden_layers": 1},
}
"""For causal LM."""

ENCODERS: dict[str, dict[str, Any]] = {
    "BertForMaskedLM": BERT,
    "RobertaForMaskedLM": BERT,
    "XLMRobertaForMaskedLM": BERT,
    "AlbertForMaskedLM": {**BERT, "embedding_size": 8},
    "ElectraForMaskedLM": {**BERT, "embedding_size": 8},
    "DistilBertForMaskedLM": {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32, **PLACES},
    "MPNetForMaskedLM": BERT,
    "SqueezeBertForMaskedLM": {
        **BERT,
        **{
            "embedding_size": 16,
            **{f"{x}_groups": 1 for x in ("q", "k", "v", "post_attention", "intermediate", "output")},
        },
    },
    "MegatronBertForMaskedLM": BERT,
    # rotary
    "ModernBertForMaskedLM": {**BODY, **PLACES, "global_attn_every_n_layers": 1, "local_attention": 128},
    "RoFormerForMaskedLM": {**BERT, "embedding_size": 16},
    "EsmForMaskedLM": {**BODY, "max_position_embeddings": 130, "position_embedding_type": "rotary", "mask_token_id": 2},
    # relative
    "DebertaForMaskedLM": {**BERT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "DebertaV2ForMaskedLM": {**BERT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
}
"""For masked LM."""

PADDING_READERS: dict[str, dict[str, Any]] = {
    "ConvBertForMaskedLM": {**BERT, "embedding_size": 16, "num_attention_heads": 4, "conv_kernel_size": 3},
    "NystromformerForMaskedLM": {**BERT, "num_landmarks": 4, "segment_means_seq_len": 4},
}
"""Published encoders whose outputs move with padding: planted faults, as they are (`catalogue_models.py`)."""

SEQ2SEQS: dict[str, dict[str, Any]] = {
    # relative
    "T5ForConditionalGeneration": T5,
    "MT5ForConditionalGeneration": T5,
    "UMT5ForConditionalGeneration": T5,
    "LongT5ForConditionalGeneration": T5,
    "SwitchTransformersForConditionalGeneration": {
        **T5,
        **{"num_experts": 2, "num_sparse_encoder_layers": 0, "num_sparse_decoder_layers": 0},
    },
    # learned
    "BartForConditionalGeneration": SEQ2SEQ,
    "MBartForConditionalGeneration": SEQ2SEQ,
    "LEDForConditionalGeneration": {
        **SEQ2SEQ,
        **{"max_encoder_position_embeddings": 128, "max_decoder_position_embeddings": 128, "attention_window": 64},
    },
    "BlenderbotForConditionalGeneration": SEQ2SEQ,
    # sinusoidal
    "PegasusForConditionalGeneration": {**SEQ2SEQ, "decoder_start_token_id": 0},
    "PegasusXForConditionalGeneration": {**SEQ2SEQ, "decoder_start_token_id": 0, "block_size": 64},
    "MarianMTModel": {**SEQ2SEQ, "decoder_start_token_id": 0},
    "M2M100ForConditionalGeneration": SEQ2SEQ,
}
"""For span corruption."""


def build(name: str, fields: dict[str, Any]) -> torch.nn.Module:
    """A model with random weights; skips where this version of transformers has none of the name."""
    transformers = pytest.importorskip("transformers")
    kind = getattr(transformers, name, None)
    if kind is None:
        pytest.skip(f"transformers {transformers.__version__} has no {name}")
    torch.manual_seed(0)
    return kind(kind.config_class(**{**IDS, **fields}))


def checked(objective: Objective, name: str, fields: dict[str, Any]) -> Report:
    """The kit's report."""
    return check_objective(objective, build(name, fields))


def _add(objective: Objective, names: dict[str, dict[str, Any]], more: str = "") -> None:
    for name, fields in names.items():
        group = f"Hugging Face, {objective.architecture}"
        right(group, name + more, lambda name=name, fields=fields: checked(objective, name, fields), slow=True)


_add(CausalLM(), DECODERS)
_add(MaskedLM(), ENCODERS)
_add(SpanCorruption(), SEQ2SEQS)
_add(FillInTheMiddle(), {name: DECODERS[name] for name in ("GPT2LMHeadModel", "LlamaForCausalLM")}, ", middle")
_add(MaskedDiffusion(), {name: ENCODERS[name] for name in ("BertForMaskedLM", "ModernBertForMaskedLM")}, ", diffusion")
