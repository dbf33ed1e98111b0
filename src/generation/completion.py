"""A text that a model completed, and texts with blanks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from ..data.corpora.documents import checked_text
from ..data.tokenizers.tokenizer import Tokenizer
from ..errors import InputError
from ..escape import shown

BLANK = "___"
"""Stands for what is to be filled in a text: one token for masked LM, any number for span corruption."""

SPACES = " \u0120\u2581"
"""How vocabularies write the space before a word: as it is, in bytes (GPT-2), and SentencePiece's."""


@dataclass(frozen=True)
class Completion:
    """A text of which a model generated some parts.

    >>> from clozelab.generation import Completion
    >>> completion = Completion((("The cat ", False), ("sat", True), (" down.", False)))
    >>> str(completion), completion.marked()
    ('The cat sat down.', 'The cat [sat] down.')
    """

    parts: tuple[tuple[str, bool], ...]
    """(text, whether the model generated it)"""

    @classmethod
    def of(cls, tokenizer: Tokenizer, ids: Iterable[int], generated: Iterable[bool]) -> Completion:
        """From token ids and, for each, whether the model generated it. Neighbours are decoded together."""
        runs = groupby(zip(ids, generated), key=lambda pair: pair[1])
        return cls(tuple((tokenizer.decode([token for token, _ in run]), by_model) for by_model, run in runs))

    def marked(self, left: str = "[", right: str = "]") -> str:
        """The text with brackets around what the model generated."""
        return "".join(f"{left}{text}{right}" if by_model else text for text, by_model in self.parts)

    def __str__(self) -> str:
        return "".join(text for text, _ in self.parts)


def encode_blanks(tokenizer: Tokenizer, text: str, blanks: Iterable[int]) -> list[int]:
    """Token ids of a text, its blanks in order replaced by the ids `blanks`.

    The space before a blank is left out where a word of the vocabulary brings its own (`encode_before_blank`).

    Raises `InputError` for a text without a blank, or with more of them than ids to stand there.
    """
    if BLANK not in checked_text(text):
        raise InputError(f"expected a text with blanks written {BLANK}, got {shown(text)}")
    *before, last = text.split(BLANK)
    ids: list[int] = []
    stand_ins = iter(blanks)
    for done, piece in enumerate(before):
        blank = next(stand_ins, None)
        if blank is None:
            raise InputError(
                f"the text has {len(before)} blanks, but only {done} ids can stand in their place: give it in parts, "
                "or train with more sentinels"
            )
        ids += [*encode_before_blank(tokenizer, piece), blank]
    return [*ids, *tokenizer.encode(last)]


def encode_before_blank(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text with a blank behind it.

    Most vocabularies hold words with the space before them, and so the answer will bring it: a space at the end of the
    text would be a second one. A vocabulary of characters, say, has a token for the space, which stays.
    """
    brings_space = any(len(token) > 1 and token[0] in SPACES for token in tokenizer.vocabulary)
    return tokenizer.encode(text.removesuffix(" ") if brings_space else text)
