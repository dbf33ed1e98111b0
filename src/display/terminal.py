"""What a model reads, what it must say and which positions pay, in colour, from the batch that it would get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from rich.console import Group, RenderableType
from rich.text import Text

from ..checks import check_type
from ..data import IGNORED, Tokenizer, train_bpe
from ..data.corpora.documents import checked_text
from ..errors import InputError
from ..escape import escape_control_characters
from ..objectives import Objective

READ, HIDDEN, PAID, UNPAID = "default", "bold yellow", "bold green", "dim"
"""Told apart by sign as well as by colour: what is not paid is a dot."""


def word_tokenizer(text: str) -> Tokenizer:
    """A tokenizer whose tokens are the words of one text: with enough merges, byte-level BPE comes to that.

    Its single bytes are declared to be no text, so that a random replacement is another word of the text.
    """
    tokenizer = train_bpe([checked_text(text)] * 2, vocab_size=30_000)
    special = tokenizer.special
    words = {*tokenizer.encode(text), *special.all}
    others = [id for id in range(tokenizer.vocab_size) if id not in words]
    return Tokenizer(tokenizer.backend, replace(special, others=others))


@dataclass(frozen=True)
class Line:
    """One row of cells, each a text and a style, under one another with the other lines of its group."""

    label: str
    cells: list[tuple[str, str]]


def show_objective(objective: Objective, tokenizer: Tokenizer, text: str, *, seed: int = 0) -> RenderableType:
    """What `objective` makes of a text, one aligned group of lines for each sequence that the model reads.

    Raises `InputError` for an empty text (nothing could be hidden in it).
    """
    check_type(objective, Objective, "the objective")
    check_type(tokenizer, Tokenizer, "the tokenizer")
    tokens = torch.tensor([tokenizer.encode(text)])
    if tokens.numel() == 0:
        raise InputError("the text is empty: nothing can be hidden in it")
    special = tokenizer.special
    batch = objective.collator(special, seed=seed).block(tokens, [0])
    inputs = batch["input_ids"][0].tolist()
    said, labels = objective.align(torch.arange(batch["labels"].shape[1])[None], batch["labels"])
    answers = {int(t): int(label) for t, label in zip(said[0], labels[0]) if label != IGNORED}
    reader = batch.get("decoder_input_ids", batch["input_ids"])[0].tolist()
    text_ids = tokens[0].tolist()

    def piece(id: int) -> str:
        return escape_control_characters("".join(tokenizer.pieces([id])).strip()) or "␣"

    def read(ids: Sequence[int], originals: Sequence[int]) -> list[tuple[str, str]]:
        return [
            (piece(id), HIDDEN if id in special.sentinels or id == special.mask or id not in originals else READ)
            for id in ids
        ]

    said_or_dot = [(piece(answers[t]), PAID) if t in answers else ("·", UNPAID) for t in range(len(reader))]
    must_say = Line("must say", said_or_dot)
    groups = [[Line("text", [(piece(id), UNPAID) for id in text_ids])]]
    if "decoder_input_ids" in batch:
        groups += [[Line("encoder reads", read(inputs, text_ids))]]
        groups += [[Line("decoder reads", read(reader, [*text_ids, special.pad])), must_say]]
    else:
        groups += [[Line("reads", read(inputs, text_ids)), must_say]]
    title = Text.assemble(
        (f"{objective.name} ", "bold"),
        f"({objective.canonical}, {objective.architecture})  hides {objective.hides}; reads {objective.reads}; "
        f"predicts {objective.predicts}",
    )
    computed = len(inputs) + (len(reader) if "decoder_input_ids" in batch else 0)
    paid = Text(f"paid: {len(answers)} of {computed} positions that the model computes on", style="italic")
    return Group(title, *(Columns(lines) for lines in groups), paid, Text())


class Columns:
    """Lines of cells in common columns, wrapped together at the width of the terminal."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines

    def __rich_console__(self, console, options):
        margin = max(len(line.label) for line in self.lines) + 2
        widths = [max(len(cell) for cell, _ in column) for column in zip(*(line.cells for line in self.lines))]
        start = 0
        while start < len(widths):
            end, used = start, margin
            while end < len(widths) and (end == start or used + widths[end] + 1 <= options.max_width):
                used += widths[end] + 1
                end += 1
            for line in self.lines:
                row = Text(f"{line.label if start == 0 else '':{margin}}", style="dim")
                for (cell, style), width in zip(line.cells[start:end], widths[start:end]):
                    row.append(f"{cell:{width}} ", style=style)
                yield row
            start = end
