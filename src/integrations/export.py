"""Take a trained model to Hugging Face: a folder that `transformers` opens with `AutoModelFor...from_pretrained`.

|  | `DecoderOnly` | `EncoderOnly` | `EncoderDecoder` |
|---|---|---|---|
| becomes | `Qwen3ForCausalLM`, which is the same arithmetic | `ClozelabForMaskedLM` | `ClozelabForSeq2SeqLM` |
| opens with | `AutoModelForCausalLM` | `AutoModelForMaskedLM` | `AutoModelForSeq2SeqLM` |
| needs | `transformers` alone | `import clozelab.integrations.export` first | the same |
| generates | with its cache | - | without a cache |

Qwen3 is our decoder with a gain in every norm (1 here) and another order of the numbers in a head: it rotates number k
together with number k + K/2, we rotate neighbours. Nothing in `transformers` 5.23 matches the other two: no encoder
there has norms on queries and keys without a gate or further norms (EuroBERT, ESM-C and NeoMME come nearest), and no
encoder-decoder has them in a cross-attention without positions (T5 has none, T5Gemma 2 merges its two attentions).

The folder holds safetensors and JSON, no code and no pickle. This file needs `transformers`.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from ..checks import check_path, check_type
from ..data.tokenizers.adapted import AdaptedTokenizer
from ..errors import InputError
from ..models import DecoderOnly, EncoderDecoder, EncoderOnly
from ..objectives import Objective
from .wrapped_models import (
    ClozelabEncoderConfig,
    ClozelabEncoderDecoderConfig,
    ClozelabForMaskedLM,
    ClozelabForSeq2SeqLM,
)

try:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
except ImportError as error:
    raise InputError(f"this needs transformers 5 (pip install 'transformers>=5'): {error}") from error

if TYPE_CHECKING:
    from ..data.tokenizers.tokenizer import Tokenizer


def export(objective: Objective, model: nn.Module, folder: str | Path, tokenizer: Tokenizer | None = None) -> Path:
    """Write a model, and its tokenizer where one is given, for `transformers` to open; returns the folder.

    Logits are those of `model.unembed(model(...))`, except at pads on the left, which may attend to nothing and for
    which some attention kernels of `transformers` compute something else. The folder is written beside its place and
    renamed into it, so that it is there whole or not at all.

    With a tokenizer, the ids of pad, end of text and decoder start enter the configuration. `AutoTokenizer` gives the
    same ids as ours with one exception: there the characters `<mask>` in a text become the mask token, for ours they
    are text.

    Raises `InputError` for an objective whose model `transformers` cannot represent (`Objective.export_refusal`), a
    model that the objective does not train, a folder that is not empty, and a tokenizer with more ids than the model;
    `OSError` for a full disk.
    """
    check_type(objective, Objective, "the objective")
    if objective.export_refusal is not None:
        raise InputError(f"a model of the {objective.name} objective cannot be exported: {objective.export_refusal}")
    folder = check_path(folder, "the folder")
    if not isinstance(model, (DecoderOnly, EncoderOnly, EncoderDecoder)):
        raise InputError(f"expected a DecoderOnly, EncoderOnly or EncoderDecoder, got {type(model).__name__}")
    if model.architecture != objective.architecture:
        raise InputError(
            f"{objective.name} needs a model that is {objective.architecture}, got one that is {model.architecture}"
        )
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} exists already and is not an empty folder: choose another, or delete it first")
    if tokenizer is not None and tokenizer.vocab_size > model.config.vocab_size:
        raise InputError(
            f"the tokenizer has {tokenizer.vocab_size} ids, the model {model.config.vocab_size}: do they belong to "
            "the same run?"
        )
    converted = _converted(model, tokenizer)
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        converted.save_pretrained(beside)
        if tokenizer is not None:
            _transformers_tokenizer(tokenizer).save_pretrained(beside)
        beside.chmod(0o777 & ~_umask())
        os.replace(beside, folder)  # an empty folder gives way
    except SafetensorError as error:  # what safetensors raises for a full disk
        shutil.rmtree(beside, ignore_errors=True)
        raise OSError(f"could not write {folder}: {error}") from error
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return folder


_QWEN3 = {
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.input": "mlp.up_proj",
    "feed_forward.output": "mlp.down_proj",
}
"""The names of our projections in `transformers`."""


def _qwen3(model: DecoderOnly, ids: dict[str, Any]) -> Qwen3ForCausalLM:
    config = model.config
    qwen3 = Qwen3Config(
        vocab_size=config.vocab_size,
        hidden_size=config.d_model,
        intermediate_size=config.feed_forward_size,
        num_hidden_layers=config.n_layers,
        num_attention_heads=config.n_heads,
        num_key_value_heads=config.n_heads,
        head_dim=config.d_head,
        hidden_act="silu",
        rms_norm_eps=config.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": config.rotary_base},
        tie_word_embeddings=config.tied,
        **ids,
    )
    with torch.random.fork_rng(devices=[]):  # its constructor draws weights, which are replaced below
        converted = Qwen3ForCausalLM(qwen3)
    nn.Module.to(converted, model.embedding.weight.dtype)
    weights = {"model.embed_tokens.weight": model.embedding.weight, "lm_head.weight": model.unembedding}
    for name, weight in model.blocks.state_dict().items():  # "0.attention.query.weight"
        layer, part = name.removesuffix(".weight").split(".", 1)
        rotary = part in ("attention.query", "attention.key")
        weights[f"model.layers.{layer}.{_QWEN3[part]}.weight"] = _halves(weight, config.n_heads) if rotary else weight
    weights |= {name: torch.ones_like(gain) for name, gain in converted.state_dict().items() if "norm" in name}
    converted.load_state_dict(weights)
    return converted


def _halves(weight: Tensor, n_heads: int) -> Tensor:
    """The rows (H K, D) of a projection, in each head first the even ones and then the odd ones.

    Neighbours 2k and 2k + 1, which we rotate as one complex number, move to k and k + K/2, which Qwen3 rotates.
    """
    rows = weight.unflatten(0, (n_heads, -1, 2))  # (H, K/2, 2, D)
    return rows.transpose(1, 2).flatten(0, 2)  # (H K, D)


def _converted(model: DecoderOnly | EncoderOnly | EncoderDecoder, tokenizer: Tokenizer | None) -> PreTrainedModel:
    special = None if tokenizer is None else tokenizer.special
    ids: dict[str, Any] = {} if special is None else {"pad_token_id": special.pad, "eos_token_id": special.eos}
    if isinstance(model, DecoderOnly):
        return _qwen3(model, ids)
    shape: dict[str, Any] = asdict(model.config)
    with torch.random.fork_rng(devices=[]):
        if isinstance(model, EncoderOnly):
            wrapped = ClozelabForMaskedLM(ClozelabEncoderConfig(**shape, **ids))
        else:
            ids |= {} if special is None else {"decoder_start_token_id": special["decoder_start"]}
            wrapped = ClozelabForSeq2SeqLM(ClozelabEncoderDecoderConfig(**shape, **ids))
    wrapped.model.to(model.embedding.weight.dtype).load_state_dict(model.state_dict())
    return wrapped


def _transformers_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    if isinstance(tokenizer, AdaptedTokenizer):
        raise InputError("expected a tokenizer that a tokenizer.json can hold, got one that an adapter asks")
    special = tokenizer.special
    named = {"pad_token": special.pad, "eos_token": special.eos, "mask_token": special.mask}
    backend = tokenizer.backend.from_str(tokenizer.backend.to_str())  # a copy: `transformers` changes it
    roles = [one for role, one in special.roles.items() if role != "decoder_start" and one not in named.values()]
    extra = [*special.sentinels, *roles]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        **{name: backend.id_to_token(one) for name, one in named.items() if one is not None},
        extra_special_tokens=[backend.id_to_token(one) for one in extra],
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
