"""What a run's held-out loss stands beside: the losses of guesses on the same held-out examples."""

from __future__ import annotations

from typing import NamedTuple

from ..data import Batch, Stream
from ..evaluation.baselines import uniform_baseline, unigram_baseline
from ..evaluation.heldout_batches import heldout_batches
from ..objectives import Objective
from .batches import Batches
from .config import TrainConfig
from .evaluations import evaluations_of
from .prepare import Prepared, PreparedStream

SEEN = 100
"""Training batches whose labels the unigram guess counts."""


class Guesses(NamedTuple):
    """Held-out nats of guesses that read nothing."""

    uniform: float
    """All ids are equally likely: ln V."""
    unigram: float | None
    """The frequencies of what was predicted in training; None of a text that is streamed, and not read again."""


def guesses_of(objective: Objective, prepared: Prepared | PreparedStream, config: TrainConfig, steps: int) -> Guesses:
    """The guesses beside a run of so many steps; raises what `run_batches` raises."""
    batches, fixed = run_batches(objective, prepared, config)
    vocab_size = prepared.tokenizer.vocab_size
    unigram = None
    if batches is not None:
        seen = (batches[n] for n in range(min(steps, SEEN)))
        unigram = unigram_baseline(objective, seen, fixed, vocab_size)
    return Guesses(uniform_baseline(objective, fixed, vocab_size), unigram)


def run_batches(
    objective: Objective, prepared: Prepared | PreparedStream, config: TrainConfig
) -> tuple[Batches | None, list[Batch]]:
    """The batches of a run, None of a text that is streamed; and those of its evaluations.

    Raises `InputError` for a text that does not fill a block.
    """
    special = prepared.tokenizer.special
    collator = objective.collator(special, seed=config.seed, within_documents=config.within_documents)
    length, text = objective.source_length(config.length), prepared.text
    batches = None
    if not isinstance(text, Stream):
        batches = Batches(text.blocks(length), collator, config.batch_size, config.first_steps)
    return batches, heldout_batches(prepared.heldout, collator, length, rows=evaluations_of(config).rows).batches
