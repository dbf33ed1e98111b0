"""What the signs of `show_objectives` mean: those that were shown, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..data import Tokenizer
from .tokens import REST, SPACE, special_names

READ, SPECIAL, RANDOM, KEPT, IN_LOSS, QUIET = "default", "yellow", "bold magenta", "cyan", "bold green", "dim"
"""Styles of cells."""
COLOURS = {
    IN_LOSS: "to be predicted",
    SPECIAL: "not text",
    RANDOM: "drawn at random",
    KEPT: "to be predicted, and not hidden",
}
HIDING = "hidden as"
ROWS = {
    HIDING: "what the model reads where it must predict: the mask token; random, another token; kept, the token itself "
    "(BERT: 80%, 10%, 10%). So the model cannot trust the visible tokens",
    "rank": "a token reads the tokens of its own rank and of lower ranks",
    "group": "all tokens may read a token of group 0; only its own group may read any other",
    "position": "the position that the model receives for the token",
    "document": "a token reads only its own document",
    "boundary before": "a token is predicted from two states: one this many tokens before it,",
    "boundary after": "and one this many tokens after it",
    "weight": "what the loss of an output is multiplied by",
    "sampling noise": "above 0, the generator samples a token with it, which the discriminator reads here",
    "replaced?": "whether the generator's sample differs from this token",
    "no. 2": "the second likeliest id of the predicted distribution",
    "no. 3": "the third",
    "probability": "that of the id above it, where it is 0.005 or more",
}
"""By the label of a row, without the name of its output."""


@dataclass
class Seen:
    """What a picture shows, and a legend explains."""

    ids: set[int] = field(default_factory=set)
    cells: set[tuple[str, str]] = field(default_factory=set)
    """(text, style)"""
    labels: set[str] = field(default_factory=set)


def legend(tokenizer: Tokenizer, seen: Seen) -> Iterator[tuple[str, str, str]]:
    """(sign, its style, its meaning) of what was seen."""
    special = tokenizer.special
    names = special_names(special)
    texts = [text for text, _ in seen.cells]

    def named(ids: Iterable[int]) -> list[str]:
        return [names[one] for one in ids if one in seen.ids and one in names]

    def like(pattern: str) -> str:
        """The first text that a pattern is found in: the part that was found."""
        found = (re.search(pattern, text) for text in sorted(texts))
        return next((one[0] for one in found if one), "")

    sentinels = named(special.sentinels)
    lines = [
        ("·" if ("·", QUIET) in seen.cells else "", QUIET, "not in the loss"),
        ("[M]" if special.mask in seen.ids else "", SPECIAL, "the mask token, in the place of one hidden token"),
        (
            " ".join(sentinels if len(sentinels) < 5 else [*sentinels[:2], "...", sentinels[-1]]),
            SPECIAL,
            "sentinels: each stands for a hidden run, and opens it in the targets",
        ),
        (
            " ".join(named(special.roles.values())),
            SPECIAL,
            "role tokens: they mark parts of the text, or the task",
        ),
    ]
    for one in sorted(seen.ids & {*special.all} - names.keys()):
        lines.append((tokenizer.token(one) or f"<{one}>", SPECIAL, _meaning(tokenizer, one)))
    lines += [
        (like("^##"), READ, "continues the word before it"),
        (SPACE if like(SPACE) else "", READ, "a space"),
        (like(r"^\\[nrt]$"), READ, "a line break, or a tab"),
        (like("<0x[0-9A-F]{2}>"), READ, "a byte: part of a character"),
        (REST if (REST, QUIET) in seen.cells else "", QUIET, "a further part of the character before it"),
        (like(r"<U\+[0-9A-F]+>"), READ, "a character that cannot be seen"),
        (like("[\u2400-\u2421]"), READ, "a control character"),
    ]
    yield from (line for line in lines if line[0])
    labels = {label.split(" (")[0] for label in seen.labels}
    yield from ((label, QUIET, meaning) for label, meaning in ROWS.items() if label in labels)


def _meaning(tokenizer: Tokenizer, one: int) -> str:
    special = tokenizer.special
    meanings = {
        tokenizer.unknown: "stands for text that the vocabulary cannot represent",
        special.eos: "end of text",
        special["decoder_start"]: "the decoder's first input",
    }
    return meanings.get(one, "a special token of the tokenizer")
