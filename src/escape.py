"""Values and texts of others, as they are printed: escaped, on one line, and no longer than can be read."""

from __future__ import annotations

import re
import textwrap

# C0 except tab and line feed, DEL, C1; controls of the direction of writing; halves of surrogate pairs.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escape_control_characters(text: str) -> str:
    """The text with a visible symbol in place of each control character.

    >>> from clozelab.escape import escape_control_characters
    >>> escape_control_characters("red: \\x1b[31m, a bell: \\x07")
    'red: ␛[31m, a bell: ␇'
    """
    return _CONTROL.sub(lambda found: _symbol(ord(found[0])), text)


def shorten(text: object, most: int = 300) -> str:
    """The text on one line of at most `most` characters; what is too long is cut between words, or within a long one.

    >>> from clozelab.escape import shorten
    >>> shorten("a message of   somebody else's library", 24)
    'a message of ...'
    """
    line = " ".join(str(text).split())
    if len(line) <= most:
        return line
    short = textwrap.shorten(line[: most + 1] + "x", most, placeholder=" ...", break_on_hyphens=False)
    return short if len(short) > most // 2 else line[: most - 3] + "..."


def shown(value: object, most: int = 80) -> str:
    """The `repr` of a value in at most `most` characters, with "..." where it is cut.

    >>> from clozelab.escape import shown
    >>> shown("abcdefghijklmnop", 12), shown(10**40, 12), shown("abc", 12)
    ("'abcdefg...'", '100000000...', "'abc'")
    """
    if isinstance(value, (str, bytes)):
        for length in range(len(value) if len(value) <= most else most, -1, -1):
            cut = repr(value[:length])
            if len(cut) + 3 * (length < len(value)) <= most:
                return cut if length == len(value) else f"{cut[:-1]}...{cut[-1]}"
    return shorten(repr(value), most)


def counted(number: int, noun: str) -> str:
    """A number and what it counts, whose plural ends in "s".

    >>> from clozelab.escape import counted
    >>> counted(1, "document"), counted(2000, "token id")
    ('1 document', '2,000 token ids')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _symbol(code: int) -> str:
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"
