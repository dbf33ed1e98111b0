"""How likely a model takes a text to be, token by token.

Three models, three questions, of which two are answered by probabilities:

| | asks | is a probability |
|---|---|---|
| `causal_log_prob` | how likely is this text? | yes: over all texts of a length it sums to one |
| `infill_log_prob` | how likely are these targets, given these inputs? | yes, over all targets of a length |
| `pseudo_log_likelihood` | how well does each token fit its two sides? | no |

All take padded batches, and all take our models and any other that returns logits (B, T, V) or an object that has
`.logits`, as Hugging Face's models do. Padding may stand on either side: rows are moved to the left before a model
reads them, so that models with absolute positions score a row alike whatever stands beside it. Logarithms are
taken in float32, outside of autocast, and a model is left in the mode it was in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..checks import check_int, check_tensor, check_type
from ..data.hiding import IGNORED
from ..errors import InputError
from ..models import eval_mode
from ..models.language_model import call
from ..objectives import CausalLM, Loss


@dataclass(frozen=True, eq=False)
class Scores:
    """What each token of a batch adds to the score of its row.

    >>> scores = Scores(torch.tensor([[0.0, -1.0, -2.0]]), torch.tensor([[False, True, True]]))
    >>> scores.log_prob, scores.nats_per_token
    (tensor([-3.]), tensor([1.5000]))
    >>> scores.bits_per_byte(torch.tensor([[2, 3, 3]])).item()  # 3 nats in 6 bytes: those that were scored
    0.7213475108146667

    The properties speak of each row by itself, and are NaN where nothing in a row was scored. Of several rows, never
    average them: add their `loss`, which is a sum and a count, and take its mean once.
    """

    parts: Tensor
    """(B, T) float32, nats: the logarithm of each token's conditional probability; 0 where not scored."""
    scored: Tensor
    """(B, T) bool: the tokens that were scored. Not among them: padding, and whatever the model was given."""

    @property
    def log_prob(self) -> Tensor:
        """(B,) nats, at most 0: the sum of the parts of each row."""
        return self.parts.double().sum(1).to(self.parts.dtype)

    @property
    def nats_per_token(self) -> Tensor:
        """(B,) nats for each scored token, at least 0."""
        return -self.log_prob / self.scored.sum(1)

    @property
    def perplexity(self) -> Tensor:
        """(B,): among how many tokens, all alike, a guess would be as hard; exp of `nats_per_token`."""
        return self.nats_per_token.exp()

    def bits_per_byte(self, byte_counts: Tensor) -> Tensor:
        """(B,) bits for each byte of text, which unlike nats per token compares models with different tokenizers.

        `byte_counts` are UTF-8 bytes: (B, T) of each token, of which only scored ones are counted, or (B,) of each
        text as a whole, which is right only where its every token was scored.

        Raises `InputError` for another shape.
        """
        if check_tensor(byte_counts, "byte_counts", "(..., B)").shape not in (self.parts.shape, self.parts.shape[:1]):
            raise InputError(
                f"expected byte counts {tuple(self.parts.shape)} of tokens or {tuple(self.parts.shape[:1])} of texts, "
                f"got {tuple(byte_counts.shape)}"
            )
        counted = byte_counts if byte_counts.dim() == 1 else (byte_counts * self.scored).sum(1)
        return -self.log_prob / math.log(2) / counted

    @property
    def loss(self) -> Loss:
        """The whole batch as a sum (nats) and a count of tokens: losses of batches are added, and divided once."""
        total = -self.parts.double().sum()
        return Loss(total, self.scored.sum(), {"cross_entropy": total})


# --------------------------------------------------------------------------- the three questions


def causal_log_prob(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None = None, *, start_id: int | None = None
) -> Scores:
    """log p(text) under a model that reads from the left, by the chain rule: the sum of log p(x[t] | x[0..t-1]).

    - `input_ids` (B, T); `attention_mask` (B, T), 1 = real and 0 = padding on either side;
    - `start_id` is what the model has read before the first token, such as the end of text that precedes a document
      in training. With it all T tokens are scored, and the sum over all texts of T tokens is one. Without it **the
      first token of each row is not scored**, and the figure is log p(x[1..] | x[0]).

    >>> from clozelab.models import DecoderOnly, ModelConfig
    >>> model = DecoderOnly(ModelConfig(vocab_size=5, d_model=8, n_heads=2, tied=False))  # begins with a uniform guess
    >>> scores = causal_log_prob(model, torch.tensor([[2, 3, 4], [3, 2, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]))
    >>> scores.parts  # ln 5 for each
    tensor([[ 0.0000, -1.6094, -1.6094],
            [ 0.0000, -1.6094,  0.0000]])
    >>> causal_log_prob(model, torch.tensor([[2, 3, 4]]), start_id=1).parts  # now the first one too
    tensor([[-1.6094, -1.6094, -1.6094]])

    Raises `InputError` for shapes that do not fit, padding inside of a row, and ids outside the vocabulary.

    Source: Bengio et al. 2003, section 1.1.
    """
    if getattr(model, "architecture", "decoder-only") == "encoder-only":
        raise InputError(
            "an encoder has read what it is asked for, so it gives a text no probability: expected a decoder"
        )
    rows = _Rows.of(input_ids, attention_mask)
    ids, real = rows.ids, rows.real
    if start_id is not None:
        start_id = check_int(start_id, "start_id")
        ids = torch.cat([torch.full_like(ids[:, :1], start_id), ids], 1)  # (B, T + 1)
        real = torch.cat([real.any(1, keepdim=True), real], 1)
    # Read is all but the last token, said is all but the first: what the loss pays.
    (read, said), (readable, scored) = CausalLM().align(ids, ids), CausalLM().align(real, real)
    parts = torch.zeros(said.shape, device=ids.device)
    if bool(scored.any()):
        with in_full_precision(model):
            outputs = call(model, input_ids=read, **_mask_where_needed(readable))
            parts[scored] = _log_probs(model, outputs, scored, said)
    if start_id is None:
        parts, scored = (F.pad(values, (1, 0)) for values in (parts, scored))
    return rows.scores(parts, scored)


