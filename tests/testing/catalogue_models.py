"""Planted faults of models: what they read and must not. Both `check_objective` and the leak probe must find them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from clozelab import CausalLM, MaskedLM, PrefixLM, SpanCorruption
from clozelab.evaluation import probe_objective
from clozelab.models import DecoderOnly, EncoderDecoder, EncoderOnly, ModelConfig
from clozelab.objectives import Objective
from clozelab.testing import check_objective
from clozelab.testing.objective import CHECKS

from .catalogue import Found, faults_of, plant
from .catalogue_functions import packed, ragged
from .catalogue_objectives import V, small
from .zoo_hugging_face import PADDING_READERS, build

LEAK = "leak probe"
"""What `probe_objective` finds, beside the names of the checks."""


def others(checks: tuple[str, ...]) -> set[str]:
    """The checks that are not named, and have nothing to say about a model."""
    return CHECKS.keys() - {"returns", *checks}


def model(
    objective: Objective, *checks: str, batch: Callable = ragged, row: int = 0, says: str = ""
) -> Callable[[type], type]:
    """Plant a model, which is given an objective that is right."""

    def decorate(kind: type) -> type:
        def find() -> Found:
            torch.manual_seed(0)
            planted = kind(ModelConfig(V, d_model=16, n_layers=2, n_heads=2))
            found = faults_of(check_objective, objective, planted, skip=others(checks))
            if LEAK in checks:
                planted = planted.double()
                for weight in planted.parameters():
                    nn.init.normal_(weight, std=0.3)
                reports = probe_objective(objective, planted, batch(objective), row=row, ids=range(3, 40))
                verdicts = [one.verdict for one in reports.values() if one.verdict.startswith("LEAK")]
                found |= {LEAK: "; ".join(verdicts)} if verdicts else {}
            return found

        plant("model", kind, checks, find, says)
        return kind

    return decorate


# ------------------------------------------------------------------ ours, with a key lost


@model(PrefixLM(), "reads")
class DropsTheRank(DecoderOnly):
    """The prefix is read from the left alone: the model takes the rank and forgets it."""

    def forward(self, input_ids, attention_mask=None, document_ids=None, reading_rank=None):
        return super().forward(input_ids, attention_mask, document_ids)


@model(PrefixLM(), "returns", says="reads reading_rank of the batch")
class TakesNoRank(DecoderOnly):
    """A causal model, which is given a prefix LM's batches."""

    def forward(self, input_ids, attention_mask=None, document_ids=None):
        return super().forward(input_ids, attention_mask, document_ids)


@model(CausalLM(), "documents", LEAK, batch=packed)
class DropsTheDocuments(DecoderOnly):
    """The model takes document ids and forgets them."""

    def forward(self, input_ids, attention_mask=None, document_ids=None):
        return super().forward(input_ids, attention_mask)


@model(MaskedLM(), "reads", LEAK, row=2)
class DropsThePadding(EncoderOnly):
    """The model takes an attention mask and forgets it: padding is attended to."""

    def forward(self, input_ids, attention_mask=None):
        return super().forward(input_ids)


@model(SpanCorruption(), "reads", LEAK, row=2)
class CrossAttendsToPadding(EncoderDecoder):
    """The encoder has the mask, and cross-attention was forgotten."""

    def forward(self, input_ids, decoder_input_ids, attention_mask=None):
        return self.decode(decoder_input_ids, self.encode(input_ids, attention_mask))


@model(CausalLM(), "returns", says="reads both sides")
class NotCausal(DecoderOnly):
    """`causal=False` was left in the settings, and the class still says so."""

    causal = False


def key_that_nobody_reads():
    """A prefix is asked for by a key of another library, which this one does not know."""
    objective = PrefixLM()
    batch = ragged(objective) | {"prefix_lengths": torch.tensor([1, 2, 3, 4])}
    return faults_of(check_objective, objective, small(objective), batch)


def documents_for_llama():
    """Packed documents are given to a model that takes no document ids, and whose **kwargs swallow them."""
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=V, **sizes))
    return faults_of(check_objective, CausalLM(), llama, packed(CausalLM()))


def conv_bert():
    """Published as it is: a convolution, which reads the first place of padding."""
    name = "ConvBertForMaskedLM"
    return faults_of(check_objective, MaskedLM(), build(name, PADDING_READERS[name]), skip=others(("reads",)))


def nystromformer():
    """Published as it is: its landmarks are means over all places, padding too."""
    name = "NystromformerForMaskedLM"
    return faults_of(check_objective, MaskedLM(), build(name, PADDING_READERS[name]), skip=others(("reads",)))


plant("model", conv_bert, ("reads",), conv_bert, slow=True)
plant("model", nystromformer, ("reads",), nystromformer, slow=True)
plant("model", key_that_nobody_reads, ("returns",), key_that_nobody_reads, "reads prefix_lengths of the batch")
plant("model", documents_for_llama, ("returns",), documents_for_llama, "reads document_ids of the batch")


# ------------------------------------------------------------------ hand-written


