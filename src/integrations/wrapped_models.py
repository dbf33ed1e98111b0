"""Our encoder and our encoder-decoder as models of `transformers`, which has none of the same arithmetic.

Importing this file registers them, so that `AutoModelForMaskedLM` and `AutoModelForSeq2SeqLM` open what
`clozelab.integrations.export` wrote. This file needs `transformers`.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..data.examples import IGNORED, shift_targets
from ..errors import InputError
from ..models import EncoderDecoder, EncoderOnly, ModelConfig

try:
    from transformers import (
        AutoConfig,
        AutoModelForMaskedLM,
        AutoModelForSeq2SeqLM,
        GenerationMixin,
        PreTrainedConfig,
        PreTrainedModel,
    )
    from transformers.modeling_outputs import BaseModelOutput, MaskedLMOutput, Seq2SeqLMOutput
except ImportError as error:
    raise InputError(f"this needs transformers 5 (pip install 'transformers>=5'): {error}") from error


class ClozelabEncoderConfig(PreTrainedConfig):
    """The fields of `ModelConfig`, as `transformers` keeps them."""

    model_type = "clozelab-encoder"
    attribute_map = {  # noqa: RUF012
        "hidden_size": "d_model",
        "intermediate_size": "d_ff",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
    }

    def __init__(
        self,
        vocab_size: int = 4096,
        d_model: int = 128,
        n_layers: int = 4,
        n_heads: int = 4,
        d_ff: int | None = None,
        n_decoder_layers: int | None = None,
        dropout: float = 0.0,
        tied: bool = True,
        cross_rotary: bool = False,
        rotary_base: float = 10_000.0,
        norm_eps: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        self.vocab_size, self.d_model, self.n_layers, self.n_heads = vocab_size, d_model, n_layers, n_heads
        self.d_ff, self.n_decoder_layers, self.tied = d_ff, n_decoder_layers, tied
        self.dropout, self.cross_rotary = dropout, cross_rotary
        self.rotary_base, self.norm_eps = rotary_base, norm_eps
        # Our tied models have one table, so there are no two for `transformers` to tie.
        kwargs["tie_word_embeddings"] = False
        super().__init__(**kwargs)

    @property
    def shape(self) -> ModelConfig:
        """The same shape as our own configuration."""
        return ModelConfig(**{field.name: getattr(self, field.name) for field in fields(ModelConfig)})


class ClozelabEncoderDecoderConfig(ClozelabEncoderConfig):
    """The fields of `ModelConfig`, and the id that starts the decoder."""

    model_type = "clozelab-encoder-decoder"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{"is_encoder_decoder": True, "use_cache": False, **kwargs})


class _Wrapped(PreTrainedModel):
    """One of our models behind the names that `transformers` uses. It draws its own first weights."""

    base_model_prefix = "model"
    config_class = ClozelabEncoderConfig

    def _init_weights(self, module: nn.Module) -> None:
        pass

    def get_input_embeddings(self) -> nn.Module:
        return self.get_submodule("model.embedding")

    def resize_token_embeddings(self, *_: Any, **__: Any) -> nn.Embedding:
        raise InputError("the vocabulary of an exported model does not grow: train with the larger tokenizer")

    def _loss(self, logits: Tensor, labels: Tensor | None, count: Tensor | int | None) -> Tensor | None:
        """The mean over loss positions; divided by `count` where several batches make one step."""
        if labels is None:
            return None
        total = F.cross_entropy(logits.flatten(0, -2).float(), labels.flatten(), reduction="sum", ignore_index=IGNORED)
        return total / ((labels != IGNORED).sum() if count is None else torch.as_tensor(count)).clamp(min=1)


class ClozelabForMaskedLM(_Wrapped):
    """An `EncoderOnly` for `transformers`: `forward(input_ids, attention_mask)` -> `.logits` (B, T, V)."""

    config_class = ClozelabEncoderConfig
    model: EncoderOnly

    def __init__(self, config: ClozelabEncoderConfig) -> None:
        super().__init__(config)
        self.model = EncoderOnly(config.shape)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **_: Any,
    ) -> MaskedLMOutput:
        """With `labels` also `.loss`, the mean over loss positions, of the whole step with `num_items_in_batch`."""
        logits = self.model.unembed(self.model(input_ids, attention_mask, document_ids))  # (B, T, V)
        return MaskedLMOutput(loss=self._loss(logits, labels, num_items_in_batch), logits=logits)


class ClozelabForSeq2SeqLM(_Wrapped, GenerationMixin):
    """An `EncoderDecoder` for `transformers`; `generate` decodes the whole text again for each token."""

    config_class = ClozelabEncoderDecoderConfig
    model: EncoderDecoder

    def __init__(self, config: ClozelabEncoderDecoderConfig) -> None:
        super().__init__(config)
        self.model = EncoderDecoder(config.shape)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        decoder_document_ids: Tensor | None = None,
        encoder_outputs: Any = None,
        labels: Tensor | None = None,
        num_items_in_batch: Tensor | int | None = None,
        **_: Any,
    ) -> Seq2SeqLMOutput:
        """Labels alone are enough: as in T5 the decoder reads them one place later, behind the start id."""
        if decoder_input_ids is None:
            if labels is None:
                raise InputError("expected decoder_input_ids, or labels to make them of")
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        if encoder_outputs is None:
            if input_ids is None:
                raise InputError("expected input_ids, or encoder_outputs that were made of them")
            encoder_outputs = (self.model.encode(input_ids, attention_mask, document_ids),)
        encoder_hidden_states = encoder_outputs[0]  # (B, S, D)
        hidden = self.model.decode(
            decoder_input_ids,
            encoder_hidden_states,
            attention_mask=attention_mask,
            document_ids=document_ids,
            decoder_document_ids=decoder_document_ids,
            decoder_attention_mask=decoder_attention_mask,
        )
        logits = self.model.unembed(hidden)  # (B, T, V)
        loss = self._loss(logits, labels, num_items_in_batch)
        return Seq2SeqLMOutput(loss=loss, logits=logits, encoder_last_hidden_state=encoder_hidden_states)

    def prepare_decoder_input_ids_from_labels(self, labels: Tensor) -> Tensor:
        """The labels one place later, behind the start id."""
        start, pad = self.config.decoder_start_token_id, self.config.pad_token_id
        if start is None or pad is None:
            raise InputError(
                "this model was exported without a tokenizer, so its start id is not known: export it with one, or set "
                "config.decoder_start_token_id and config.pad_token_id"
            )
        return shift_targets(labels.masked_fill(labels == IGNORED, pad), start)

    def get_encoder(self, *_: Any, **__: Any) -> nn.Module:
        """The encoder, as `generate` calls it."""
        return _Encoder(self.model)

    def prepare_inputs_for_generation(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input_ids: Tensor, attention_mask: Tensor | None = None, encoder_outputs: Any = None, **_: Any
    ) -> dict[str, Any]:
        """What `forward` gets for the next token: `input_ids` are those generated so far."""
        return {
            "decoder_input_ids": input_ids,
            "attention_mask": attention_mask,
            "encoder_outputs": encoder_outputs,
            "use_cache": False,
        }


class _Encoder(nn.Module):
    """`EncoderDecoder.encode` as a module of its own; its weights stay those of the model."""

    def __init__(self, model: EncoderDecoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None, **_: Any) -> BaseModelOutput:
        return BaseModelOutput(last_hidden_state=self.model.encode(input_ids, attention_mask))


for config, opener, model in (
    (ClozelabEncoderConfig, AutoModelForMaskedLM, ClozelabForMaskedLM),
    (ClozelabEncoderDecoderConfig, AutoModelForSeq2SeqLM, ClozelabForSeq2SeqLM),
):
    AutoConfig.register(config.model_type, config, exist_ok=True)
    opener.register(config, model, exist_ok=True)
