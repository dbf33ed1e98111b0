"""Read both sides: BERT."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import InputError
from .language_model import LanguageModel, check_flags
from .layers import Block, ModelConfig, rms_norm
from .visibility import Visibility, among


class EncoderOnly(LanguageModel):
    """The blocks of `DecoderOnly`, with one word changed: every token reads every other.

    `forward(input_ids (B, T), attention_mask=None (B, T), document_ids=None (B, T))` -> hidden (B, T, D).

    - `attention_mask`: 1 = real, 0 = padding, on either side;
    - `document_ids`: tokens read only their own document of a packed row.

    BERT's head has one more layer before the table (Devlin et al. 2019, appendix A); ours has none, so that the three
    architectures differ by nothing but who reads whom.

    >>> import torch
    >>> model = EncoderOnly(ModelConfig(vocab_size=50, width=32))
    >>> model.visibility(torch.tensor([[7, 8, 0]]), attention_mask=torch.tensor([[1, 1, 0]]))[0].int()
    tensor([[1, 1, 0],
            [1, 1, 0],
            [1, 1, 0]], dtype=torch.int32)

    Raises `InputError` for ids outside the vocabulary and flags of another shape.

    Source: Devlin et al. 2019 (BERT), section 3.
    """

    architecture = "encoder-only"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        if config.decoder_layers is not None:
            raise InputError("decoder_layers is for an encoder-decoder; an encoder-only model has `layers`")
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        x = self._embed(input_ids)  # (B, T, D)
        visible = self._visible(input_ids, attention_mask, document_ids)
        turns = self._turns(0, visible.queries, x.device)
        for block in self.blocks:
            x = block(x, visible, turns)
        return rms_norm(x, self.config.norm_eps)

    def visibility(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        """Who may read whom, bool (B, T, T): row t reads column s. What `forward` itself goes by."""
        return self._visible(input_ids, attention_mask, document_ids).matrix_of(len(input_ids))

    def _visible(self, ids: Tensor, attention_mask: Tensor | None, document_ids: Tensor | None) -> Visibility:
        check_flags(ids, attention_mask=attention_mask, document_ids=document_ids)
        return among(ids, causal=False, attention_mask=attention_mask, document_ids=document_ids)
