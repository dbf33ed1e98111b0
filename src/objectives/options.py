"""Options: annotated fields of an objective, from which its repr, its JSON, its checks and its flags follow.

@options
class MaskedLM(Objective):
    mask_rate: Share = 0.15
    \"\"\"Share of the tokens that is hidden.\"\"\"
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import itertools
import math
import textwrap
import types
import typing
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeVar, dataclass_transform

from ..errors import InputError
from ..escape import shown

CLAIMS = ("likelihood", "entropy_floor", "reads", "exercise", "colour", "canonical", "export_refusal", "recipe")
"""What a class says of its own loss, and no child inherits: a parent's proof does not hold of another loss."""

Class = TypeVar("Class", bound=type)


@dataclasses.dataclass(frozen=True)
class Bounds:
    """The numbers that an option may be."""

    low: float
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def hold(self, value: float) -> bool:
        """Whether the value is one of them; a NaN is not."""
        above = value > self.low if self.low_open else value >= self.low
        return above and (value < self.high if self.high_open else value <= self.high)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"be {'above' if self.low_open else 'at least'} {self.low:g}, and finite"
        return f"lie in {'(' if self.low_open else '['}{self.low:g}, {self.high:g}{')' if self.high_open else ']'}"


Probability = Annotated[float, Bounds(0, 1)]
Share = Annotated[float, Bounds(0, 1, low_open=True)]
"""A share of the tokens, which must not be none of them."""
OpenShare = Annotated[float, Bounds(0, 1, low_open=True, high_open=True)]
"""A share of the tokens that is neither none nor all of them."""
BelowOne = Annotated[float, Bounds(0, 1, high_open=True)]
NotNegative = Annotated[float, Bounds(0, high_open=True)]
AtLeastOne = Annotated[float, Bounds(1, high_open=True)]


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of an objective, as its class declares it."""

    name: str
    kind: type
    """float, int, bool or str."""
    default: Any
    allowed: Bounds | tuple[Any, ...] | None
    """Bounds of a number, or all values that there are."""
    takes_function: bool
    """Whether a function may stand in the place of a word; it is not recorded in a run folder."""
    owner: type
    """The class."""
    may_be_none: bool = False
    """Whether None is a value as well, "none" as a flag."""

    @property
    def help(self) -> str:
        """The line below the field. It is read from the source, which takes longer than making an objective."""
        return " ".join(_lines_below(self.owner).get(self.name, "").split())

    def read(self, text: str) -> Any:
        """The value that a text stands for, not yet checked; raises `ValueError` where it is no number."""
        return None if self.may_be_none and text == "none" else self.kind(text)

    def check(self, value: Any) -> Any:
        """The value, or an `InputError` that names the option, what was expected and what came."""
        if (value is None and self.may_be_none) or (
            self.takes_function and callable(value) and not isinstance(value, type)
        ):
            return value
        if isinstance(self.allowed, tuple):
            known = isinstance(value, self.kind) and value in self.allowed
            if not known or isinstance(value, bool) != (self.kind is bool):
                function = " or a function (tokens, maskable, generator) -> bool[T]" if self.takes_function else ""
                came = f"the class {value.__name__}: call it" if isinstance(value, type) else f"{shown(value)}"
                raise InputError(
                    f"{self.name} must be one of {', '.join(map(str, self.allowed))}{function}, got {came}"
                )
            return value
        kinds = (int, float) if self.kind is float else self.kind
        if not isinstance(value, kinds) or (self.kind is not bool and isinstance(value, bool)):
            noun = {float: "a number", int: "a whole number", bool: "True or False"}.get(self.kind, self.kind.__name__)
            raise InputError(f"{self.name} must be {noun}, got {shown(value)} ({type(value).__name__})")
        if isinstance(self.allowed, Bounds) and not self.allowed.hold(float(value)):  # type: ignore[arg-type]
            raise InputError(f"{self.name} must {self.allowed}, got {value!r}")
        return value


@dataclass_transform(kw_only_default=True, eq_default=False)
def options(cls: Class) -> Class:
    """Class decorator of an objective: its annotated fields become keyword options, with bounds, JSON and flags.

    Claims about the loss (`CLAIMS`) are not inherited. Raises `TypeError` for a class with an `__init__`, which no run
    folder could bring back, and for a class without a name of its own.
    """
    if "__init__" in vars(cls):
        raise TypeError(
            f"{cls.__name__} must declare its options as fields, not in __init__: a run could not restore it"
        )
    parent = cls.__mro__[1]
    if dataclasses.is_dataclass(parent):
        if "name" not in vars(cls):
            raise TypeError(f"{cls.__name__} needs a name of its own: {parent.__name__}'s would bring that class back")
        base = next(one for one in reversed(cls.__mro__) if dataclasses.is_dataclass(one))  # Objective
        for claim in CLAIMS:
            if claim not in vars(cls):
                setattr(cls, claim, inspect.getattr_static(base, claim))
    return dataclasses.dataclass(cls, eq=False, repr=False, kw_only=True)  # type: ignore[return-value]


@lru_cache(maxsize=256)
def declared_options(cls: type) -> dict[str, Option]:
    """The options of a class by name, its parents' first."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {field.name: _option(field, hints[field.name], cls) for field in dataclasses.fields(cls)}


