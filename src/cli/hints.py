"""Command lines that a message names, so that they can be pasted into a shell."""

from __future__ import annotations

import shlex
from pathlib import Path


def command_line(*words: str | Path) -> str:
    r"""`clozelab` and its words, quoted for bash and zsh; control characters are spelled out.

    >>> from clozelab.cli.hints import command_line
    >>> print(command_line("train", "--run", "my runs/a", "--resume"))
    clozelab train --run 'my runs/a' --resume
    >>> print(command_line("generate", "a\nb"))
    clozelab generate $'a\nb'
    >>> print(command_line("train", "--run", "-x"))
    clozelab train --run=-x
    """
    line = ["clozelab"]
    for word in map(str, words):
        flag = line[-1]
        if word.startswith("-") and not word.startswith("--") and flag.startswith("--"):
            line[-1] = f"{flag}={_quoted(word)}"
        else:
            line.append(_quoted(word))
    return " ".join(line)


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    spelled = "".join(_spelled(character) for character in word)
    return f"$'{spelled}'"


def _spelled(character: str) -> str:
    if character in "'\\":
        return f"\\{character}"
    if character.isprintable():
        return character
    known = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return known.get(character) or "".join(f"\\x{byte:02x}" for byte in character.encode(errors="surrogateescape"))
