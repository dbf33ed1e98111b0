"""One table of all objectives, from what their classes say and from batches that they make."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from ..models import model_config
from ..objectives import Likelihood, Objective

VOCABULARY = 4096

FACTS = ("name", "class", "known from", "model", "hides", "reads", "predicts")
MEASURES = ("name", "in the loss", "operations", "likelihood", "floor", "completes", "export", "source")
"""The columns of the two halves of the table."""


def objectives_table(kinds: Iterable[type[Objective]], length: int = 128) -> list[dict[str, str]]:
    """A row for each class, by column: what it declares, and two numbers of rows of `length` input tokens.

    - `in the loss`: loss positions for each token of text, over all outputs, in percent;
    - `operations`: floating-point operations of a training step for each of them, of the size tiny with a vocabulary of
      4096, in millions;
    - `likelihood`: whether the loss, summed over a text, is -ln p (exact), bounds it, or neither;
    - `floor`: whether the least possible loss on a known language can be computed, and `clozelab floors` trains to it;
    - `export`: whether `clozelab.integrations.export` can take its models to `transformers`.

    >>> from clozelab import MaskedLM
    >>> from clozelab.display import objectives_table
    >>> [row] = objectives_table([MaskedLM], length=128)
    >>> row["known from"], row["in the loss"], row["likelihood"]
    ('BERT', '15%', 'none')

    Raises `InputError` for a length that an objective cannot use.
    """
    return [_row(kind, length) for kind in kinds]


def _row(kind: type[Objective], length: int) -> dict[str, str]:
    from ..planning import flops, row_of

    objective = kind()
    row = row_of(objective, length)
    cost = flops(objective, model_config(kind.architecture, "tiny", VOCABULARY), row)
    return {
        "name": kind.name,
        "class": kind.__name__,
        "known from": kind.canonical,
        "model": kind.architecture,
        "hides": kind.hides,
        "reads": kind.attends_to,
        "predicts": kind.predicts,
        "in the loss": f"{row.loss_positions / row.text:.0%}",
        "operations": f"{cost.total / row.loss_positions / 1e6:.1f} M",
        "likelihood": {Likelihood.EXACT: "exact", Likelihood.BOUND: "a bound", Likelihood.NONE: "none"}[
            kind.likelihood
        ],
        "floor": "exact" if kind.declares("entropy_floor") else "none known",
        "completes": " and ".join({"continue": "continues", "fill": "fills blanks"}[one] for one in kind.completes)
        or "-",
        "export": "yes" if kind.export_refusal is None else "no",
        "source": source_of(kind),
    }


def source_of(kind: type[Objective]) -> str:
    """The papers and sections that the docstring names: its first sentence behind "Source:"."""
    text = " ".join((inspect.getdoc(kind) or "").partition("Source:")[2].partition("\n\n")[0].split())
    return re.split(r"(?<!\bal)\. ", text)[0].removesuffix(".").strip()


def print_objectives(rows: Sequence[dict[str, str]], console: Console) -> None:
    """Print a paragraph for each row, as wide as the console."""
    for row in rows:
        console.print(
            Text.assemble((row["name"], "bold"), f": {row['class']}, as in {row['known from']}, {row['model']}")
        )
        sentences = (
            f"hides {row['hides']}; reads {row['reads']}; predicts {row['predicts']}",
            f"in the loss: {row['in the loss']} of the text, {row['operations']} operations each; likelihood: "
            f"{row['likelihood']}; floor: {row['floor']}; completes: {row['completes']}; export: {row['export']}",
            row["source"],
        )
        for sentence in sentences:
            console.print(Padding(Text(sentence), (0, 0, 0, 2)))


def objectives_markdown(rows: Sequence[dict[str, str]]) -> str:
    """The two halves as tables of Markdown."""
    halves = []
    for columns in (FACTS, MEASURES):
        lines = [columns, ["---"] * len(columns), *([row[column] for column in columns] for row in rows)]
        halves.append("".join("| " + " | ".join(cells) + " |\n" for cells in lines))
    return "\n".join(halves)
