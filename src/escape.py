"""Text from elsewhere, made harmless for a terminal: a corpus or a checkpoint may hold what a terminal obeys."""

from __future__ import annotations

import re

# C0 but for tab and line feed, DEL, C1; what turns the direction of writing round; halves of characters.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escape_control_characters(text: str) -> str:
    """The text with a picture in the place of each control character, so that it is seen and not obeyed.

    >>> escape_control_characters("red: \\x1b[31m, a bell: \\x07")
    'red: ␛[31m, a bell: ␇'
    """
    return _OBEYED.sub(lambda found: _picture(ord(found[0])), text)


def _picture(code: int) -> str:
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"
