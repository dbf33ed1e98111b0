"""What objectives hide, read and predict, in colour, from the batches that their models would get."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.jupyter import JupyterMixin
from rich.text import Text

from ..checks import check_int, check_type
from ..data import Batch, Tokenizer, train_bpe
from ..data.corpora.documents import checked_text
from ..errors import InputError
from ..objectives import Objective
from .columns import CUT, defined, encodable, longest_cell, wrapped
from .legend import COLOURS, QUIET, Seen, legend
from .picture import Picture


def word_tokenizer(text: str, roles: Sequence[str] = ()) -> Tokenizer:
    """A tokenizer whose tokens are the words of one text, as byte-level BPE with enough merges makes it.

    Its single bytes are declared special ids, so that a random replacement is another word of the text. `roles` are
    those of the objectives that the text is shown to.

    >>> from clozelab.display import word_tokenizer
    >>> tokenizer = word_tokenizer("the cat sat")
    >>> tokenizer.pieces(tokenizer.encode("the cat sat"))
    ['the', ' cat', ' sat']

    Raises `InputError` for what is not a text.
    """
    tokenizer = train_bpe([checked_text(text)] * 2, vocab_size=30_000, roles=roles)
    special = tokenizer.special
    words = {*tokenizer.encode(text), *special.all}
    others = [one for one in range(tokenizer.vocab_size) if one not in words]
    return Tokenizer(tokenizer.backend, replace(special, others=others))


def show_objectives(
    objectives: Sequence[Objective], tokenizer: Tokenizer, text: str, *, seed: int = 0, length: int = 128
) -> ShownObjectives:
    """What each objective makes of a text: aligned lines for each sequence that its model reads, and a legend.

    Below what is read stands what must be predicted there, with its weight where the objective has weights. Other keys
    of the batch with one number a token (`reading_rank`, `document_ids`) are lines of their own; what is left out is
    named in the end. `seed` is that of the noise. Of a longer text the first `length` tokens are shown. The result is
    for `rich.print`; a notebook displays the page of `show_page` with this seed and the three behind it.

    >>> from rich.console import Console
    >>> from clozelab import PrefixLM
    >>> from clozelab.display import show_objectives, word_tokenizer
    >>> text = "the cat sat on it"
    >>> Console(width=80).print(show_objectives([PrefixLM()], word_tokenizer(text), text))
    prefix (UniLM, decoder-only): hides what follows a prefix; reads the prefix on
    both sides, then what comes before it; predicts every token after the prefix
    text      the cat sat on it
    reads     the cat sat on it
    rank      0   0   1   2  3
    predicts  ·   sat on  it ·
    3 of 5 outputs are in the loss
    <BLANKLINE>
    ·     not in the loss
    rank  a token reads the tokens of its own rank and of lower ranks
    not shown of the batches: attention_mask (1 everywhere: nothing is padded)

    Raises `InputError` for a text without tokens, and for a vocabulary that lacks a role of an objective.
    """
    check_type(objectives, Sequence, "the objectives", "put one in a list")
    check_type(tokenizer, Tokenizer, "the tokenizer")
    ids = tokenizer.encode(text)
    if not ids:
        raise InputError("the text is empty: nothing can be hidden in it")
    tokens = torch.tensor([ids[: check_int(length, "length")]])
    pictures = []
    for objective in objectives:
        check_type(objective, Objective, "the objective")
        batch = objective.collator(tokenizer.special, seed=seed).block(tokens, [0])
        pictures.append(Picture(objective, batch, tokens[0].tolist(), tokenizer))
    return ShownObjectives(pictures, tokenizer, text, seed=seed, tokens=len(ids), length=length)


def depends_on_seed(objective: Objective, tokenizer: Tokenizer, text: str, *, length: int = 128) -> bool:
    """Whether `show_objectives` shows another row of this text with another seed, of eight.

    >>> from clozelab import CausalLM, MaskedLM
    >>> from clozelab.display import depends_on_seed, word_tokenizer
    >>> text = "the cat sat on the mat"
    >>> [depends_on_seed(one, word_tokenizer(text), text) for one in (CausalLM(), MaskedLM())]
    [False, True]
    """
    tokens = torch.tensor([tokenizer.encode(text)[:length]])

    def batch(seed: int) -> Batch:
        return objective.collator(tokenizer.special, seed=seed).block(tokens, [0])

    first = batch(0)
    return any(not torch.equal(first[key], value) for seed in range(1, 8) for key, value in batch(seed).items())


class ShownObjectives(JupyterMixin):
    """The pictures of some objectives and one legend, for `rich.print`; a page, for notebooks."""

    def __init__(
        self, pictures: Sequence[Picture], tokenizer: Tokenizer, text: str, *, seed: int, tokens: int, length: int
    ) -> None:
        self.pictures, self.tokenizer, self.text, self.seed, self.length = pictures, tokenizer, text, seed, length
        self.tokens = tokens
        """Of the whole text."""

    def _repr_html_(self) -> str:
        from .pages import show_page

        objectives = [picture.objective for picture in self.pictures]
        seeds = range(self.seed, self.seed + 4)
        return show_page(objectives, self.tokenizer, self.text, seeds=seeds, length=self.length, embed=True)

    def _repr_mimebundle_(self, include: Sequence[str], exclude: Sequence[str], **settings: Any) -> dict[str, str]:
        """For a notebook: the lines that a terminal shows, and the page in the place of their HTML."""
        bundle = super()._repr_mimebundle_(include, exclude, **settings)
        if "text/html" in bundle:
            bundle["text/html"] = self._repr_html_()
        return bundle

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        width, encoding = options.max_width, options.encoding

        def text(*parts: tuple[str, str]) -> Iterator[Text]:
            whole = Text.assemble(*((encodable(part, encoding), style) for part, style in parts))
            for line in whole.wrap(console, width):
                line.rstrip()
                yield line

        for picture in self.pictures:
            yield from text(*picture.title)
            for lines in picture.groups:
                yield from wrapped(lines, picture.margin, width, encoding)
            for note in picture.notes():
                yield from text((note, "italic"))
            yield Text()
        yield from defined(list(self._legend(width)), width, encoding)
        if console.color_system is not None and not console.no_color:
            styles = {style for picture in self.pictures for _, style in picture.seen.cells}
            words = [(meaning, style) for style, meaning in COLOURS.items() if style in styles]
            yield from text(("colours: ", QUIET), *_separated(words))
        for line in self._left_out():
            yield from text((line, QUIET))

    def _legend(self, width: int) -> Iterator[tuple[str, str, str]]:
        seen = Seen(
            *(
                set[Any]().union(*(getattr(one.seen, name) for one in self.pictures))
                for name in ("ids", "cells", "labels")
            )
        )
        yield from legend(self.tokenizer, seen)
        if any(cell_len(cell) > longest_cell(one.margin, width) for one in self.pictures for cell, _ in one.seen.cells):
            yield CUT, QUIET, "the rest of a long token is not shown"

    def _left_out(self) -> Iterator[str]:
        """What is not shown."""
        shown = len(self.pictures[0].text) if self.pictures else 0
        if shown < self.tokens:
            yield f"not shown: {self.tokens - shown:,} of the {self.tokens:,} tokens of the text"
        if keys := dict.fromkeys(one for picture in self.pictures for one in picture.left_out):
            yield f"not shown of the batches: {', '.join(keys)}"


def _separated(words: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for place, word in enumerate(words):
        if place:
            yield ", ", QUIET
        yield word
