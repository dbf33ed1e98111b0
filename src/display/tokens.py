"""How tokens are written in pictures."""

from __future__ import annotations

from collections.abc import Iterable

from ..data import SpecialIds, Tokenizer
from ..escape import escape_control_characters


def special_names(special: SpecialIds) -> dict[int, str]:
    """Short names of the mask token, the sentinels and the roles.

    >>> from clozelab import SpecialIds
    >>> from clozelab.display.tokens import special_names
    >>> special_names(SpecialIds(vocab_size=9, pad=0, eos=1, mask=2, sentinels=(8, 7), roles={"fim_end": 3}))
    {2: '[M]', 8: '<0>', 7: '<1>', 3: '<fim_end>'}
    """
    names = {} if special.mask is None else {special.mask: "[M]"}
    names |= {one: f"<{k}>" for k, one in enumerate(special.sentinels)}
    return names | {one: f"<{role}>" for role, one in special.roles.items() if one not in (special.pad, special.eos)}


def token_texts(tokenizer: Tokenizer, ids: Iterable[int]) -> list[str]:
    """The text of each token, without the space before it: `␣` for white space alone.

    Special ids have their `special_names`. Part of a character is written as the vocabulary writes it.

    >>> from clozelab.display import word_tokenizer
    >>> from clozelab.display.tokens import token_texts
    >>> tokenizer = word_tokenizer("the cat")
    >>> token_texts(tokenizer, [*tokenizer.encode("the cat"), tokenizer.special["mask"]])
    ['the', 'cat', '[M]']
    """
    names, ids = special_names(tokenizer.special), list(ids)
    texts = []
    for one, piece in zip(ids, tokenizer.pieces(ids)):
        if "\ufffd" in piece:
            piece = tokenizer.backend.id_to_token(one) or piece
        texts.append(names.get(one) or escape_control_characters(piece.strip()) or "␣")
    return texts
