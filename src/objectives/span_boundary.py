"""Masked spans with the span boundary objective (SpanBERT): the states beside a hidden span predict its tokens too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..data.examples import IGNORED, Batch, Examples
from ..data.special_ids import SpecialIds
from ..data.tokenizers.tokenizer import Tokenizer
from ..generation import Completion
from ..languages import MarkovSource
from ..models import SpanBoundaryEncoder, model_config
from ..models.span_boundary import MOST_PLACES
from .loss import Target
from .masked_lm import MaskedLM, Scheme
from .model_calls import part_of
from .objective import FloorExercise, reads_of_one_stack
from .options import NotNegative, options


@options
class SpanBoundary(MaskedLM):
    """Masked LM of spans, and a second head that predicts each hidden token from the two states beside its span.

        text             20   21   22   23   24   25   26   27   28   29
        input_ids        20   21   [M]  [M]  [M]  25   26   [M]  28   29
        logits            .    .   22   23   24    .    .   27    .    .     count 4: as in masked LM
        boundary          .    .   22   23   24    .    .   27    .    .     count 4: from the states of
        boundary_before   0    0    1    2    3    0    0    1    0    0     21 and 25, and of 26 and 28
        boundary_after    0    0    3    2    1    0    0    1    0    0

    So the states beside a span are trained to represent its content. A span is a run of hidden tokens. A span at the
    start or end of a row (or of a document that is kept apart) lacks one of the two states and is left out of
    `boundary`, as are the tokens of any span from the 21st on. Each part is in nats per loss position of its own.

    The floors of both parts are those of masked LM on the same tokens. The states beside the span have read all visible
    tokens, and on a Markov chain a span depends only on its two visible neighbours.

    >>> import torch
    >>> from clozelab import SpecialIds
    >>> from clozelab.objectives import SpanBoundary
    >>> objective, special = SpanBoundary(mask_rate=0.4), SpecialIds(vocab_size=40, pad=0, eos=1, mask=2)
    >>> batch = objective.collator(special).block(torch.arange(20, 30)[None], example_ids=[4])
    >>> for name, target in objective.targets(batch).items():
    ...     print(f"{name:9}", *(f"{label:5}" for label in target.labels[0].tolist()))
    logits       20    21    22  -100  -100  -100  -100    27  -100  -100
    boundary   -100  -100  -100  -100  -100  -100  -100    27  -100  -100

    Raises `InputError` for options out of bounds, for a model without the second head, and for a batch that was made
    for another objective.

    Source: Joshi et al. 2020 (SpanBERT), sections 3.1 and 3.2, without single-sequence training. SpanBERT counts spans
    in words (`span_unit="words"`) and draws 80/10/10 once for a whole span; here each token has its own draw. Its code
    divides by the number of predicted tokens plus one.
    """

    name, canonical, architecture, colour = "sbo", "SpanBERT", "encoder-only", "#000000"
    hides, attends_to = "spans of tokens", "both sides"
    predicts = "the hidden tokens, and again from the states beside each span"
    exercise = FloorExercise(options={"mask_rate": 0.4, "mask_replace_prob": 1.0, "random_replace_prob": 0.0})
    export_refusal = (
        "its second head has no place in an encoder of transformers: export the trunk, which is a model of masked LM, "
        "clozelab.integrations.export.export(MaskedLM(), model.trunk, folder)"
    )

    scheme: Scheme = "geometric-spans"
    """Which tokens: spans of drawn lengths, single tokens, whole words, or a function."""
    boundary_weight: NotNegative = 1.0
    """Weight of the second head."""

    # hide

    def corrupt(self, examples: Examples) -> Batch:
        hidden = self.choose(examples, examples.text_maskable)
        before, after = boundary_distances(hidden, examples)
        return Batch(
            input_ids=self.hide(examples, hidden),
            labels=examples.answers.masked_fill(~hidden, IGNORED),
            boundary_before=before,
            boundary_after=after,
            **examples.reading_keys(),
        )

    # read

    def build_model(self, vocab_size: int, size: str = "tiny", **overrides: Any) -> SpanBoundaryEncoder:
        return SpanBoundaryEncoder(model_config(self.architecture, size, vocab_size, **overrides))

    def reads(self, batch: Batch) -> dict[tuple[str, str], Tensor]:
        """Both sides, which the states beside a span have read; nothing where there is no pair of them."""
        both_sides = reads_of_one_stack(batch, causal=False)
        has_pair = (batch["boundary_before"] > 0)[..., None]
        return {("logits", "input_ids"): both_sides, ("boundary", "input_ids"): both_sides & has_pair}

    # predict

    def targets(self, batch: Batch) -> dict[str, Target]:
        of_spans = batch["labels"].masked_fill(batch["boundary_before"] == 0, IGNORED)
        return {"logits": Target(batch["labels"]), "boundary": Target(of_spans, weight=self.boundary_weight)}

    # what others ask

    def uniform_values(self, vocab_size: int) -> dict[str, float]:
        return dict.fromkeys(("logits", "boundary"), super().uniform_values(vocab_size)["logits"])

    def entropy_floor(self, source: MarkovSource, batch: Batch, special: SpecialIds) -> dict[str, Tensor]:
        costs = self.posterior_costs(source, batch, special)  # (B, T)
        return {"logits": costs.sum(1), "boundary": (costs * (batch["boundary_before"] > 0)).sum(1)}

    def complete(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Fill the blanks of a text by the trunk: the second head only taught it."""
        return super().complete(part_of(model, "trunk"), tokenizer, text, **sampling)

    def sample(self, model: nn.Module, tokenizer: Tokenizer, text: str, **sampling: Any) -> Completion:
        """Hide every fifth token and fill it again by the trunk, the most certain one first."""
        return super().sample(part_of(model, "trunk"), tokenizer, text, **sampling)


def boundary_distances(hidden: Tensor, examples: Examples) -> tuple[Tensor, Tensor]:
    """How many tokens before and behind each hidden token (B, T) the visible ones beside its span stand: (B, T) each.

    Both are 0 where a token is visible, where its span touches an end, and from the 21st token of a span on.
    """
    place = torch.arange(hidden.shape[1]).expand_as(hidden)
    visible = ~hidden & examples.is_token
    left = torch.where(visible, place, -1).cummax(1).values
    right = torch.where(visible, place, hidden.shape[1]).flip(1).cummin(1).values.flip(1)
    has_pair = hidden & (left >= 0) & (right < hidden.shape[1]) & (place - left <= MOST_PLACES)
    if (documents := examples.document_ids) is not None:
        for end in (left, right):
            has_pair &= documents.gather(1, end.clamp(0, hidden.shape[1] - 1)) == documents
    return (place - left) * has_pair, (right - place) * has_pair
