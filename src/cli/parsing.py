"""What the commands share: parsers, the values of flags, and groups of flags."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from ..errors import InputError
from ..escape import shorten, shown
from .values import (
    COUNT,
    POSITIVE,
    PROBABILITY,
    SEED,
    SIZE,
    TEMPERATURE,
    did_you_mean,
    in_a_row,
    nearest,
    objective_name,
)

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


LITERAL = "\0"
"""Stands before a word that is no option, because it came after `--`; no argument of a program can hold it."""


class Parser(argparse.ArgumentParser):
    """Raises `InputError` for what cannot be parsed; takes no abbreviations, which another flag could break one day.

    Flags may stand anywhere, and each once. `--` ends them.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Help, **settings)
        self._words: Sequence[str] = ()
        self.objective: tuple[str, frozenset[str]] | None = None
        """The one whose options are flags, with these flags; the help lists them where a command names it."""
        self.add_argument(f"--{LITERAL}", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)

    def parse_words(self, words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
        """The arguments, and the words that are none."""
        if any(LITERAL in word for word in words):
            self.error("expected words without the character NUL, which no command line holds")
        end = words.index("--") if "--" in words else len(words)
        flags = words[:end]
        self._words = flags
        self._refuse_twice(flags)
        # argparse loses words behind `--` where flags may stand anywhere (bpo-14191): a flag that nobody can type ends
        # the values of the one before it, and the words behind it begin with no dash.
        texts = [f"--{LITERAL}", *(LITERAL + word for word in words[end + 1 :])] if end < len(words) else []
        args, unknown = self.parse_known_intermixed_args([*flags, *texts])
        vars(args).pop(LITERAL, None)
        return args, unknown

    def _refuse_twice(self, words: Sequence[str]) -> None:
        seen: dict[str, str] = {}
        for word in words:
            action = self._option_string_actions.get(word.partition("=")[0])
            if action is None or isinstance(action, (argparse._AppendAction, argparse._HelpAction)):
                continue
            if action.dest in seen:
                before, now = seen[action.dest], word.partition("=")[0]
                cure = "give it all its values at once" if action.nargs == "+" else "leave one out"
                pair = f"{now} is given twice" if before == now else f"{before} and {now} contradict each other"
                self.error(f"{pair}: {cure}")
            seen[action.dest] = word.partition("=")[0]

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        return super()._get_value(action, arg_string.removeprefix(LITERAL))  # type: ignore[misc]

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            near = nearest(str(value), choices)
            more = f": did you mean {near}?" if near else ""
            raise argparse.ArgumentError(action, f"expected one of {', '.join(choices)}, got {shown(value, 40)}{more}")

    def error(self, message: str) -> NoReturn:
        for pattern, better in _BETTER:
            message = pattern.sub(better, message)
        message = self._cured(message)
        name, flags = self.objective or ("", frozenset())
        is_about = name and (value_of("--objective", self._words) or flags & set(_FLAG.findall(message)))
        raise InputError(f"{message} (see {self.prog}{f' --objective {name}' if is_about else ''} --help)")

    def _cured(self, message: str) -> str:
        """The message, and what was probably meant where it says that something is missing."""
        flags = self._option_string_actions
        strange = [word for word in self._words if word not in flags and _looks_like_a_flag(word)]
        if message.startswith("-h/--help takes no value"):
            strange = [word for word in self._words if word.startswith("-h")]
            return self._no_option(strange[0]) if strange else message
        if message.startswith("missing: "):
            lists = [word for word in self._words if getattr(flags.get(word), "nargs", 0) == "+"]
            if strange := [word for word in strange if "=" not in word]:
                return self._no_option(strange[0])
            return message + (f" (a list as that of {lists[-1]} ends at the next option, or at --)" if lists else "")
        if needs := _NEEDS.fullmatch(message):
            following = [*self._words, ""][self._words.index(needs[1]) + 1]
            if following not in flags and following.startswith("-"):
                return f"{message}; one that begins with - is given as {needs[1]}={shorten(following, 40)}"
        return message

    def _no_option(self, flag: str) -> str:
        """There is no such option, and a similar one, or what to do with a text that looks like one."""
        if _takes_text(self) and not flag.startswith("--"):
            return f"there is no option {shorten(flag, 60)}; a text that begins with - stands behind --"
        flags = [one for one in self._option_string_actions if LITERAL not in one]
        near = did_you_mean("--" + flag.lstrip("-"), flags) if len(flag) > 2 else ""
        return f"there is no option {shorten(flag, 60)}{near}"


def _looks_like_a_flag(word: str) -> bool:
    """As argparse sees it: neither a text of several words nor a number."""
    return len(word) > 1 and word[0] == "-" and " " not in word and not (word[1].isdigit() or word[1] == ".")


_BETTER = [
    (re.compile(r"^argument (-\S+): expected one argument"), r"\1 needs a value"),
    (re.compile(r"^argument (-\S+): expected at least one argument"), r"\1 needs at least one value"),
    (re.compile(r"^argument (-\S+): ignored explicit argument"), r"\1 takes no value, got"),
    (re.compile(r"^argument (-\S+): not allowed with argument (-\S+)"), r"\1 and \2 exclude each other: leave one out"),
    (re.compile(r"^the following arguments are required: "), r"missing: "),
    (re.compile(r"^argument (\S+): "), r"\1: "),
    (re.compile(r"invalid int value: "), r"expected a whole number, got "),
    (re.compile(r"invalid float value: "), r"expected a number, got "),
]
"""Messages of argparse, and what is said instead."""
_NEEDS = re.compile(r"(-\S+) needs a value")
_FLAG = re.compile(r"--[\w-]+")


class _Help(argparse.HelpFormatter):
    """Shows the default of a flag that has one."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        if not action.option_strings or isinstance(default, bool) or default in (None, argparse.SUPPRESS, ""):
            return action.help
        shown = f"{default:g}".replace("e+0", "e").replace("e+", "e") if isinstance(default, float) else str(default)
        return f"{action.help}  (default: {shown.replace('%', '%%')})"


def parser_of(name: str, command: Command, words: Sequence[str]) -> Parser:
    """The parser of a command; some of its flags depend on the words."""
    parser = Parser(
        prog=f"clozelab {name}",
        description=command.SUMMARY[0].upper() + command.SUMMARY[1:] + ".",
        epilog=f"example: {command.EXAMPLE}",
    )
    command.add_arguments(parser, words)
    return parser


def parse(name: str, command: Command, words: Sequence[str]) -> tuple[argparse.Namespace, Given]:
    """The arguments of a command, and those of them that were given.

    Raises `InputError` for a flag that the command, or the objective that it is about, does not have, and for one that
    is given twice.
    """
    words = list(words)
    parser = parser_of(name, command, words)
    args, unknown = parser.parse_words(words)
    if unknown:
        parser.error(_explain(parser, unknown, getattr(args, "objective", None)))
    for action in parser._actions:
        if action.option_strings:  # argparse would parse the default of a word that may be left out
            action.default = argparse.SUPPRESS
    return args, vars(parser.parse_words(words)[0])


def _explain(parser: Parser, unknown: Sequence[str], objective: str | None) -> str:
    """Why words are no arguments of a command."""
    flag = next((word.partition("=")[0] for word in unknown if word.startswith("-")), None)
    if flag is None:
        quotes = ": a text of several words stands in quotes" if _takes_text(parser) else ""
        return f"unexpected argument {shown(unknown[0].removeprefix(LITERAL), 60)}{quotes}"
    if any(action.dest == "objective" for action in parser._actions):
        from ..objectives import OBJECTIVES

        option = flag[2:].removeprefix("no-").replace("-", "_")
        owners = [name for name, kind in OBJECTIVES.items() if option in kind.declared_options()]
        if owners and objective is None:
            return f"{flag} is an option of {in_a_row(owners)}: choose one, as --objective {owners[0]}"
        if owners and objective is not None:
            own = [f"--{one.replace('_', '-')}" for one in OBJECTIVES[objective].declared_options()]
            return f"{flag} is an option of {in_a_row(owners)}; {objective} has {in_a_row(own)}"
    commands = _commands_with(flag)
    if commands:
        return f"{flag} is an option of {in_a_row(commands)}, which {parser.prog.split()[-1]} does not have"
    return parser._no_option(flag)


def _takes_text(parser: Parser) -> bool:
    return any(not action.option_strings for action in parser._actions)


def _commands_with(flag: str) -> list[str]:
    """The commands that have a flag."""
    from . import COMMANDS

    parsers = {name: parser_of(name, command, ["--help"]) for name, command in COMMANDS.items()}
    return [name for name, parser in parsers.items() if flag in parser._option_string_actions]


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
            group = parser.add_argument_group(f"options of {name}")
            add_flags(OBJECTIVES[name], group)
            flags = frozenset(flag for action in group._group_actions for flag in action.option_strings)
            parser.objective = name, flags


def value_of(flag: str, words: Sequence[str]) -> str | None:
    """The last value that some words give to a flag, before they are parsed."""
    value = None
    for word, following in zip(words, [*words[1:], None]):
        if word == flag:
            value = following
        elif word.startswith(f"{flag}="):
            value = word.partition("=")[2]
    return value


def first_of_each_architecture() -> list[str]:
    """The names of the objectives that stand side by side unless others are asked for."""
    from ..objectives import OBJECTIVES

    first: dict[str, str] = {}
    for name, kind in OBJECTIVES.items():
        first.setdefault(kind.architecture, name)
    return list(first.values())


def objective_of(name: str, args: argparse.Namespace, *, with_recipe: bool = False) -> Objective:
    """The objective of a name, with the options that were given, and those of its recipe."""
    from ..objectives import OBJECTIVES

    kind = OBJECTIVES[name]
    given = {option: value for option, value in vars(args).items() if option in kind.declared_options()}
    return kind.with_recipe(**given) if with_recipe else kind(**given)


def add_model(parser: argparse.ArgumentParser) -> None:
    """The flags of the model and of how it is trained."""
    group = parser.add_argument_group("model and training")
    group.add_argument("--size", choices=("tiny", "small", "base"), default="tiny", help="size of the model")
    group.add_argument("--length", type=SIZE, default=128, help="input tokens per example")
    group.add_argument("--batch-size", type=SIZE, default=16, help="examples per step")
    group.add_argument(
        "--optimizer", choices=("muon", "adamw"), default="muon", help="optimiser of the matrices in the blocks"
    )
    group.add_argument(
        "--learning-rate",
        type=POSITIVE,
        help="peak learning rate of AdamW  (default: 0.03 with Muon, which leaves it the other weights; 0.003 without)",
    )
    group.add_argument(
        "--precision", choices=("auto", "float32", "bfloat16"), default="auto", help="precision of products"
    )
    add_device(group)
    group.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="compile the block by torch.compile: the first step takes a minute, or seconds from PyTorch's cache",
    )
    group.add_argument("--seed", type=SEED, default=0, help="seed of weights, order and noise")


def add_device(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """`--device`, a name for `clozelab.device.find_device`."""
    parser.add_argument(
        "--device", metavar="NAME", help="cpu, cuda, mps, xpu, or one of several, cuda:1  (default: the accelerator)"
    )


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """`--device`, and the flags from which `sampling_of` makes the arguments of `clozelab.generation`."""
    add_device(parser)
    parser.add_argument("--temperature", type=TEMPERATURE, default=0.8, help="lower is more deterministic")
    parser.add_argument("--top-k", type=COUNT, help="sample among the k most probable tokens")
    parser.add_argument(
        "--top-p", type=PROBABILITY, help="sample among the most probable tokens with this total probability"
    )
    parser.add_argument("--greedy", action="store_true", help="take the most probable token each time")
    parser.add_argument("--seed", type=SEED, default=0, help="seed of the sampling")


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
    own, builtin = getattr(args, "tokenizer", None), getattr(args, "corpus", ()) in (None, ["builtin"])
    idle = {
        "vocab_size": (own not in (None, "bpe", "ids"), "this tokenizer has a size of its own"),
        "column": (builtin, "the builtin corpus has no columns"),
        "skip_bad_rows": (builtin, "the builtin corpus has no bad rows"),
        "steps": ("minutes" in given, "--minutes ends the run"),
    }
    if getattr(args, "init_from", None) is not None and "resume" not in given:
        from .special_ids import stated_ids

        whose = "the model and the tokenizer are those of --init-from"
        idle |= dict.fromkeys(("size", "tokenizer", "vocab_size", "sentinels"), (True, whose))
        idle |= dict.fromkeys(stated_ids(args), (True, whose))
    if {"vocab_size", "sentinels"} & given.keys() and not builtin:
        from .corpus import all_packed

        if all_packed(args.corpus):
            whose = "the corpus was packed with a tokenizer, which stays"
            idle |= dict.fromkeys(("vocab_size", "sentinels"), (True, whose))
    idle |= dict.fromkeys(("temperature", "top_k", "top_p"), ("greedy" in given, "--greedy samples nothing"))
    for name, (has_no_effect, why) in idle.items():
        if name in given and has_no_effect:
            value = "" if given[name] is True else f" {given[name]}"
            raise InputError(f"--{name.replace('_', '-')}{value} would have no effect: {why}; leave it out")
