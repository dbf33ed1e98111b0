"""How likely a model takes a text to be, token by token.

Three functions, for three kinds of model; two of them give probabilities:

| | how likely is | a probability |
|---|---|---|
| `causal_log_prob` | this text? | yes: over all texts of a length it sums to one |
| `infill_log_prob` | these targets, given these inputs? | yes, over all targets of a length |
| `pseudo_log_likelihood` | each token, given all others? | no |

All take padded batches, and all take our models and any other that returns logits (B, T, V) or an object that has
`.logits`, as Hugging Face's models do. Padding may stand on either side: rows are moved to the left before a model
reads them, so that models with absolute positions score a row the same in any batch. Logarithms are taken in float32,
outside of autocast, and a model is left in the mode it was in.
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
from ..data import IGNORED, shift_targets
from ..data.special_ids import MAX_IDS
from ..device import autocast, to_float64
from ..errors import InputError
from ..models import eval_mode
from ..models.language_model import call, device_of
from ..objectives import Loss
from ..objectives.model_calls import predictions


@dataclass(frozen=True, eq=False)
class Scores:
    """What each token of a batch adds to the score of its row.

    >>> import torch
    >>> from clozelab.evaluation import Scores
    >>> scores = Scores(torch.tensor([[0.0, -1.0, -2.0]]), torch.tensor([[False, True, True]]))
    >>> scores.log_prob, scores.nats_per_token
    (tensor([-3.]), tensor([1.5000]))
    >>> scores.bits_per_byte(torch.tensor([[2, 3, 3]])).item()  # 3 nats in 6 bytes: those that were scored
    0.7213475108146667

    The properties are those of each row, and NaN where nothing in a row was scored. Never average them over rows: add
    the `loss` of each batch, which is a sum and a count, and take its mean once.
    """

    token_log_probs: Tensor
    """(B, T) float32, nats: log p of each token given what its function conditions on; 0 where not scored."""
    scored: Tensor
    """(B, T) bool: the tokens that were scored; not padding, nor what the model was given without a score."""

    @property
    def log_prob(self) -> Tensor:
        """(B,) nats, at most 0: the sum over each row."""
        return to_float64(self.token_log_probs).sum(1).to(self.token_log_probs)

    @property
    def nats_per_token(self) -> Tensor:
        """(B,) nats for each scored token, at least 0."""
        return -self.log_prob / self.scored.sum(1)

    @property
    def perplexity(self) -> Tensor:
        """(B,): exp of `nats_per_token`, the number of equally likely tokens that would cost as much."""
        return self.nats_per_token.exp()

    def bits_per_byte(self, byte_counts: Tensor) -> Tensor:
        """(B,) bits per byte of text, which, unlike nats per token, compare models with different tokenizers.

        `byte_counts` are UTF-8 bytes: (B, T) of each token, of which only scored ones count, or (B,) of each whole
        text, which is right only where every token of it was scored.

        Raises `InputError` for another shape.
        """
        shape = self.token_log_probs.shape
        if check_tensor(byte_counts, "byte_counts", "(..., B)").shape not in (shape, shape[:1]):
            raise InputError(
                f"expected byte counts {tuple(shape)} of tokens or {tuple(shape[:1])} of texts, got "
                f"{tuple(byte_counts.shape)}"
            )
        counted = byte_counts if byte_counts.dim() == 1 else (byte_counts * self.scored).sum(1)
        return -self.log_prob / math.log(2) / counted

    @property
    def loss(self) -> Loss:
        """The whole batch as a sum (nats) and a count of tokens: losses of batches are added, and divided once."""
        total = -to_float64(self.token_log_probs).sum()
        return Loss.single(total, self.scored.sum().to(total.device), {"cross_entropy": total})


def causal_log_prob(
    model: nn.Module, input_ids: Tensor, attention_mask: Tensor | None = None, *, start_id: int | None = None
) -> Scores:
    """log p(text) under a model that reads from the left, by the chain rule: the sum of log p(x[t] | x[0..t-1]).

    - `input_ids` (B, T); `attention_mask` (B, T), 1 = token and 0 = padding on either side;
    - `start_id` is what the model has read before the first token, such as the end of text that precedes a document
      in training. With it all T tokens are scored, and the sum over all texts of T tokens is one. Without it **the
      first token of each row is not scored**, and the figure is log p(x[1..] | x[0]).

    >>> import torch
    >>> from clozelab.evaluation import causal_log_prob
    >>> from clozelab.models import DecoderOnly, ModelConfig
    >>> model = DecoderOnly(ModelConfig(vocab_size=5, d_model=8, n_heads=2, tied=False))  # first guess: uniform
    >>> scores = causal_log_prob(model, torch.tensor([[2, 3, 4], [3, 2, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]))
    >>> scores.token_log_probs  # ln 5 for each
    tensor([[ 0.0000, -1.6094, -1.6094],
            [ 0.0000, -1.6094,  0.0000]])
    >>> causal_log_prob(model, torch.tensor([[2, 3, 4]]), start_id=1).token_log_probs  # now the first one too
    tensor([[-1.6094, -1.6094, -1.6094]])

    Raises `InputError` for shapes that do not fit, padding inside of a row, and ids outside the vocabulary.

    Source: Bengio et al. 2003, section 1.
    """
    if getattr(model, "architecture", "decoder-only") == "encoder-only":
        raise InputError(
            "an encoder reads the token that it would predict, so it gives a text no probability: expected a decoder"
        )
    rows = _Rows.of(input_ids, attention_mask)
    ids, is_token = rows.ids, rows.is_token
    if start_id is not None:
        start_id = check_int(start_id, "start_id", 0, MAX_IDS)
        ids = torch.cat([torch.full_like(ids[:, :1], start_id), ids], 1)  # (B, T + 1)
        is_token = torch.cat([is_token.any(1, keepdim=True), is_token], 1)
    targets, scored = ids[:, 1:], is_token[:, 1:]
    log_probs = torch.zeros(targets.shape, device=ids.device)
    if bool(scored.any()):
        with in_full_precision(model):
            output = call(model, input_ids=ids[:, :-1], **_mask_where_needed(is_token[:, :-1]))
            log_probs[scored] = _log_probs(model, output, scored, targets)
    if start_id is None:
        log_probs, scored = (F.pad(values, (1, 0)) for values in (log_probs, scored))
    return rows.scores(log_probs, scored)


def pseudo_log_likelihood(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    *,
    mask_id: int,
    scored: Tensor | None = None,
    batch_size: int = 64,
) -> Scores:
    """How well each token fits its two sides: the sum of log p(x[t] | all the others), each masked in turn.

    A useful score for ranking sentences by a masked model, and **not a log-probability**: each token is predicted from
    all others, so over all texts of a length the exponentials do not sum to one, and its "perplexity" cannot be
    compared with that of a causal model. Words of several tokens score too well, since each token reveals the others.

    - `input_ids` (B, T); `attention_mask` (B, T), 1 = token and 0 = padding on either side;
    - `scored` (B, T) bool: the tokens to score, by default all. The paper leaves out [CLS] and [SEP];
    - `batch_size`: masked copies of a forward pass. A row of n scored tokens needs n copies.

    >>> import torch
    >>> from clozelab.evaluation import pseudo_log_likelihood
    >>> from clozelab.models import EncoderOnly, ModelConfig
    >>> model = EncoderOnly(ModelConfig(vocab_size=5, d_model=8, n_heads=2, tied=False))  # first guess: uniform
    >>> pseudo_log_likelihood(model, torch.tensor([[2, 3, 4]]), mask_id=1).token_log_probs  # ln 5 for each
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
    chosen = rows.is_token if scored is None else rows.is_token & rows.to_left(scored)
    log_probs = torch.zeros(rows.ids.shape, device=rows.ids.device)
    with in_full_precision(model):
        for row, place in zip(*(found.split(batch_size) for found in chosen.nonzero(as_tuple=True))):  # (N,) each
            masked = torch.zeros(len(place), log_probs.shape[1], dtype=torch.bool, device=place.device)
            masked[torch.arange(len(place), device=place.device), place] = True
            targets = rows.ids[row]  # (N, T): a copy of its row for each scored token
            mask = _mask_where_needed(rows.is_token[row])
            output = call(model, input_ids=targets.masked_fill(masked, mask_id), **mask)
            log_probs[row, place] = _log_probs(model, output, masked, targets)
    return rows.scores(log_probs, chosen)


def infill_log_prob(
    model: nn.Module, input_ids: Tensor, labels: Tensor, attention_mask: Tensor | None = None, *, start_id: int
) -> Scores:
    """log p(targets | inputs) of an encoder-decoder: the sum of log p(y[t] | y[0..t-1], inputs), every target scored.

    - `input_ids` (B, S); `attention_mask` (B, S), 1 = token and 0 = padding on either side;
    - `labels` (B, T): the targets, -100 after shorter ones, as the collator of `SpanCorruption` makes them;
    - `start_id`: what the decoder reads before the first target, `special["decoder_start"]` (T5: its padding id).

    The sum over all targets of T tokens is one; to sum to one over *all* targets they must end, with an end of text.

    >>> import torch
    >>> from clozelab.evaluation import infill_log_prob
    >>> from clozelab.models import EncoderDecoder, ModelConfig
    >>> model = EncoderDecoder(ModelConfig(vocab_size=5, d_model=8, n_heads=2, tied=False))  # first guess: uniform
    >>> infill_log_prob(model, torch.tensor([[2, 4, 1]]), torch.tensor([[4, 3, -100]]), start_id=0).token_log_probs
    tensor([[-1.6094, -1.6094,  0.0000]])

    Raises `InputError` for shapes that do not fit, padding inside of a row, and ids outside the vocabulary.

    Source: Raffel et al. 2020 (T5), section 2.1.
    """
    rows = _Rows.of(input_ids, attention_mask)
    start_id = check_int(start_id, "start_id")
    if check_tensor(labels, "labels", "(..., T)").dim() == 2 and bool(
        ((labels[:, :-1] == IGNORED) & (labels[:, 1:] != IGNORED)).any()
    ):
        raise InputError(f"{IGNORED} may stand only after the targets: a decoder cannot read a gap")
    targets = _Rows.of(labels, labels != IGNORED, "labels")
    if len(rows.ids) != len(targets.ids):
        raise InputError(f"expected as many targets as inputs, got {len(targets.ids)} and {len(rows.ids)}")
    log_probs = torch.zeros(targets.ids.shape, device=targets.ids.device)
    if bool(targets.is_token.any()):
        decoder_ids, mask = shift_targets(targets.ids, start_id), _mask_where_needed(rows.is_token)
        with in_full_precision(model):
            output = call(model, input_ids=rows.ids, decoder_input_ids=decoder_ids, **mask)
            log_probs[targets.is_token] = _log_probs(model, output, targets.is_token, targets.ids)
    return targets.scores(log_probs, targets.is_token)


@contextmanager
def in_full_precision(model: nn.Module) -> Iterator[None]:
    """`eval_mode`, and no autocast."""
    check_type(model, nn.Module, "the model")
    with eval_mode(model), autocast(device_of(model), bfloat16=False):
        yield


@dataclass(frozen=True, eq=False)
class _Rows:
    """A padded batch whose rows are moved to the left, and where each row began."""

    ids: Tensor
    """(B, T); 0 at padding, an id that every model has."""
    is_token: Tensor
    """(B, T) bool"""
    first: Tensor
    """(B,): where each row began."""

    @classmethod
    def of(cls, ids: Tensor, attention_mask: Tensor | None, name: str = "input_ids") -> _Rows:
        if check_tensor(ids, name, "(..., T)").dim() != 2 or ids.dtype not in (torch.int64, torch.int32):
            raise InputError(f"expected {name} (B, T) of whole numbers, got {ids.dtype} of shape {tuple(ids.shape)}")
        if attention_mask is not None and check_tensor(attention_mask, "attention_mask", "(..., T)").shape != ids.shape:
            raise InputError(f"expected attention_mask {tuple(ids.shape)}, got {tuple(attention_mask.shape)}")
        is_token = torch.ones_like(ids, dtype=torch.bool) if attention_mask is None else attention_mask != 0
        begins = is_token & ~F.pad(is_token, (1, 0))[:, :-1]
        if bool((begins.sum(1) > 1).any()):
            row = int((begins.sum(1) > 1).nonzero()[0])
            raise InputError(f"row {row} of {name} has padding in its middle: pad on one side, or both, of each text")
        rows = cls(ids, is_token, begins.int().argmax(1) if ids.shape[1] else begins.sum(1))
        is_token = rows.to_left(is_token)
        return cls(rows.to_left(ids).long().masked_fill(~is_token, 0), is_token, rows.first)

    def to_left(self, values: Tensor) -> Tensor:
        """(B, T) -> (B, T): each row rotated until it begins at the left."""
        return values.gather(1, self._places(self.first))

    def scores(self, log_probs: Tensor, scored: Tensor) -> Scores:
        """Scores (B, T) of the moved rows, at the places of the caller's tokens."""
        back = self._places(-self.first)
        return Scores(log_probs.gather(1, back), scored.gather(1, back))

    def _places(self, shift: Tensor) -> Tensor:
        length = self.ids.shape[1]
        return (torch.arange(length, device=self.ids.device) + shift[:, None]) % max(length, 1)


def _mask_where_needed(is_token: Tensor) -> dict[str, Any]:
    return {} if bool(is_token.all()) else {"attention_mask": is_token.long()}


def _log_probs(model: nn.Module, output: Any, scored: Tensor, targets: Tensor) -> Tensor:
    """(N,) float32 nats: log p of the targets (B, T) at the scored positions, the only ones that are projected."""
    prediction, targets = predictions(model, output)["logits"], targets[scored]
    states, table = prediction.states[scored], prediction.table  # (N, D) and (V, D), or (N, V) alone
    logits = states if table is None else F.linear(states, table)
    if targets.numel() and not (int(targets.min()) >= 0 and int(targets.max()) < logits.shape[-1]):
        raise InputError(
            f"tokens must lie in 0 .. {logits.shape[-1] - 1}, got {int(targets.min())} .. {int(targets.max())}: is the "
            "tokenizer larger than the model's vocabulary?"
        )
    return logits.float().log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1)
