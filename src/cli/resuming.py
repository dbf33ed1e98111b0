"""The flags that a run began with, kept in its run.json and read again when it is resumed."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError
from ..escape import shown
from .parsing import Command, Given, parse, parser_of

if TYPE_CHECKING:
    from ..training import TrainConfig

HOW = ("device", "compile", "tensorboard")
"""Flags that are recorded and may be others where a run is resumed: where and how it is computed and shown."""


def recorded(args: argparse.Namespace, leave_out: Collection[str], config: TrainConfig) -> dict[str, Any]:
    """The flags as JSON holds them, without those that change nothing in what is learned.

    The learning rate is that of `config`, also where it was not given and follows from the optimizer.
    """
    flags = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(args).items()
        if name not in leave_out
    }
    return {**flags, "learning_rate": config.learning_rate}


def restored(
    name: str, command: Command, folder: Path, flags: Any, given: Given, leave_out: Collection[str]
) -> argparse.Namespace:
    """The flags that a run began with, read by the parser that read them then; those of `leave_out` and `HOW` as given.

    `folder` is where the run is. Raises `InputError` for flags that are damaged, and for one that is given another
    value than it had.
    """
    if not isinstance(flags, dict):
        raise InputError(f"{folder} was not begun by `clozelab {name}`: resume it from your code")
    try:
        words = words_of(name, command, flags)
        args, _ = parse(name, command, words)
    except InputError as error:
        raise InputError(f"the command in {folder / 'run.json'} is damaged: {error}") from error
    changeable = (*leave_out, *(flag for flag in HOW if hasattr(args, flag)))
    for flag in changeable:
        setattr(args, flag, given.get(flag, getattr(args, flag)))
    for flag, value in given.items():
        if flag not in changeable and getattr(args, flag, None) != value:
            shown = f"--{flag.replace('_', '-')}"
            raise InputError(
                f"{folder} was begun with {shown} {_shown(getattr(args, flag, None))}, not {_shown(value)}: a resumed "
                f"run continues as it began; leave {shown} out, or begin another run"
            )
    return args


def words_of(name: str, command: Command, flags: Mapping[str, Any]) -> list[str]:
    """The words of a command line, from the values of its flags; raises `InputError` for a flag that there is not."""
    objective = flags.get("objective")
    parser = parser_of(name, command, [] if objective is None else [f"--objective={objective}"])
    actions = {action.dest: action for action in parser._actions}
    words: list[str] = []
    for dest, value in flags.items():
        action = actions.get(dest)
        if action is None or isinstance(action, argparse._HelpAction):
            raise InputError(f"it holds {shown(dest)}")
        flag = next((option for option in action.option_strings if not option.startswith("--no-")), "")
        if isinstance(action, argparse.BooleanOptionalAction):
            words += [flag if value else flag.replace("--", "--no-", 1)]
        elif value is True:
            words.append(flag)
        elif isinstance(value, list) and not isinstance(action, argparse._AppendAction):
            words += [flag, *map(str, value)]
        elif value is not None and value is not False:
            words += [f"{flag}={one}" for one in (value if isinstance(value, list) else [value])]
    return words


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
