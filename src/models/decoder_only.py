"""Read from the left: GPT."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import InputError
from .language_model import LanguageModel, check_flags
from .layers import Block, Cache, ModelConfig, rms_norm
from .visibility import Visibility, among


class DecoderOnly(LanguageModel):
    """A stack of blocks in which every token reads itself and what came before it.

    `forward(input_ids (B, T), attention_mask=None (B, T), document_ids=None (B, T), cache=None)` -> hidden (B, T, D).

    - `attention_mask`: 1 = real, 0 = padding, on either side;
    - `document_ids`: tokens read only their own document of a packed row;
    - `cache`: a `Cache` that remembers the tokens read so far, so that only new ones are given.

    >>> import torch
    >>> model = DecoderOnly(ModelConfig(vocab_size=50, width=32))
    >>> model.visibility(torch.tensor([[7, 8, 9]]))[0].int()
    tensor([[1, 0, 0],
            [1, 1, 0],
            [1, 1, 1]], dtype=torch.int32)
    >>> cache = Cache()
    >>> before = model(torch.tensor([[7, 8]]), cache=cache)
    >>> model(torch.tensor([[9]]), cache=cache).shape, cache.length
    (torch.Size([1, 1, 32]), 3)

    Raises `InputError` for ids outside the vocabulary, flags of another shape, and a cache together with flags.

    Source: Radford et al. 2019 (GPT-2), section 2.3.
    """

    architecture = "decoder-only"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        if config.decoder_layers is not None:
            raise InputError("decoder_layers is for an encoder-decoder; a decoder-only model has `layers`")
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        x = self._embed(input_ids)  # (B, T, D)
        visible = self._visible(input_ids, attention_mask, document_ids, cache)
        turns = self._turns(visible.keys - visible.queries, visible.queries, x.device)
        for block in self.blocks:
            x = block(x, visible, turns, cache=cache)
        if cache is not None:
            cache.length += visible.queries
        return rms_norm(x, self.config.norm_eps)

    def visibility(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        """Who may read whom, bool (B, T, T): row t reads column s. What `forward` itself goes by."""
        return self._visible(input_ids, attention_mask, document_ids).matrix_of(len(input_ids))

    def _visible(
        self, ids: Tensor, attention_mask: Tensor | None, document_ids: Tensor | None, cache: Cache | None = None
    ) -> Visibility:
        check_flags(ids, attention_mask=attention_mask, document_ids=document_ids)
        if cache is not None and (attention_mask is not None or document_ids is not None):
            raise InputError("a cache goes with rows of equal length: leave out attention_mask and document_ids")
        past = 0 if cache is None else cache.length
        return among(ids, causal=True, attention_mask=attention_mask, document_ids=document_ids, past=past)
