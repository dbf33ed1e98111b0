"""An encoder with a second head, which predicts a hidden token from the states just outside of its span."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import ModelConfig
from .heads import TrunkWithHeads
from .language_model import Prediction, check_flags
from .layers import rms_norm
from .transformer import EncoderOnly

MOST_PLACES = 20
"""Places of a span that have a vector of their own; the tokens behind them are predicted by the encoder alone."""


class SpanBoundaryEncoder(TrunkWithHeads):
    """Token ids (B, T) to {"logits", "boundary"}: states (B, T, D), both compared with the table of the trunk.

    "logits" is the trunk's own output. At a token of a hidden span from a to b, "boundary" is f([h[a-1]; h[b+1]; p]):
    the states just outside of the span and a vector for the place of the token in it, 1 for the first, through two
    layers with GeLU and a norm each. It never sees the state of the token itself. Which states these are says the
    batch: `boundary_before` and `boundary_after` (B, T), how many tokens before and behind the token they stand, 0
    (everywhere, where they are not given) if there is no such pair; the state is then zero.

    `trunk` is the `EncoderOnly` that is left where the boundaries are not wanted; it fills blanks.

    >>> import torch
    >>> from clozelab.models import ModelConfig, SpanBoundaryEncoder
    >>> model = SpanBoundaryEncoder(ModelConfig(vocab_size=50, d_model=32))
    >>> before, after = torch.tensor([[0, 1, 2, 0]]), torch.tensor([[0, 2, 1, 0]])  # tokens 1 and 2 are hidden
    >>> outputs = model(torch.tensor([[7, 2, 2, 9]]), boundary_before=before, boundary_after=after)
    >>> (outputs["boundary"].states != 0).any(-1)
    tensor([[False,  True,  True, False]])

    Raises `InputError` for distances of another shape than the ids.
    Source: Joshi et al. 2020 (SpanBERT), section 3.2.
    """

    architecture = "encoder-only"
    causal = False

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(EncoderOnly(config))
        self.places = nn.Embedding(1 + MOST_PLACES, config.d_model)
        self.layers = nn.ModuleList(nn.Linear(k * config.d_model, config.d_model, bias=False) for k in (3, 1))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        document_ids: Tensor | None = None,
        boundary_before: Tensor | None = None,
        boundary_after: Tensor | None = None,
    ) -> dict[str, Prediction]:
        if boundary_before is None or boundary_after is None:  # nothing is hidden
            boundary_before = boundary_after = torch.zeros_like(input_ids)
        check_flags(input_ids, boundary_before=boundary_before, boundary_after=boundary_after)
        states = self.trunk(input_ids, attention_mask=attention_mask, document_ids=document_ids)
        of_spans = self.from_boundaries(states, boundary_before, boundary_after)
        return {"logits": Prediction(states, self.unembedding), "boundary": Prediction(of_spans, self.unembedding)}

    def from_boundaries(self, states: Tensor, before: Tensor, after: Tensor) -> Tensor:
        """(B, T, D): what the states (B, T, D) at the two boundaries say of each token, zero where it has no pair."""
        place = torch.arange(states.shape[1], device=states.device)
        ends = [(place + distance).clamp(0, states.shape[1] - 1) for distance in (-before, after)]  # (B, T)
        outside = [states.gather(1, end[..., None].expand_as(states)) for end in ends]
        x = torch.cat([*outside, self.places(before.clamp(0, MOST_PLACES)).to(states.dtype)], -1)  # (B, T, 3 D)
        for layer in self.layers:
            x = rms_norm(F.gelu(layer(x)), self.config.norm_eps)
        return x * (before > 0)[..., None]
