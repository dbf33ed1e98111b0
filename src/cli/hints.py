"""What a message names, as the shell knows it: command lines that can be pasted, and flags in place of keywords."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
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
    errors = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return known.get(character) or "".join(f"\\x{byte:02x}" for byte in character.encode(errors=errors))


FLAGS = {"text_column": "column", "streaming": "stream", "compiled": "compile"}
"""Keywords of Python whose flags have other names."""
_KEYWORD = re.compile(r'(?<![\w.])(\w+)=(True|False|FILE|"[\w-]+")(?!\w)')
_ANY_VALUE = re.compile(r"(?<=\s\()(\w+)=\.\.\.(?=\))")
_TWICE = re.compile(r"(?<!\S)(--([\w-]+)): (?:\1|\2)(?![\w-])")
_NAME = re.compile(r"(?<![\w./='\"-])[a-z]+(?:_[a-z]+)+(?![\w./=('\"-])")


def with_flags(message: str, flags: Collection[str]) -> str:
    """A message of the library, in which keywords that are flags of a command are spelled as these.

    >>> from clozelab.cli.hints import with_flags
    >>> with_flags('skip_bad_rows=True leaves them out, split="position" cuts', {"--skip-bad-rows", "--split"})
    '--skip-bad-rows leaves them out, --split position cuts'
    >>> with_flags("micro_batch_size 3 must divide batch_size 8", {"--micro-batch-size", "--batch-size"})
    '--micro-batch-size 3 must divide --batch-size 8'
    >>> with_flags("--mask-rate: mask_rate must lie in (0, 1], got 1.5", {"--mask-rate"})  # named once
    '--mask-rate must lie in (0, 1], got 1.5'
    >>> with_flags("train with more of them (sentinels=...)", {"--sentinels"})
    'train with more of them (--sentinels)'
    """

    def flag_of(name: str, prefix: str = "--") -> str | None:
        flag = prefix + FLAGS.get(name, name).replace("_", "-")
        return flag if flag in flags else None

    def keyword(found: re.Match[str]) -> str:
        name, value = found.groups()
        if value in ("True", "False"):
            prefix = "--" if value == "True" else "--no-"
            return flag_of(name, prefix) or _of_train(name, prefix) or found[0]
        flag = flag_of(name)
        return found[0] if flag is None else f"{flag} {value.strip(chr(34))}"

    spelled = _ANY_VALUE.sub(lambda found: flag_of(found[1]) or found[0], _KEYWORD.sub(keyword, message))
    spelled = _NAME.sub(lambda found: flag_of(found[0]) or found[0], spelled)
    return _TWICE.sub(r"\1", spelled)


def _of_train(option: str, prefix: str) -> str | None:
    """The flag of an objective's option, for commands that train objectives with their defaults alone."""
    from ..objectives import OBJECTIVES

    owner = next((name for name, kind in OBJECTIVES.items() if option in kind.declared_options()), None)
    return owner and f"{prefix}{option.replace('_', '-')} (of clozelab train --objective {owner})"
