"""Planted faults of masking rates that change, of spans up to a budget, and of the states beside a span."""

from __future__ import annotations

import torch

from clozelab.data import drawn_span_lengths
from clozelab.models import SpanBoundaryEncoder, model_config
from clozelab.objectives import MaskedLM, SpanBoundary, Target, options
from clozelab.objectives.span_boundary import boundary_distances

from .catalogue_objectives import objective
from .catalogue_schemes import RATE, scheme

# ------------------------------------------------------------------ rates


@objective("corruption")
@options
class RateByItsOwnCount(MaskedLM):
    """The rate falls with the batches that this process has made, so a resumed run begins at the top again."""

    name, schedule = "rate-by-its-own-count", "the rate falls"

    def rate_at(self, progress):
        self.made = getattr(self, "made", 0) + 1
        return max(0.15, 0.9 - 0.1 * self.made)


# ------------------------------------------------------------------ spans up to a budget


@scheme("rate", count=300)
def budget_overshot(tokens, maskable, generator):
    """Spans until the budget is reached, of which the last one is not cut: 19% for 15% of 64 tokens."""
    budget, mask = max(1, round(RATE * int(maskable.sum()))), torch.zeros_like(maskable)
    probabilities = torch.tensor(drawn_span_lengths("geometric-spans"))
    while int(mask.sum()) < min(budget, int(maskable.sum())):
        length = 1 + int(probabilities.multinomial(1, generator=generator))
        span = torch.arange(len(mask)) - int(torch.randint(len(mask), (1,), generator=generator))
        mask |= (span >= 0) & (span < length) & maskable
    return mask


@scheme("words")
def last_word_cut_at_the_budget(tokens, maskable, generator, word_ids):
    """Spans of whole words, of which the last is cut where the budget is used up, as in SpanBERT's own code."""
    budget, mask = max(1, round(RATE * int(maskable.sum()))), torch.zeros_like(maskable)
    probabilities = torch.tensor(drawn_span_lengths("geometric-spans"))
    word = (word_ids.diff(prepend=word_ids[:1]) != 0).cumsum(0)  # runs of one id
    while len(word) and int(mask.sum()) < min(budget, int(maskable.sum())):
        length = 1 + int(probabilities.multinomial(1, generator=generator))
        first = int(torch.randint(int(word[-1]) + 1, (1,), generator=generator))
        span = (word >= first) & (word < first + length) & maskable & ~mask
        mask |= span & (span.cumsum(0) <= budget - int(mask.sum()))
    return mask


# ------------------------------------------------------------------ the states beside a span


@objective("uniform", mask_rate=0.4)
@options
class BoundaryOverTheMaskedCount(SpanBoundary):
    """The second part is divided by the count of the first, though spans at the ends are in the first alone."""

    name = "boundary-over-the-masked-count"
    reads = SpanBoundary.reads

    def targets(self, batch):
        right = super().targets(batch)
        of_spans = right["boundary"]
        return right | {"boundary": Target(of_spans.labels, count=right["logits"].row_counts, weight=of_spans.weight)}


@objective("documents", mask_rate=0.4)
@options
class BoundaryInAnotherDocument(SpanBoundary):
    """A span at the end of a document takes the first token of the next one for the state beside it."""

    name = "boundary-in-another-document"
    reads = SpanBoundary.reads

    def corrupt(self, examples):
        batch = super().corrupt(examples)
        joined = type(examples)(examples.tokens, examples.is_token, examples.maskable, examples.noise, examples.special)
        before, after = boundary_distances(batch["labels"] != -100, joined)
        return batch | {"boundary_before": before, "boundary_after": after}


class AlwaysAnswers(SpanBoundaryEncoder):
    """Takes the first and the last token of a row where there is no pair."""

    def from_boundaries(self, states, before, after):
        return super().from_boundaries(states, before.clamp(min=1), after.clamp(min=1))


@objective("reads")
@options
class BoundaryWithoutAPair(SpanBoundary):
    """The second head has a state at every token, also where no two states stand beside a span."""

    name = "boundary-without-a-pair"
    reads = SpanBoundary.reads

    def build_model(self, vocab_size, size="tiny", **overrides):
        return AlwaysAnswers(model_config("encoder-only", size, vocab_size, **overrides))
