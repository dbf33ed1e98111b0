"""Span corruption with a second task for its encoder, so that a small model learns to read within a lesson."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..checks import check_type
from ..data import IGNORED, Batch, Collator, Examples, SpecialIds, bernoulli_mask
from ..errors import InputError
from ..models import EncoderDecoder
from ..objectives import Loss, Prediction, SpanCorruption, Target

WHICH, WHAT = 100, 101  # streams of an example's noise that no objective uses
BLANK_RATE, KINDS = 0.15, 8


class SpansAndBlanks:
    """Span corruption, and in the same step single blanks that the encoder fills by itself.

        text          the  cat  sat  on   the  mat
        input_ids     the  cat  <X>  mat  </s>          span corruption, with the batches of `objective` itself
        labels        <X>  sat  on   the  </s>
        blank_ids     the  <Y>  sat  on   the  mat      15% of the tokens, each replaced by one of eight sentinels
        blank_labels   .   cat   .    .    .    .       predicted by the encoder, in place

    Trained on spans alone, a small encoder-decoder stays on a plateau whose end is a matter of luck: its decoder gains
    nothing from a sentinel before the encoder has put the neighbours there, and the encoder is in no loss before the
    decoder attends to it. The second loss ends the plateau. In lesson 13's language, 16 texts of 40 tokens a step and
    `TrainConfig()`'s learning rates, single hidden tokens lose 0.23, 0.18 and 0.24 of what a guess by frequency loses
    beyond the least possible, after 200 steps with seeds 10, 11, 12. On spans alone it is 0.97 and 0.94 with seeds 10
    and 11, and 0.96 after 400 steps with seed 10. 200 steps take 12 seconds of processor time instead of 8. A run of
    100 steps is too short: 0.90 with seed 11.

    It stands where an objective and its collator would: `block` makes the batches, `fit` takes the object itself as
    its loss, and the model is `objective.build_model(...)`. The two losses are added, each a mean of its own. The
    second pass through the encoder is part of the compute of a step: `positions_read` counts it.

    >>> import torch
    >>> from clozelab import SpanCorruption
    >>> from clozelab.course import SpansAndBlanks
    >>> from clozelab.languages import MarkovSource
    >>> source = MarkovSource.random(12, entropy=0.7)
    >>> special = source.special_ids(sentinels=8)
    >>> task = SpansAndBlanks(SpanCorruption(), special, seed=0)
    >>> batch = task.block(source.sample(2, 40), [0, 1])
    >>> model = task.objective.build_model(special.vocab_size, "tiny", d_model=16, n_layers=1, n_heads=1)
    >>> list(task(model, batch))  # two parts, each with its own count
    ['spans', 'blanks']

    Raises `InputError` for another objective than span corruption, for a vocabulary without sentinels, and for a model
    that is no `EncoderDecoder`.
    """

    def __init__(self, objective: SpanCorruption, special: SpecialIds, *, seed: int = 0) -> None:
        self.objective = check_type(objective, SpanCorruption, "the objective", "give SpanCorruption()")
        self.sentinels = torch.tensor(special.sentinels[:KINDS])
        if not len(self.sentinels):
            raise InputError("blanks are sentinels, and this vocabulary has none: ask for special_ids(sentinels=8)")
        self._collator = Collator(self.corrupt, special, seed=seed)

    def block(self, tokens: Tensor, example_ids: Sequence[int] | Tensor, *, epoch: int = 0) -> Batch:
        """The batch of span corruption for tokens (B, T), and `blank_ids` and `blank_labels` (B, T) beside it."""
        return self._collator.block(tokens, example_ids, epoch=epoch)

    def corrupt(self, examples: Examples) -> Batch:
        """The corruption: spans as the objective draws them, and independent blanks in the whole text."""
        blank = bernoulli_mask(examples.text_maskable, examples.uniform(WHICH), BLANK_RATE)
        drawn = self.sentinels[(examples.uniform(WHAT) * len(self.sentinels)).long()]
        return {
            **self.objective.corrupt(examples),
            "blank_ids": torch.where(blank, drawn, examples.tokens),
            "blank_labels": examples.tokens.masked_fill(~blank, IGNORED),
        }

    def __call__(self, model: nn.Module, batch: Batch) -> Loss:
        """The loss of a batch, in two parts: "spans" and "blanks"."""
        model = check_type(model, EncoderDecoder, "the model", "build it by objective.build_model(...)")
        spans = {key: value for key, value in batch.items() if not key.startswith("blank_")}
        states = model.encode(batch["blank_ids"])  # (B, T, D)
        blanks = Target(batch["blank_labels"]).part(Prediction(states, model.unembedding))
        return Loss({"spans": self.objective(model, spans)["logits"], "blanks": blanks})

    @staticmethod
    def positions_read(batch: Batch) -> int:
        """The positions of a batch that the model computes on: the text with blanks, the inputs and the targets."""
        read = batch["attention_mask"].sum() + (batch["labels"] != IGNORED).sum()
        return int(read) + batch["blank_ids"].numel()
