"""The pages of `clozelab train` and `clozelab compare`, beside what else they leave in their folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..objectives import Objective
    from ..training import Compared, Prepared, PreparedStream, TrainConfig, TrainResult

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
    from ..display.pages import run_page, write_page
    from ..display.pages.show import heldout_data
    from ..training import read_metrics
    from ..training.guesses import guesses_of

    guesses = guesses_of(objective, prepared, config, result.step)
    asked = heldout_data(
        [objective],
        prepared.tokenizer,
        prepared.heldout,
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
        uniform=guesses.uniform,
        unigram=guesses.unigram,
        asked=asked,
    )
    return write_page(page, folder / "report.html")
