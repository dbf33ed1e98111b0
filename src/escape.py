"""Text of others, as it is printed: control characters escaped, on one line, no longer than can be read."""

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
    short = textwrap.shorten(line[: most + 1], most, placeholder=" ...", break_on_hyphens=False)
    return short if len(short) > most // 2 else line[: most - 3] + "..."


def _symbol(code: int) -> str:
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"
