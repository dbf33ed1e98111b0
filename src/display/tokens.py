"""How tokens are written in pictures."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import pairwise

from rich.cells import cell_len

from ..data import SpecialIds, Tokenizer
from ..data.tokenizers.tables import BYTE_ALPHABET, SPACE_MARK
from ..escape import escape_control_characters

SPACE = "␣"
REST = "+"
"""Stands for a token that is a further part of the character before it."""
_BYTE_TOKEN = re.compile("<0x([0-9A-F]{2})>")
_PART = re.compile("[\udc80-\udcff]")
_BREAKS = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_JOINERS = "\u200c\u200d"
"""They shape the signs around them, in Persian, in Hindi, in families of emoji."""
_STYLES = [chr(code) for code in range(0xFE00, 0xFE10)]
"""Variation selectors: the style of the sign before them."""
_INVISIBLE = {"Cc", "Cf", "Cn", "Co", "Zl", "Zp", "Zs"}
_BLANKS = "\u115f\u1160\u2800\u3164\uffa0\ufffd"
"""Letters that look like a space, and the sign of a character that was lost before."""


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


def token_texts(tokenizer: Tokenizer, ids: Iterable[int], *, spaces: bool = False) -> list[str]:
    """Each token as it is written in a picture: nothing in it is invisible, and nothing moves the cursor.

    Special ids have their `special_names`. Part of a character is written byte by byte, `<0xE4>`; a line break `\\n`;
    white space alone `␣`. The single space before a token is left out, or written as `␣` with `spaces`.

    >>> from clozelab.data import train_bpe
    >>> from clozelab.display.tokens import token_texts
    >>> tokenizer = train_bpe(["the cat"] * 2, vocab_size=400)
    >>> token_texts(tokenizer, [*tokenizer.encode("the cat"), tokenizer.special["mask"]])
    ['the', 'cat', '[M]']
    >>> token_texts(tokenizer, tokenizer.encode("the cat\\né"), spaces=True)
    ['the', '␣cat', '\\\\n', '<0xC3>', '<0xA9>']
    """
    names = special_names(tokenizer.special)
    ids = list(ids)
    return [names.get(one) or _visible(text, spaces) for one, text in zip(ids, _raw_texts(tokenizer, ids))]


def text_cells(tokenizer: Tokenizer, ids: Sequence[int], *, spaces: bool = False) -> list[str]:
    """As `token_texts`, with a character whose bytes are several tokens at the first of them, and `+` at the others.

    >>> from clozelab.data import train_bpe
    >>> from clozelab.display.tokens import text_cells
    >>> tokenizer = train_bpe(["the cat"] * 2, vocab_size=400)
    >>> text_cells(tokenizer, tokenizer.encode("the é"))
    ['the', '␣', 'é', '+']
    """
    raw, texts = _raw_texts(tokenizer, ids), token_texts(tokenizer, ids, spaces=spaces)
    start = 0
    while start < len(raw):
        end = start + 1
        while _PART.search(_joined(raw[start:end])) and end < min(start + 4, len(raw)):
            end += 1
        if end > start + 1 and not _PART.search(whole := _joined(raw[start:end])):
            texts[start:end] = [_visible(whole, spaces), *[REST] * (end - start - 1)]
            start = end
        else:
            start += 1
    return texts


def _joined(texts: Sequence[str]) -> str:
    return "".join(texts).encode(errors="surrogateescape").decode(errors="surrogateescape")


def cuts_words(tokenizer: Tokenizer, ids: Sequence[int]) -> bool:
    """Whether the tokens of a text cut a word: then only their spaces show where words begin.

    >>> from clozelab.data import train_bpe
    >>> from clozelab.display.tokens import cuts_words
    >>> tokenizer = train_bpe(["the cat"] * 2, vocab_size=400)
    >>> cuts_words(tokenizer, tokenizer.encode("the cat")), cuts_words(tokenizer, tokenizer.encode("the catalogue"))
    (False, True)
    """
    texts = _raw_texts(tokenizer, ids)
    return any(before[-1:].isalnum() and after[:1].isalnum() for before, after in pairwise(texts))


def _raw_texts(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str]:
    """The text of each token, its spaces included; a byte that is part of a character is a lone surrogate U+DCxx."""
    layout, added = tokenizer.layout, tokenizer.added
    texts = []
    for one in ids:
        token = tokenizer.token(one)
        if token is None:  # an id of a larger vocabulary that stands for nothing
            texts.append(f"<{one}>")
        elif one in added:
            texts.append(token)
        elif layout == "bytes" and all(sign in BYTE_ALPHABET for sign in token):
            texts.append(bytes(BYTE_ALPHABET[sign] for sign in token).decode(errors="surrogateescape"))
        elif found := _BYTE_TOKEN.fullmatch(token):
            texts.append(bytes([int(found[1], 16)]).decode(errors="surrogateescape"))
        elif layout == "metaspace":
            texts.append(token.replace(SPACE_MARK, " "))
        else:
            texts.append(tokenizer.decode([one]) or token)
    return texts


def _visible(text: str, spaces: bool) -> str:
    """A token's text with a visible sign for whatever has none."""
    body = text.strip(" ")
    if not body:
        return SPACE * len(text) if len(text) <= 4 else f"{SPACE}×{len(text)}"
    before, after = len(text) - len(text.lstrip(" ")), len(text) - len(text.rstrip(" "))
    if before == 1 and not spaces:
        before = 0
    if unicodedata.category(body[0])[0] == "M" and body[0] not in _STYLES:
        body = f"◌{body}"  # else the mark would stand on the space before it
    shown = "".join(_visible_sign(body, at) for at in range(len(body)))
    if cell_len(shown) == 0:
        shown = "".join(map(_code_point, body))
    return SPACE * before + shown + SPACE * after


def _visible_sign(text: str, at: int) -> str:
    """One character of a token, or what is written in its place."""
    sign = text[at]
    if sign in _BREAKS:
        return _BREAKS[sign]
    if _PART.match(sign):
        return f"<0x{ord(sign) - 0xDC00:02X}>"
    if sign == " " or (sign in _STYLES and at > 0):
        return sign
    if sign in _JOINERS and 0 < at < len(text) - 1:
        return sign
    if sign < "\x80":
        return escape_control_characters(sign)
    if unicodedata.category(sign) in _INVISIBLE or sign in _STYLES or sign in _BLANKS:
        return _code_point(sign)
    return sign


def _code_point(sign: str) -> str:
    return f"<U+{ord(sign):04X}>"
