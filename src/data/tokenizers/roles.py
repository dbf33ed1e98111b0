"""Which token has which role: as it is stated, by its name, or added; and tokens that only look special."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from ...checks import check_int
from ...errors import InputError
from ...escape import shown
from ..special_ids import SpecialIds
from .vocabulary import KNOWN_NAMES

SHOWN = 5
"""Tokens that one line names."""
_LIKE_SPECIAL = re.compile(
    r"<(?!0x[0-9A-F]{2}>)[|/]?[A-Za-z_][A-Za-z_0-9]*\|?>|\[[A-Z_]{2,}[0-9]*\]|\[[a-z_]{2,}\]"
    r"|(PAD|EOS|BOS|SOS|UNK|MASK|SEP|CLS)(_None|_TOKEN|_token)?"
)
_ROLE_WORDS = {
    "pad": ("pad", "padding"),
    "eos": ("eos", "endoftext", "end_of_text", "/s", "sep"),
    "mask": ("mask",),
    "unk": ("unk", "unknown"),
    "bos": ("bos", "sos", "s", "startoftext", "begin_of_text", "cls"),
}
"""What the names of tokens of a role say, in lower case, without brackets."""


def stated_ids(vocabulary: Mapping[str, int], roles: Mapping[str, str | int | None]) -> dict[str, int]:
    """The id of each role that is stated, by the text of a token or as an id; None states nothing.

    >>> from clozelab.data.tokenizers.roles import stated_ids
    >>> stated_ids({"[pad]": 0, "</s>": 1}, {"pad": "[pad]", "eos": 1, "mask": None})
    {'pad': 0, 'eos': 1}

    Raises `InputError` for a token that the vocabulary does not have, with those that are written most alike.
    """
    ids: dict[str, int] = {}
    for role, token in roles.items():
        if token is None:
            continue
        if isinstance(token, str):
            if token not in vocabulary:
                near = _near(token, vocabulary)
                hint = f": did you mean {' or '.join(near)}?" if near else ""
                raise InputError(f"{role}: the tokenizer has no token {shown(token)}{hint}")
            ids[role] = vocabulary[token]
        else:
            ids[role] = check_int(token, f"the id of {role}", 0)
            if ids[role] not in vocabulary.values():
                raise InputError(
                    f"{role}: the tokenizer has no token of the id {token}; its ids go up to "
                    f"{max(vocabulary.values(), default=-1)}"
                )
    return ids


def _near(name: str, vocabulary: Iterable[str]) -> list[str]:
    """At most three tokens that are written like a name, those that look special first."""
    tokens = list(vocabulary)
    special = [token for token in tokens if _LIKE_SPECIAL.fullmatch(token)]
    same = [token for token in special if _core(token) == _core(name)]
    close = difflib.get_close_matches(name, special, 3) or difflib.get_close_matches(name, tokens, 3)
    return list(dict.fromkeys([*sorted(same), *close]))[:3]


def id_by_name(role: str, vocabulary: Mapping[str, int], special: Mapping[str, int]) -> tuple[str, int] | None:
    """(name, id) of the token that has a known name of pad, eos or mask; None where there is none.

    Tokens that are known to be `special` may differ in upper and lower case.
    """
    known = KNOWN_NAMES[role]
    for name in known:
        if name in vocabulary:
            return name, vocabulary[name]
    for name, number in sorted(special.items(), key=lambda item: item[1]):
        if name.lower() in (candidate.lower() for candidate in known):
            return name, number
    return None


def looks_special(vocabulary: Mapping[str, int], special: SpecialIds) -> list[str]:
    """A line about tokens that are written like special ones and are text; none where there are none.

    >>> from clozelab import SpecialIds
    >>> from clozelab.data.tokenizers.roles import looks_special
    >>> looks_special({"[pad]": 0, "old": 1, "<start>": 2, "<eos>": 3}, SpecialIds(4, pad=3, eos=3))
    ["text, though written like special tokens: [pad] (special by --pad '[pad]'), <start>"]
    """
    registered = set(special.all)
    found = [
        token
        for token, n in sorted(vocabulary.items(), key=lambda item: item[1])
        if n not in registered and _LIKE_SPECIAL.fullmatch(token)
    ]
    if not found:
        return []
    found.sort(key=lambda token: _role_named(token) is None)  # those of a role first
    shown = [f"{token} (special by --{role} {token!r})" if (role := _role_named(token)) else token for token in found]
    more = f" and {len(found) - SHOWN:,} more" if len(found) > SHOWN else ""
    return [f"text, though written like special tokens: {', '.join(shown[:SHOWN])}{more}"]


def _role_named(token: str) -> str | None:
    """The role that a token seems to be named after."""
    return next((role for role, words in _ROLE_WORDS.items() if _core(token) in words), None)


def _core(token: str) -> str:
    """A name in lower case, without brackets and endings."""
    return re.sub(r"_(none|token)$", "", token.lower().strip("<>[]{}|"))
