"""What the models with several outputs share: one of ours, the trunk, and heads on its states."""

from __future__ import annotations

from torch import Tensor, nn

from .transformer import DecoderOnly, EncoderOnly


class TrunkWithHeads(nn.Module):
    """A trunk, which is left where the heads are not wanted; its shape, its table and who reads whom in it.

    A subclass adds the heads after it, and a `forward` that returns {name: `Prediction`}, "logits" of the trunk first.
    """

    def __init__(self, trunk: DecoderOnly | EncoderOnly) -> None:
        super().__init__()
        self.config = trunk.config
        self.trunk = trunk

    @property
    def unembedding(self) -> nn.Parameter:
        """(V, D), of the trunk."""
        return self.trunk.unembedding

    def attention_matrix(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        """Bool (B, T, T): whether token t attends to s in the trunk."""
        return self.trunk.attention_matrix(input_ids, attention_mask, document_ids)
