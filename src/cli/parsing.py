"""What the commands share: parsers, the values of flags, and groups of flags."""

from __future__ import annotations

import argparse
import difflib
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from ..errors import InputError

if TYPE_CHECKING:
    from ..objectives import Objective

Given = dict[str, Any]
"""The flags that the user gave, without those that have their default."""


class Command(Protocol):
    """What the module of a command defines."""

    @property
    def SUMMARY(self) -> str:
        """One line, for the help."""
        ...

    @property
    def EXAMPLE(self) -> str:
        """A command line."""
        ...

    def add_arguments(self, parser: Parser, words: Sequence[str]) -> None:
        """Declare its arguments; some flags depend on the words of the command."""
        ...

    def run(self, args: argparse.Namespace, given: Given) -> int:
        """The command itself; returns the exit code."""
        ...


class Parser(argparse.ArgumentParser):
    """Raises `InputError` for what cannot be parsed; takes no abbreviations, which another flag could break one day."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Help, **settings)

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (see {self.prog} --help)")


class _Help(argparse.HelpFormatter):
    """Shows the default of a flag that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        if not action.option_strings or isinstance(default, bool) or default in (None, argparse.SUPPRESS, ""):
            return action.help
        shown = f"{default:g}".replace("e+0", "e").replace("e+", "e") if isinstance(default, float) else str(default)
        return f"{action.help}  (default: {shown.replace('%', '%%')})"


def parse(name: str, command: Command, words: Sequence[str]) -> tuple[argparse.Namespace, Given]:
    """The arguments of a command, and those of them that were given.

    Flags may stand between positional arguments. Raises `InputError` for a flag that the command, or the objective that
    it is about, does not have.
    """
    parser = Parser(
        prog=f"clozelab {name}",
        description=command.SUMMARY[0].upper() + command.SUMMARY[1:] + ".",
        epilog=f"example: {command.EXAMPLE}",
    )
    command.add_arguments(parser, words)
    args, unknown = parser.parse_known_intermixed_args(words)
    if unknown:
        parser.error(_explain(parser, unknown, getattr(args, "objective", None)))
    for action in parser._actions:
        action.default = argparse.SUPPRESS
    return args, vars(parser.parse_intermixed_args(words))


def _explain(parser: Parser, unknown: Sequence[str], objective: str | None) -> str:
    """Why words are no arguments of a command."""
    flag = next((word.partition("=")[0] for word in unknown if word.startswith("--")), None)
    if flag is None:
        return f"unexpected argument {unknown[0]!r:.60}"
    if any(action.dest == "objective" for action in parser._actions):
        from ..objectives import OBJECTIVES

        option = flag[2:].removeprefix("no-").replace("-", "_")
        owners = [name for name, kind in OBJECTIVES.items() if option in kind.declared_options()]
        if owners and objective is None:
            return f"{flag} is an option of {' and '.join(owners)}: choose one, as --objective {owners[0]}"
        if owners and objective is not None:
            own = " and ".join(f"--{one.replace('_', '-')}" for one in OBJECTIVES[objective].declared_options())
            return f"{flag} is an option of {' and '.join(owners)}; {objective} has {own}"
    return f"there is no option {flag:.60}{did_you_mean(flag, parser._option_string_actions)}"


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """The end of a message about an unknown word: the most similar one of those that exist, or all of them.

    >>> from clozelab.cli.parsing import did_you_mean
    >>> did_you_mean("tarin", ["train", "pack"])
    ': did you mean train?'
    >>> did_you_mean("x", ["train", "pack"])
    ': choose from train, pack'
    """
    words = list(words)
    close = difflib.get_close_matches(word, words, 1)
    if close:
        return f": did you mean {close[0]}?"
    return "" if words[0].startswith("-") else f": choose from {', '.join(words)}"


# --------------------------------------------------------------------------- values


def number(kind: Callable[[str], Any], low: float, high: float, expected: str) -> Callable[[str], Any]:
    """A type for argparse: a number from low to high, or an error that names what was `expected`."""

    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r:.40}")
        return value

    return convert


def amount(text: str) -> float:
    """A number with or without a suffix.

    >>> from clozelab.cli.parsing import amount
    >>> amount("7e9"), amount("7B"), amount("1.5k")
    (7000000000.0, 7000000000.0, 1500.0)

    Raises `ValueError` for what is no number.
    """
    scale = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}.get(text[-1:])
    return float(text) if scale is None else float(text[:-1]) * scale


COUNT = number(int, 1, 10**12, "a whole number of at least 1")
COUNT_OR_NONE = number(int, 0, 10**12, "a whole number of at least 0")
SIZE = number(int, 1, 2**20, "a whole number from 1 to 2^20")
SEED = number(int, 0, 2**63 - 1, "a whole number from 0 to 2^63 - 1")
POSITIVE = number(float, sys.float_info.min, sys.float_info.max, "a number above 0")
SHARE = number(float, sys.float_info.min, math.nextafter(1, 0), "a share between 0 and 1, 0.15 for 15 percent")
PROBABILITY = number(float, sys.float_info.min, 1, "a probability above 0, up to 1")
WORKERS = number(int, 0, 256, "a whole number from 0 to 256")
TEMPERATURE = number(
    float,
    sys.float_info.min,
    sys.float_info.max,
    "a number above 0 (--greedy takes the most probable token each time)",
)


