"""The command line, one file per command. Commands parse and print; the work is elsewhere.

Bad input is one line on standard error and exit code 2. Heavy imports wait until a command runs, so that `--help` is
fast.
"""

from __future__ import annotations

import atexit
import errno
import gc
import os
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

from .. import __version__
from ..errors import FULL, InputError, NotFinite, ProcessLost, is_raised_in_all
from ..escape import escape_control_characters, shorten, shown
from . import (
    check,
    compare,
    completion,
    course,
    fill,
    floors,
    generate,
    objectives,
    pack,
    plan,
    playground,
    show,
    train,
)
from .hints import with_flags
from .parsing import Command, Parser, parse, parser_of
from .streams import open_streams, silence
from .values import did_you_mean

COMMANDS: dict[str, Command] = {
    "train": train,
    "pack": pack,
    "compare": compare,
    "floors": floors,
    "objectives": objectives,
    "show": show,
    "check": check,
    "course": course,
    "plan": plan,
    "generate": generate,
    "fill": fill,
    "playground": playground,
    "completion": completion,
}
"""Modules with a SUMMARY, an EXAMPLE, `add_arguments(parser, words)` and `run(args, given) -> exit code`."""

BROKEN_PIPE = 141
"""The exit code of a program that SIGPIPE ended, as a shell shows it."""

__all__ = ["COMMANDS", "build_parser", "main"]


def build_parser() -> Parser:
    """The parser of the program without a command: `--help`, `--version`."""
    parser = Parser(
        prog="clozelab",
        description="Show, train and compare pretraining objectives.",
        epilog="clozelab COMMAND --help describes a command; clozelab show TEXT shows every objective",
    )
    parser.add_argument("--version", action="version", version=f"clozelab {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND")
    for name, command in COMMANDS.items():
        commands.add_parser(name, help=command.SUMMARY)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command: that of `arguments`, or that of this process where they are None.

    Returns its exit code: 0; 2 for bad input; 130 where it was interrupted; 1 for what failed on the way, and where
    the result could not be printed.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    open_streams()
    try:
        code = _run(words, _without_collector() if arguments is None else nullcontext())
        return code if (lost := _lost_output()) is None else lost
    except BrokenPipeError:  # the reader of our output has left, as head does
        silence(sys.stdout)
        return BROKEN_PIPE
    except SystemExit as stopped:
        if isinstance(stopped.__context__, BrokenPipeError):  # as rich's console ends a program
            return BROKEN_PIPE
        if (lost := _lost_output()) is not None:
            return lost
        raise
    except (InputError, OSError) as error:
        return _refuse(error, _flags_of(words))
    except (NotFinite, ProcessLost) as error:
        return _report(with_flags(str(error), _flags_of(words)), 1)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "allocate" not in str(error):
            raise
        return _report("not enough memory: choose a smaller --size, --length or --micro-batch-size", 1)
    except KeyboardInterrupt:
        return _report("stopped; what was saved before is kept", 130)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Inside, no garbage is collected, and what is made inside is never searched for it, at the end of the process
    neither: PyTorch's modules are 167,000 objects, and the searches take a quarter of the time of their import."""
    gc.disable()
    atexit.register(gc.freeze)
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _run(words: Sequence[str], starting: AbstractContextManager[None]) -> int:
    """One command, or the help of the program; what every command needs is imported inside of `starting`."""
    if not words:
        build_parser().print_help()
        return 2
    name = words[0]
    if name in ("-h", "--help", "--version"):
        build_parser().parse_args(words[:1])  # ends here
    if name.startswith("-"):
        raise InputError(f"expected a command, got {shown(name, 40)}: flags come after it (see clozelab --help)")
    if name not in COMMANDS:
        raise InputError(f"there is no command {shown(name, 40)}{did_you_mean(name, COMMANDS)} (see clozelab --help)")
    command = COMMANDS[name]
    with starting:
        args, given = parse(name, command, words[1:])
        import torch  # noqa: F401
    return command.run(args, given)


def _lost_output() -> int | None:
    """The exit code where standard output did not take what was printed; None where it did."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence(sys.stdout)
        return BROKEN_PIPE
    error = getattr(sys.stdout, "lost", None)
    if error is None:
        return None
    why = "is full" if error.errno in FULL else f"cannot be written to ({error.strerror})"
    why = "is closed" if error.errno == errno.EBADF else why
    return _report(f"standard output {why}, so that nothing, or not all, was printed there", 1)


def _report(message: str, code: int) -> int:
    with suppress(OSError):  # nobody may be left to read it
        print(f"clozelab: {escape_control_characters(message)}", file=sys.stderr, flush=True)
    return code


def _flags_of(words: Sequence[str]) -> set[str]:
    """The flags of the command that some words begin with."""
    name, *rest = words or [""]
    with suppress(InputError):
        return set(parser_of(name, COMMANDS[name], rest)._option_string_actions) if name in COMMANDS else set()
    return set()


def _refuse(error: InputError | OSError, flags: Collection[str]) -> int:
    """One line, exit code 2. What all processes of a run raise alike is printed by the first, anything else by its own.

    An `OSError` names its file and what can be done about it.
    """
    rank, world_size = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
    if is_raised_in_all(error) and rank != "0":
        return 2
    text = with_flags(str(error), flags)
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""  # a name may be anything
        what = "no space left on the disk" if error.errno in FULL else error.strerror
        text = f"{what}{where}{_cure(error)}"
    if world_size != "1" and not is_raised_in_all(error):
        text = f"process {rank} of {world_size}: {text}"
    return _report(shorten(text, 1000), 2)


def _cure(error: OSError) -> str:
    """What can be done about an error of the operating system."""
    if error.errno in FULL:
        return ": free some and continue, a run by --resume; what was complete before is kept"
    if error.errno == errno.EFBIG:
        return ": files may not be that large here; raise the limit (ulimit -f) and continue, a run by --resume"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return ": raise the limit (ulimit -n), or take fewer --workers"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR) and ".cache" in str(error.filename):
        return ": set CLOZELAB_CACHE to a folder that can be written to"
    return ""