def pseudo_log_likelihood(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    mask_id: int,
    scored: Tensor | None = None,
    batch_size: int = 64,
) -> Scores:
    """How well each token fits its two sides: the sum of log p(x[t] | all the others), each masked in its turn.

    A useful score for ranking sentences of a masked model, and **not a log-probability**: each token is asked for
    while all others are known, so they count for one another twice, and over all texts of a length the exponentials
    do not sum to one. Nor can its "perplexity" be compared with that of a causal model. Words of several tokens score
    too well, since each gives the others away.

    - `input_ids` (B, T); `attention_mask` (B, T), 1 = real and 0 = padding on either side;
    - `scored` (B, T) bool: the tokens to score, by default all real ones. The paper leaves out [CLS] and [SEP];
    - `batch_size`: masked copies that a model reads at a time. A row of n scored tokens costs n copies.

    >>> from clozelab.models import EncoderOnly, ModelConfig
    >>> model = EncoderOnly(ModelConfig(vocab_size=5, d_model=8, n_heads=2, tied=False))  # begins with a uniform guess
    >>> pseudo_log_likelihood(model, torch.tensor([[2, 3, 4]]), mask_id=1).parts  # ln 5 for each
    tensor([[-1.6094, -1.6094, -1.6094]])

    Raises `InputError` for shapes that do not fit, padding inside of a row, and ids outside the vocabulary.

    Source: Salazar et al. 2020, section 2; words of several tokens: Kauf and Ivanova 2023.
    """
    batch_size, mask_id = check_int(batch_size, "batch_size", 1), check_int(mask_id, "mask_id")
    rows = _Rows.of(input_ids, attention_mask)
    if scored is not None and (
        check_tensor(scored, "scored", "(..., T)").shape != input_ids.shape or scored.dtype != torch.bool
    ):
        raise InputError(f"expected scored {tuple(input_ids.shape)} of bools, got {scored.dtype} {tuple(scored.shape)}")
    asked = rows.real if scored is None else rows.real & rows.to_left(scored)
    parts = torch.zeros(rows.ids.shape, device=rows.ids.device)
    with in_full_precision(model):
        for rows_asked, places in zip(*(found.split(batch_size) for found in asked.nonzero(as_tuple=True))):
            copies = torch.arange(len(places), device=places.device)
            here = torch.zeros(len(places), parts.shape[1], dtype=torch.bool, device=places.device)
            here[copies, places] = True
            said = rows.ids[rows_asked]  # (N, T): one copy of its row for each token that is asked for
            outputs = call(
                model, input_ids=said.masked_fill(here, mask_id), **_mask_where_needed(rows.real[rows_asked])
            )
            parts[rows_asked, places] = _log_probs(model, outputs, here, said)
    return rows.scores(parts, asked)


def infill_log_prob(
    model: nn.Module, input_ids: Tensor, labels: Tensor, attention_mask: Tensor | None = None, *, start_id: int
) -> Scores:
    """log p(targets | inputs) of an encoder-decoder: the sum of log p(y[t] | y[0..t-1], inputs), every target scored.

    - `input_ids` (B, S); `attention_mask` (B, S), 1 = real and 0 = padding on either side;
    - `labels` (B, T): the targets, -100 behind shorter ones, as the collator of `SpanCorruption` makes them;
    - `start_id`: what the decoder reads before the first target, T5's padding id (`SpecialIds.pad`).

    The sum over all targets of T tokens is one; to sum to one over *all* targets they must end, with an end of text.

    >>> from clozelab.models import EncoderDecoder, ModelConfig
    >>> model = EncoderDecoder(ModelConfig(vocab_size=5, d_model=8, n_heads=2, tied=False))  # begins with a uniform guess
    >>> infill_log_prob(model, torch.tensor([[2, 4, 1]]), torch.tensor([[4, 3, -100]]), start_id=0).parts
    tensor([[-1.6094, -1.6094,  0.0000]])

    Raises `InputError` for shapes that do not fit, padding inside of a row, and ids outside the vocabulary.

    Source: Raffel et al. 2020 (T5), section 2.1.
    """
    rows = _Rows.of(input_ids, attention_mask)
    start_id = check_int(start_id, "start_id")
    if check_tensor(labels, "labels", "(..., T)").dim() == 2 and bool(
        ((labels[:, :-1] == IGNORED) & (labels[:, 1:] != IGNORED)).any()
    ):
        raise InputError(f"{IGNORED} may stand only behind the targets: a decoder cannot read a gap")
    targets = _Rows.of(labels, labels != IGNORED, "labels")
    if len(rows.ids) != len(targets.ids):
        raise InputError(f"expected as many targets as inputs, got {len(targets.ids)} and {len(rows.ids)}")
    said, scored = targets.ids, targets.real
    parts = torch.zeros(said.shape, device=said.device)
    if bool(scored.any()):
        read = torch.cat([torch.full_like(said[:, :1], start_id), said[:, :-1]], 1)  # one place behind
        with in_full_precision(model):
            outputs = call(model, input_ids=rows.ids, decoder_input_ids=read, **_mask_where_needed(rows.real))
            parts[scored] = _log_probs(model, outputs, scored, said)
    return targets.scores(parts, scored)


