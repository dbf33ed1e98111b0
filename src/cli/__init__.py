"""The command line, one file per command. Commands parse and print; the work is elsewhere.

Bad input is one line on standard error and exit code 2. Heavy imports wait until a command runs, so that `--help` is
fast.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from .. import __version__
from ..errors import FULL, InputError, NotFinite, ProcessLost
from ..escape import escape_control_characters
from . import check, compare, course, fill, floors, generate, pack, plan, show, train
from .parsing import Command, Parser, did_you_mean, parse

COMMANDS: dict[str, Command] = {
    "train": train,
    "pack": pack,
    "compare": compare,
    "floors": floors,
    "show": show,
    "check": check,
    "course": course,
    "plan": plan,
    "generate": generate,
    "fill": fill,
}
"""Modules with a SUMMARY, an EXAMPLE, `add_arguments(parser, words)` and `run(args, given) -> exit code`."""

__all__ = ["COMMANDS", "build_parser", "main"]


def build_parser() -> Parser:
    """The parser of the program without a command: `--help`, `--version`."""
    parser = Parser(
        prog="clozelab",
        description="Pretraining objectives, to see, to train and to compare.",
        epilog="clozelab COMMAND --help describes a command; clozelab show draws every objective",
    )
    parser.add_argument("--version", action="version", version=f"clozelab {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.SUMMARY)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns its exit code: 0; 2 for bad input; 130 where it was interrupted; 1 for what failed on the way.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a terminal that knows only ASCII
    try:
        code = _run(words)
        if sys.stdout is not None:  # `>&-` closes it
            sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader of our output has left, as head does
        assert sys.stdout is not None
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (InputError, OSError) as error:
        return _refuse(error)
    except (NotFinite, ProcessLost) as error:
        return _report(str(error), 1)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate" not in str(error):
            raise
        return _report("not enough memory: choose a smaller --size, --length or --micro-batch-size", 1)
    except KeyboardInterrupt:
        return _report("stopped; what was saved before is kept", 130)


def _run(words: Sequence[str]) -> int:
    """One command, or the help of the program."""
    if not words:
        build_parser().print_help()
        return 2
    name = words[0]
    if name.startswith("-"):
        build_parser().parse_args(words[:1])  # --help and --version end here
    if name not in COMMANDS:
        raise InputError(f"there is no command {name!r:.40}{did_you_mean(name, COMMANDS)} (see clozelab --help)")
    command = COMMANDS[name]
    args, given = parse(name, command, words[1:])
    return command.run(args, given)


def _report(message: str, code: int) -> int:
    print(f"clozelab: {escape_control_characters(message)}", file=sys.stderr)
    return code


def _refuse(error: Exception) -> int:
    """One line, exit code 2. What all processes of a run refuse alike is printed by the first."""
    if isinstance(error, InputError) and os.environ.get("RANK", "0") != "0":
        return 2
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""  # a name may be anything
        text = f"{error.strerror}{where}"
        if error.errno in FULL:
            text = (
                f"no space left on the disk{where}: free some and continue, a run by --resume; what was complete "
                "before is kept"
            )
    text = escape_control_characters(" ".join(text.split()))
    return _report(text if len(text) < 1000 else text[:1000] + "...", 2)