def _option(field: dataclasses.Field[Any], hint: Any, owner: type) -> Option:
    allowed: Bounds | tuple[Any, ...] | None = None
    takes_function = may_be_none = False
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
        kinds = list(typing.get_args(hint))
        may_be_none = type(None) in kinds
        takes_function = any(typing.get_origin(one) is Callable for one in kinds)
        kinds = [one for one in kinds if one is not type(None) and typing.get_origin(one) is not Callable]
        hint = kinds[0] if len(kinds) == 1 else Any
    if typing.get_origin(hint) is Literal:
        allowed = typing.get_args(hint)
        hint = type(allowed[0])
    elif typing.get_origin(hint) is Annotated:
        hint, allowed = typing.get_args(hint)
    if hint not in (bool, int, float, str) or isinstance(field.default, dataclasses._MISSING_TYPE):
        raise TypeError(
            f"the option {field.name} must be a bool, int, float, str or Literal, or one of these with None or a "
            "function, and have a default, so that JSON and flags can hold it"
        )
    return Option(field.name, hint, field.default, allowed, takes_function, owner, may_be_none)


@lru_cache(maxsize=256)
def _lines_below(cls: type) -> dict[str, str]:
    """The string below each annotated field of a class and its parents; none where there is no source."""
    lines: dict[str, str] = {}
    for base in reversed(cls.__mro__[:-1]):
        if dataclasses.is_dataclass(base):
            lines |= _lines_of(base)
    return lines


@lru_cache(maxsize=256)
def _lines_of(cls: type) -> dict[str, str]:
    """Those of the class alone."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
    except (OSError, TypeError):
        return {}
    return {
        field.target.id: line.value.value  # type: ignore[union-attr]
        for field, line in itertools.pairwise(body)
        if isinstance(field, ast.AnnAssign) and isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)
    }


def add_flags(cls: type, parser: Any) -> None:
    """A flag for each option: `--mask-rate 0.3`, `--exact-count` and `--no-exact-count`.

    A flag that is not given leaves nothing in the namespace, so `cls(**given)` has the defaults of the class. `parser`
    is an `argparse` parser or group.
    """
    recipe = getattr(cls, "recipe", {})
    for name, option in declared_options(cls).items():
        default = f"{option.default}; train and compare: {recipe[name]}" if name in recipe else option.default
        how: dict[str, Any] = {"help": f"{option.help}  (default: {default})"}
        if option.kind is bool:
            how["action"] = argparse.BooleanOptionalAction
        elif isinstance(option.allowed, tuple):
            how["choices"] = option.allowed
            how["type"] = option.kind
        else:
            how["type"] = _parser_of(option)
        parser.add_argument(f"--{name.replace('_', '-')}", default=argparse.SUPPRESS, **how)


def _parser_of(option: Option) -> Callable[[str], Any]:
    def parse(text: str) -> Any:
        try:
            return option.check(option.read(text))
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    parse.__name__ = option.kind.__name__  # what argparse calls an unreadable number
    return parse
