"""A decoder with a head for each further token: side by side (Meta), or each told one token more (DeepSeek)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .attention_mask import self_attention_mask
from .config import ModelConfig
from .heads import TrunkWithHeads
from .language_model import Prediction
from .layers import Block, rms_norm
from .transformer import DecoderOnly


class MultiTokenDecoder(TrunkWithHeads):
    """Token ids (B, T) to {"logits", "ahead_1", ..., "ahead_N"}: hidden states (B, T, D) and the table of the trunk.

    At t, "logits" predicts token t + 1 and "ahead_k" token t + 1 + k. All share the embedding and the unembedding.

    - parallel: each head is a block beside the trunk's last one, and reads what that one reads.
    - sequential: head k is a block behind the state of head k - 1 (of the trunk for k = 1), joined with the embedding
      of token t + k. It has read one token more than the head before it. Behind the end of a text, or of a document,
      there is none to be told, and nothing in the loss.

    `trunk` is the `DecoderOnly` that is left where further tokens are not wanted; it continues texts.

    >>> import torch
    >>> from clozelab.models import ModelConfig, MultiTokenDecoder
    >>> model = MultiTokenDecoder(ModelConfig(vocab_size=50, d_model=32), depth=2)
    >>> {name: tuple(output.states.shape) for name, output in model(torch.tensor([[7, 8, 9]])).items()}
    {'logits': (1, 3, 32), 'ahead_1': (1, 3, 32), 'ahead_2': (1, 3, 32)}

    Sources: Gloeckle et al. 2024 (Better and faster large language models via multi-token prediction), section 2;
    DeepSeek-AI 2024 (DeepSeek-V3), section 2.2.
    """

    architecture = "decoder-only"
    causal = True

    def __init__(self, config: ModelConfig, depth: int, *, sequential: bool = True, detached: bool = False) -> None:
        super().__init__(DecoderOnly(config))
        self.sequential, self.detached = sequential, detached
        self.heads = nn.ModuleList(Block(config) for _ in range(depth))
        if sequential:
            self.joins = nn.ModuleList(nn.Linear(2 * config.d_model, config.d_model, bias=False) for _ in range(depth))

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, document_ids: Tensor | None = None
    ) -> dict[str, Prediction]:
        x = self.trunk.embed(input_ids)
        mask = self_attention_mask(input_ids, causal=True, attention_mask=attention_mask, document_ids=document_ids)
        freqs = self.trunk.rotary_freqs(None, mask, x.device)
        for block in self.trunk.blocks[:-1]:
            x = block(x, mask, freqs)
        states = [self._norm(self.trunk.blocks[-1](x, mask, freqs))]
        state = states[0] if self.sequential else x
        state = state.detach() if self.detached else state
        for k, head in enumerate(self.heads, start=1):
            if self.sequential:
                told = self._norm(self._told(self.trunk.embedding(input_ids), k, attention_mask, document_ids))
                state = self._norm(head(self.joins[k - 1](torch.cat([told, self._norm(state)], -1)), mask, freqs))
                states.append(state)
            else:
                states.append(self._norm(head(state, mask, freqs)))
        names = ["logits", *(f"ahead_{k}" for k in range(1, len(states)))]
        return {name: Prediction(one, self.unembedding) for name, one in zip(names, states)}

    def _norm(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.config.norm_eps)

    def _told(
        self, embedded: Tensor, k: int, attention_mask: Tensor | None = None, document_ids: Tensor | None = None
    ) -> Tensor:
        """(B, T, D): at t the embedding of token t + k of the same document, zero where there is none."""
        length = embedded.shape[1]
        here = torch.arange(length, device=embedded.device).expand(embedded.shape[:2]) < length - k
        if attention_mask is not None:
            here = here & (attention_mask.roll(-k, 1) != 0)
        if document_ids is not None:
            here = here & (document_ids.roll(-k, 1) == document_ids)
        return embedded.roll(-k, 1) * here[..., None]