def path(text: str) -> Path:
    """A type for argparse: a path."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"expected a path, got {text!r}")
    return Path(text)


def objective_name(text: str) -> str:
    """A type for argparse: the name of an objective."""
    from ..objectives import OBJECTIVES

    if text not in OBJECTIVES:
        raise argparse.ArgumentTypeError(f"there is no objective {text!r:.40}{did_you_mean(text, OBJECTIVES)}")
    return text


# --------------------------------------------------------------------------- groups of flags


def add_objective(parser: Parser, words: Sequence[str], *, default: str | None, about: str) -> None:
    """`--objective`, and a flag for each option of the one that the words of the command name.

    Help without an objective lists no options, so that it need not load the objectives.
    """
    parser.add_argument("--objective", type=objective_name, default=default, metavar="NAME", help=about)
    named = value_of("--objective", words)
    if named is None and {"-h", "--help"} & set(words):
        parser.epilog = f"{parser.epilog}; --objective NAME --help describes the options of an objective"
    elif (name := named or default) is not None:
        from ..objectives import OBJECTIVES, add_flags

        if name in OBJECTIVES:
            add_flags(OBJECTIVES[name], parser.add_argument_group(f"options of {name}"))


def value_of(flag: str, words: Sequence[str]) -> str | None:
    """The last value that some words give to a flag, before they are parsed."""
    value = None
    for word, following in zip(words, [*words[1:], None]):
        if word == flag:
            value = following
        elif word.startswith(f"{flag}="):
            value = word.partition("=")[2]
    return value


def objective_of(name: str, args: argparse.Namespace) -> Objective:
    """The objective of a name, with the options that were given."""
    from ..objectives import OBJECTIVES

    kind = OBJECTIVES[name]
    return kind(**{option: value for option, value in vars(args).items() if option in kind.declared_options()})


def add_model(parser: argparse.ArgumentParser) -> None:
    """The flags of the model and of how it is trained."""
    group = parser.add_argument_group("model and training")
    group.add_argument("--size", choices=("tiny", "small", "base"), default="tiny", help="of the model")
    group.add_argument("--length", type=SIZE, default=128, help="input tokens of an example")
    group.add_argument("--batch-size", type=SIZE, default=16, help="examples of a step")
    group.add_argument("--optimizer", choices=("adamw", "muon"), default="adamw", help="of the matrices in the blocks")
    group.add_argument("--learning-rate", type=POSITIVE, default=3e-3, help="peak of AdamW's")
    group.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto", help="of the products")
    group.add_argument("--seed", type=SEED, default=0, help="of weights, order and noise")


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """The flags from which `sampling_of` makes the arguments of `clozelab.generation`."""
    parser.add_argument("--temperature", type=TEMPERATURE, default=0.8, help="lower is more deterministic")
    parser.add_argument("--top-k", type=COUNT, help="sample among the k most probable tokens")
    parser.add_argument("--top-p", type=PROBABILITY, help="sample among the most probable tokens of this total")
    parser.add_argument("--greedy", action="store_true", help="take the most probable token each time")
    parser.add_argument("--seed", type=SEED, default=0, help="of the sampling")


def sampling_of(args: argparse.Namespace) -> dict[str, Any]:
    """The keywords of `sample_token`."""
    import torch

    return {
        "temperature": args.temperature,
        "top_k": args.top_k,
        "top_p": args.top_p,
        "greedy": args.greedy,
        "generator": torch.Generator().manual_seed(args.seed),
    }


def has_terminal() -> bool:
    """Whether standard error is a terminal, where a progress bar can be seen; it may be closed (`2>&-`)."""
    return sys.stderr is not None and sys.stderr.isatty()


def refuse_idle(args: argparse.Namespace, given: Given) -> None:
    """Raises `InputError` for a flag that was given and would have no effect."""
    own = getattr(args, "tokenizer", None)
    idle = {
        "vocab_size": (own not in (None, "bpe"), "this tokenizer has a size of its own"),
        "column": (getattr(args, "corpus", None) == "builtin", "the builtin corpus has no columns"),
        "steps": ("minutes" in given, "--minutes ends the run"),
    }
    idle |= dict.fromkeys(("temperature", "top_k", "top_p"), ("greedy" in given, "--greedy samples nothing"))
    for name, (has_no_effect, why) in idle.items():
        if name in given and has_no_effect:
            raise InputError(f"--{name.replace('_', '-')} {given[name]} would have no effect: {why}; leave it out")
