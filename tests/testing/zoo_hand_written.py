"""Models without a config: nanoGPT's and BERT's kind, nn.Transformer, a recurrent one, and x-transformers."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from clozelab import CausalLM, MaskedDiffusion, MaskedLM, PrefixLM, SpanCorruption
from clozelab.models import ModelConfig
from clozelab.objectives import Objective
from clozelab.testing import check_objective

from .catalogue_models import HandWritten
from .catalogue_objectives import V
from .zoo import right

CONFIG = ModelConfig(V, d_model=16, n_layers=2, n_heads=2)
"""What hand-written models are asked for: they keep none of it."""


def mask_of(flags: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """0 where a flag is True, -inf where not."""
    return torch.zeros(flags.shape, dtype=dtype).masked_fill(~flags, float("-inf"))


class HandWrittenBert(HandWritten):
    """Learned positions, both sides, padding left out of the scores."""

    def forward(self, input_ids, attention_mask=None):
        self.flags = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return super().forward(input_ids)

    def attend(self, scores, layer):
        return (scores + mask_of(self.flags[:, None, None] != 0, scores.dtype)).softmax(-1)


class PrefixReader(HandWritten):
    """A prefix LM of one's own, from the rank of the batch."""

    def forward(self, input_ids, attention_mask, reading_rank, document_ids=None):
        same = torch.ones_like(input_ids)[:, None] > 0
        if document_ids is not None:
            same = document_ids[:, None, :] == document_ids[:, :, None]
        self.may = (reading_rank[:, None, :] <= reading_rank[:, :, None]) & (attention_mask[:, None] != 0) & same
        return super().forward(input_ids)

    def attend(self, scores, layer):
        return scores.masked_fill(~self.may[:, None], -1e30).softmax(-1)


class Alibi(HandWritten):
    """Linear biases in place of a table of positions."""

    def attend(self, scores, layer):
        place = torch.arange(scores.shape[-1])
        return super().attend(scores - 0.1 * (place[:, None] - place).abs(), layer)


class Gru(nn.Module):
    """A recurrent model, which takes no attention mask."""

    def __init__(self):
        super().__init__()
        self.tokens, self.gru, self.head = nn.Embedding(V, 16), nn.GRU(16, 16, batch_first=True), nn.Linear(16, V)

    def forward(self, input_ids):
        return self.head(self.gru(self.tokens(input_ids))[0])


class CausalConvolution(HandWritten):
    """A window of three to the left."""

    def forward(self, input_ids):
        x = F.pad(self.tokens(input_ids), (0, 0, 2, 0)).unfold(1, 3, 1).mean(-1)
        return self.head(x + self.mlp[0](x))


class TorchEncoder(nn.Module):
    """nn.TransformerEncoder with a causal mask, or with padding on both sides."""

    def __init__(self, causal: bool):
        super().__init__()
        self.tokens, self.places, self.causal = nn.Embedding(V, 16), nn.Embedding(128, 16), causal
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, V)

    def forward(self, input_ids, attention_mask):
        x = self.tokens(input_ids) + self.places(torch.arange(input_ids.shape[1]))
        if self.causal:
            n = input_ids.shape[1]
            return self.head(self.blocks(x, mask_of(torch.ones(n, n).tril().bool(), x.dtype)))
        return self.head(self.blocks(x, src_key_padding_mask=mask_of(attention_mask != 0, x.dtype)))


class TorchTransformer(nn.Module):
    """nn.Transformer, an encoder and a decoder."""

    def __init__(self):
        super().__init__()
        self.tokens, self.places, self.head = nn.Embedding(V, 16), nn.Embedding(128, 16), nn.Linear(16, V)
        self.both = nn.Transformer(16, 2, 1, 1, 32, batch_first=True)

    def embed(self, ids):
        return self.tokens(ids) + self.places(torch.arange(ids.shape[1]))

    def forward(self, input_ids, decoder_input_ids, attention_mask):
        n, dtype = decoder_input_ids.shape[1], self.head.weight.dtype
        padding = mask_of(attention_mask != 0, dtype)
        out = self.both(
            self.embed(input_ids),
            self.embed(decoder_input_ids),
            tgt_mask=mask_of(torch.ones(n, n).tril().bool(), dtype),
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        return self.head(out)


class AroundXTransformers(nn.Module):
    """x-transformers names its inputs in its own way, so a wrapper names ours."""

    def __init__(self, attention: str, **settings):
        super().__init__()
        xt = pytest.importorskip("x_transformers")
        layers = getattr(xt, attention)(dim=16, depth=1, heads=2, attn_dim_head=8, **settings)
        self.inner = xt.TransformerWrapper(num_tokens=V, max_seq_len=128, attn_layers=layers)

    def forward(self, input_ids, attention_mask):
        return self.inner(input_ids, mask=attention_mask != 0)


def add(group: str, name: str, objective: Objective, make, *, slow: bool = True) -> None:
    """Add a model, built when it is its turn."""

    def check():
        torch.manual_seed(0)
        return check_objective(objective, make())

    right(group, f"{name}, {objective.name}", check, slow=slow)


add("hand-written", "GPT with learned positions", CausalLM(), lambda: HandWritten(CONFIG), slow=False)
add("hand-written", "GPT with ALiBi", CausalLM(), lambda: Alibi(CONFIG))
add("hand-written", "BERT", MaskedLM(), lambda: HandWrittenBert(CONFIG), slow=False)
add("hand-written", "BERT", MaskedDiffusion(), lambda: HandWrittenBert(CONFIG))
add("hand-written", "prefix reader", PrefixLM(), lambda: PrefixReader(CONFIG))
add("hand-written", "GRU", CausalLM(), Gru)
add("hand-written", "window", CausalLM(), lambda: CausalConvolution(CONFIG))
add("nn.Transformer", "encoder with a causal mask", CausalLM(), lambda: TorchEncoder(True))
add("nn.Transformer", "encoder", MaskedLM(), lambda: TorchEncoder(False))
add("nn.Transformer", "encoder and decoder", SpanCorruption(), TorchTransformer)
add("x-transformers", "learned", CausalLM(), lambda: AroundXTransformers("Decoder"))
add("x-transformers", "rotary", CausalLM(), lambda: AroundXTransformers("Decoder", rotary_pos_emb=True))
add("x-transformers", "T5's bias", CausalLM(), lambda: AroundXTransformers("Decoder", rel_pos_bias=True))
add("x-transformers", "ALiBi", CausalLM(), lambda: AroundXTransformers("Decoder", alibi_pos_bias=True))
add("x-transformers", "encoder", MaskedLM(), lambda: AroundXTransformers("Encoder"))
add("x-transformers", "encoder, rotary", MaskedDiffusion(), lambda: AroundXTransformers("Encoder", rotary_pos_emb=True))