class HandWritten(nn.Module):
    """A GPT with learned positions, as tutorials write it; `attend` mixes (B, H, T, S) scores into weights."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(V, 16), nn.Embedding(64, 16)
        self.qkv = nn.ModuleList(nn.Linear(16, 48) for _ in range(2))
        self.mlp = nn.ModuleList(nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)) for _ in range(2))
        self.head = nn.Linear(16, V)

    def norm(self, x):
        return F.layer_norm(x, x.shape[-1:])

    def attend(self, scores, layer):
        return scores.masked_fill(~torch.ones_like(scores).tril().bool(), float("-inf")).softmax(-1)

    def forward(self, input_ids):
        x = self.tokens(input_ids) + self.places(torch.arange(input_ids.shape[1]))
        for layer, (qkv, mlp) in enumerate(zip(self.qkv, self.mlp)):
            q, k, v = qkv(self.norm(x)).unflatten(-1, (2, 24)).transpose(1, 2).chunk(3, -1)  # (B, H, T, K) each
            mixed = self.attend(q @ k.transpose(-1, -2) / 8**0.5, layer) @ v
            x = x + mixed.transpose(1, 2).flatten(2)
            x = x + mlp(self.norm(x))
        return self.head(self.norm(x))


LEAKS = ("reads", "answers", LEAK)


@model(CausalLM(), *LEAKS)
class NoMask(HandWritten):
    """The causal mask was forgotten."""

    def attend(self, scores, layer):
        return scores.softmax(-1)


@model(CausalLM(), *LEAKS)
class OneDiagonalMore(HandWritten):
    """tril(1) for tril(0): each token reads the next one, which is its answer."""

    def attend(self, scores, layer):
        return scores.masked_fill(~torch.ones_like(scores).tril(1).bool(), float("-inf")).softmax(-1)


@model(CausalLM(), "reads", LEAK)
class Transposed(HandWritten):
    """triu for tril: the future is read, and not the past."""

    def attend(self, scores, layer):
        return scores.masked_fill(~torch.ones_like(scores).triu().bool(), float("-inf")).softmax(-1)


@model(CausalLM(), "reads", LEAK)
class FirstLayerOnly(HandWritten):
    """The mask is passed to the first layer alone."""

    def attend(self, scores, layer):
        return super().attend(scores, layer) if layer == 0 else scores.softmax(-1)


@model(CausalLM(), "reads", LEAK)
class ZeroForMinusInfinity(HandWritten):
    """Scores are multiplied by the mask, so what is masked has a score of 0 and is read."""

    def attend(self, scores, layer):
        return (scores * torch.ones_like(scores).tril()).softmax(-1)


@model(CausalLM(), *LEAKS)
class MinusTen(HandWritten):
    """What is masked gets 10 less instead of minus infinity, so it is read a little."""

    def attend(self, scores, layer):
        return (scores - 10 * (1 - torch.ones_like(scores).tril())).softmax(-1)


@model(CausalLM(), "reads")
class WrongBehindTheBlock(HandWritten):
    """Attention in blocks of 32 queries, whose second block was given the mask of the first."""

    def attend(self, scores, layer):
        mask = torch.ones_like(scores).tril()
        mask[..., 32:, 32:] = 1
        return scores.masked_fill(mask == 0, float("-inf")).softmax(-1)


@model(CausalLM(), "reads", LEAK)
class MaskedAfterSoftmax(HandWritten):
    """The weights are masked after the softmax, whose sum has read the future."""

    def attend(self, scores, layer):
        return scores.softmax(-1).tril()


@model(CausalLM(), "reads", LEAK)
class SoftmaxOverQueries(HandWritten):
    """The softmax runs over the wrong axis: later queries share in the sum."""

    def attend(self, scores, layer):
        return scores.masked_fill(~torch.ones_like(scores).tril().bool(), -1e9).softmax(-2)


@model(CausalLM(), "reads", LEAK)
class NormOverTime(HandWritten):
    """A norm over positions and features together, as `LayerNorm((T, D))` computes it."""

    def norm(self, x):
        return F.layer_norm(x, x.shape[-2:])


@model(CausalLM(), "reads", LEAK)
class SamePadding(HandWritten):
    """A convolution with padding on both sides, as in a CNN for images."""

    def norm(self, x):
        return F.avg_pool1d(x.transpose(1, 2), 3, 1, 1, count_include_pad=True).transpose(1, 2)


@model(CausalLM(), "reads", LEAK)
class RollsAround(HandWritten):
    """torch.roll as a token shift: the first token reads the last one."""

    def norm(self, x):
        return F.layer_norm(x, x.shape[-1:]) + 0.5 * x.roll(1, 1)


@model(MaskedLM(), "reads", LEAK)
class Standardised(HandWritten):
    """Statistics over the batch, in evaluation too, so rows depend on one another."""

    def forward(self, input_ids, attention_mask=None):
        hidden = self.tokens(input_ids)
        return self.head(hidden - hidden.mean((0, 1)))


@model(MaskedLM(), "reads")
class LeftToRight(HandWritten):
    """A masked LM on a causal model: the right-hand side is never read."""

    def forward(self, input_ids, attention_mask=None):
        return super().forward(input_ids)


@model(CausalLM(), "reads", says="differ|second time|random")
class DropoutAlwaysOn(HandWritten):
    """F.dropout without `training=self.training`."""

    def norm(self, x):
        return F.dropout(super().norm(x), 0.1)


@model(CausalLM(), "reads", says="differ|second time|state")
class KeepsItsState(HandWritten):
    """The state of the last batch is carried into the next, as in a recurrent model that is never reset."""

    state = 0.0

    def norm(self, x):
        x = super().norm(x) + self.state
        self.state = x.detach().mean()
        return x
