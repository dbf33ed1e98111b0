"""Control characters are escaped before text is printed: a corpus or a checkpoint may hold terminal commands."""

from __future__ import annotations

import re

# C0 except tab and line feed, DEL, C1; controls of the direction of writing; halves of surrogate pairs.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escape_control_characters(text: str) -> str:
    """The text with a visible symbol in place of each control character.

    >>> from clozelab.escape import escape_control_characters
    >>> escape_control_characters("red: \\x1b[31m, a bell: \\x07")
    'red: ␛[31m, a bell: ␇'
    """
    return _CONTROL.sub(lambda found: _symbol(ord(found[0])), text)


def _symbol(code: int) -> str:
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"