# --------------------------------------------------------------------------- what they share


@contextmanager
def in_full_precision(model: nn.Module) -> Iterator[None]:
    """`eval_mode`, and no autocast."""
    check_type(model, nn.Module, "the model")
    device = next((parameter.device.type for parameter in model.parameters()), "cpu")
    with eval_mode(model), torch.autocast(device, enabled=False):
        yield


@dataclass(frozen=True, eq=False)
class _Rows:
    """A padded batch whose rows begin at the left, and the way back to where they were."""

    ids: Tensor
    """(B, T); 0 where padding is, an id that every model knows."""
    real: Tensor
    """(B, T) bool"""
    first: Tensor
    """(B,): where each row began."""

    @classmethod
    def of(cls, ids: Tensor, attention_mask: Tensor | None, name: str = "input_ids") -> _Rows:
        if check_tensor(ids, name, "(..., T)").dim() != 2 or ids.dtype not in (torch.int64, torch.int32):
            raise InputError(f"expected {name} (B, T) of whole numbers, got {ids.dtype} of shape {tuple(ids.shape)}")
        if attention_mask is not None and check_tensor(attention_mask, "attention_mask", "(..., T)").shape != ids.shape:
            raise InputError(f"expected attention_mask {tuple(ids.shape)}, got {tuple(attention_mask.shape)}")
        real = torch.ones_like(ids, dtype=torch.bool) if attention_mask is None else attention_mask != 0
        begins = real & ~F.pad(real, (1, 0))[:, :-1]
        if bool((begins.sum(1) > 1).any()):
            row = int((begins.sum(1) > 1).nonzero()[0])
            raise InputError(f"row {row} of {name} has padding in its middle: pad on one side, or both, of each text")
        rows = cls(ids, real, begins.int().argmax(1) if ids.shape[1] else begins.sum(1))
        real = rows.to_left(real)
        return cls(rows.to_left(ids).long().masked_fill(~real, 0), real, rows.first)

    def to_left(self, values: Tensor) -> Tensor:
        """(B, T) -> (B, T): each row turned round until it begins at the left."""
        return values.gather(1, self._places(self.first))

    def scores(self, parts: Tensor, scored: Tensor) -> Scores:
        """Parts (B, T) of rows at the left, put back where the caller's tokens are."""
        back = self._places(-self.first)
        return Scores(parts.gather(1, back), scored.gather(1, back))

    def _places(self, shift: Tensor) -> Tensor:
        length = self.ids.shape[1]
        return (torch.arange(length, device=self.ids.device) + shift[:, None]) % max(length, 1)


def _mask_where_needed(real: Tensor) -> dict[str, Any]:
    return {} if bool(real.all()) else {"attention_mask": real.long()}


def _log_probs(model: nn.Module, outputs: Any, scored: Tensor, said: Tensor) -> Tensor:
    """(N,) float32 nats: log p of what is said at the scored places, the only ones that meet the vocabulary."""
    said = said[scored]
    if isinstance(outputs, Tensor):
        chosen = outputs[scored]  # (N, D) of ours, (N, V) of another's
        logits = model.unembed(chosen) if hasattr(model, "unembedding") else chosen  # type: ignore[operator]
    elif hasattr(outputs, "logits"):
        logits = outputs.logits[scored]
    else:
        raise InputError(
            f"expected the model to return logits or an object with .logits, got {type(outputs).__name__}: is this a "
            "model without a language-modelling head?"
        )
    if said.numel() and not (int(said.min()) >= 0 and int(said.max()) < logits.shape[-1]):
        raise InputError(
            f"tokens must lie in 0 .. {logits.shape[-1] - 1}, got {int(said.min())} .. {int(said.max())}: is the "
            "tokenizer larger than the model's vocabulary?"
        )
    return logits.float().log_softmax(-1).gather(-1, said[:, None]).squeeze(-1)
