"""`clozelab completion`: completion of commands, flags, names and files in bash and zsh, by shtab."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ..errors import InputError
from .parsing import Given, Parser
from .values import objective_name, path

SUMMARY = "print a script that completes command lines in bash or zsh"
EXAMPLE = "clozelab completion bash > ~/.local/share/bash-completion/completions/clozelab"
FILES = ("corpus", "tokenizer", "validation")
"""Flags whose value is a file or a folder, or a name."""


def add_arguments(parser: Parser, words: Sequence[str]) -> None:
    """Declare the arguments."""
    parser.add_argument("shell", choices=("bash", "zsh"), help="the shell")


def run(args: argparse.Namespace, given: Given) -> int:
    """Print the script."""
    try:
        import shtab
    except ModuleNotFoundError:
        raise InputError('shtab is not installed: pip install "clozelab[completion]"') from None
    print(shtab.complete(_whole_parser(), args.shell))
    return 0


def _whole_parser() -> Parser:
    """A parser of all commands with all their flags, those of every objective too."""
    from . import COMMANDS, build_parser

    parser = build_parser()
    [commands] = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for name, command in COMMANDS.items():
        sub = commands.choices[name]
        command.add_arguments(sub, [])
        if any(action.dest == "objective" for action in sub._actions):
            _add_options(sub)
        for action in sub._actions:
            _say_what_completes(action)
    return parser


def _add_options(parser: Parser) -> None:
    """The options of all objectives that the parser does not have yet."""
    from ..objectives import OBJECTIVES, add_flags

    for kind in OBJECTIVES.values():
        flags = Parser(add_help=False, conflict_handler="resolve")
        add_flags(kind, flags)
        for action in flags._actions:
            if not set(action.option_strings) & parser._option_string_actions.keys():
                parser._add_action(action)


def _say_what_completes(action: argparse.Action) -> None:
    import shtab

    from ..objectives import OBJECTIVES

    if action.type is objective_name:
        action.choices = list(OBJECTIVES)
    elif action.type is path or action.dest in FILES:
        action.complete = shtab.FILE  # type: ignore[attr-defined]
