"""The pages of `clozelab train` and `clozelab compare`, beside what else they leave in their folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..objectives import Objective
    from ..training import Compared, Prepared, PreparedStream, TrainConfig, TrainResult

SEEN = 100
"""Training batches whose labels the unigram guess counts."""
ASKED = 128
"""Input tokens of the held-out example that is shown, at most."""


def write_comparison(
    rows: Sequence[Compared], prepared: Prepared, folder: Path, *, equal: str, seed: int, first_look: bool
) -> Path:
    """`report.html` of a comparison."""
    from ..display.pages import comparison_page, write_page
    from ..display.pages.show import heldout_data

    objectives = [row.objective for row in rows]
    length = min(rows[0].length, ASKED)
    asked = heldout_data(objectives, prepared.tokenizer, prepared.heldout, length, seed=seed)
    page = comparison_page(rows, prepared.corpus.name, equal, asked=asked, first_look=first_look)
    return write_page(page, folder / "report.html")


def write_run(
    objective: Objective, result: TrainResult, prepared: Prepared | PreparedStream, config: TrainConfig, folder: Path
) -> Path:
    """`report.html` of a training run. What a guess by frequency loses is not known of a text that is streamed."""
    from ..data import Stream
    from ..display.pages import run_page, write_page
    from ..display.pages.show import heldout_data
    from ..evaluation import uniform_baseline, unigram_baseline
    from ..evaluation.heldout_batches import heldout_batches
    from ..training import Batches, read_metrics
    from ..training.evaluations import evaluations_of

    tokenizer, text, heldout = prepared.tokenizer, prepared.text, prepared.heldout
    collator = objective.collator(tokenizer.special, seed=config.seed, within_documents=config.within_documents)
    length, size = objective.source_length(config.length), config.batch_size
    fixed = heldout_batches(heldout, collator, length, rows=evaluations_of(config).rows, batch_size=size).batches
    unigram = None
    if not isinstance(text, Stream):
        batches = Batches(text.blocks(length), collator, size, config.first_steps)
        seen = (batches[n] for n in range(min(result.step, SEEN)))
        unigram = unigram_baseline(objective, seen, fixed, tokenizer.vocab_size)
    asked = heldout_data(
        [objective],
        tokenizer,
        heldout,
        min(config.length, ASKED),
        seed=config.seed,
        within_documents=config.within_documents,
    )
    page = run_page(
        objective,
        result,
        read_metrics(folder / "metrics.jsonl", logged=False),
        corpus=prepared.corpus.name,
        where=str(folder),
        uniform=uniform_baseline(objective, fixed, tokenizer.vocab_size),
        unigram=unigram,
        asked=asked,
    )
    return write_page(page, folder / "report.html")
