"""A decoder with a second unembedding, which says in what order tokens come up."""

from __future__ import annotations

from torch import Tensor, nn

from .config import ModelConfig
from .heads import TrunkWithHeads
from .language_model import Prediction
from .transformer import DecoderOnly


class TokenOrderDecoder(TrunkWithHeads):
    """Token ids (B, T) to {"logits", "order"}: the hidden states (B, T, D) of one trunk, and a table (V, D) for each.

    `trunk` is the `DecoderOnly` that is left where the order is not wanted; it continues texts.

    >>> import torch
    >>> from clozelab.models import ModelConfig, TokenOrderDecoder
    >>> model = TokenOrderDecoder(ModelConfig(vocab_size=50, d_model=32))
    >>> {name: tuple(output.table.shape) for name, output in model(torch.tensor([[7, 8, 9]])).items()}
    {'logits': (50, 32), 'order': (50, 32)}

    Source: Zuhri et al. 2025 (Predicting the order of upcoming tokens improves language modeling), section 3.
    """

    architecture = "decoder-only"
    causal = True

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(DecoderOnly(config))
        self.order = nn.Embedding(config.vocab_size, config.d_model)  # a table with a row for each id
        nn.init.zeros_(self.order.weight)  # a uniform guess at first

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, document_ids: Tensor | None = None
    ) -> dict[str, Prediction]:
        states = self.trunk(input_ids, attention_mask=attention_mask, document_ids=document_ids)
        return {"logits": Prediction(states, self.unembedding), "order": Prediction(states, self.order.weight)}
