"""The public doors of the library: a wrong argument is named, instead of what failed over it.

Each room calls `explain_errors(__name__)` at the end of its `__init__`. Where something that its `__all__` names then
fails with an error of Python or PyTorch, the arguments are compared with their annotations, and one of another kind
raises an `InputError`: a number for a tokenizer, a string for several, a sparse tensor, a batch without tensors. A call
that works is not slowed down; bounds and shapes are checked by the functions themselves.
"""

from __future__ import annotations

import collections.abc as abc
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .checks import check_int, check_number, check_path, tracing
from .errors import InputError, NotFinite
from .escape import shown

SHORT = 64
"""The most elements of a list that are looked at."""
OPERATORS = ("__init__", "__call__", "__getitem__")
"""Methods with names of Python's that are doors."""

BARE = (TypeError, AttributeError, ValueError, RuntimeError, LookupError, ArithmeticError, StopIteration)
"""Errors that say nothing about the argument which caused them."""

Check = Callable[[Any, str], Any]
"""Raises `InputError` for a value of a parameter of this name."""


def explain_errors(room: str) -> None:
    """Have everything that a package names in `__all__` name the argument that it fails over."""
    package = sys.modules[room]
    for name in package.__all__:
        door = getattr(package, name)
        if inspect.isfunction(door) and not hasattr(door, "__wrapped__"):
            explained = _explained(door)
            setattr(package, name, explained)
            setattr(sys.modules[door.__module__], name, explained)  # where pickle looks for it
        elif inspect.isclass(door) and not issubclass(door, (BaseException, Enum, dict, tuple)):
            _explain_methods(door)


def _explain_methods(kind: type) -> None:
    """The same for the methods that a class defines itself."""
    for name, method in list(vars(kind).items()):
        if name.startswith("_") and name not in OPERATORS:
            continue
        if isinstance(method, (staticmethod, classmethod)):
            setattr(kind, name, type(method)(_explained(method.__func__, bound=isinstance(method, classmethod))))
        elif inspect.isfunction(method) and not hasattr(method, "__wrapped__"):
            setattr(kind, name, _explained(method, bound=True))


def _explained(function: Callable[..., Any], *, bound: bool = False) -> Callable[..., Any]:
    """The function, whose errors name a wrong argument; `bound` for a method, whose first one is itself."""

    def explain(error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raises `InputError` for the first argument of another kind than its annotation says."""
        if isinstance(error, (InputError, NotFinite)) or tracing():
            return
        names, checks = _checks(function)
        given = dict([*list(zip(names, args))[bound:], *kwargs.items()])
        try:
            if isinstance(error, KeyError):
                _check_has(given.get("batch"), error.args[0])
            for name, value in given.items():
                checks.get(name, _accept)(value, name)
            _check_alike({name: value for name, value in given.items() if isinstance(value, Tensor)})
        except InputError as reason:
            raise InputError(f"{function.__qualname__}: {reason}") from error

    @functools.wraps(function)
    def door(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BARE as error:
            explain(error, args, kwargs)
            raise

    @functools.wraps(function)
    def lazy_door(*args: Any, **kwargs: Any) -> Any:
        try:
            yield from function(*args, **kwargs)
        except BARE as error:
            explain(error, args, kwargs)
            raise

    return lazy_door if inspect.isgeneratorfunction(function) else door


def _check_has(batch: Any, key: Any) -> None:
    """Raises `InputError` for a batch that lacks a key which was asked for."""
    if isinstance(batch, abc.Mapping) and isinstance(key, str) and key not in batch:
        has = ", ".join(map(str, batch)) or "nothing"
        raise InputError(
            f"needs {key!r} of the batch, which has {has}: was it made by the collator of another objective?"
        )


def _accept(value: Any, name: str) -> None:
    """The check of a parameter whose annotation says nothing."""


@functools.cache
def _checks(function: Callable[..., Any]) -> tuple[list[str], dict[str, Check]]:
    """(names of the positional parameters, the check of each parameter whose annotation says what to check).

    Made when a call has failed, when every room is loaded that an annotation may name.
    """
    scope = {**_public_names(), **getattr(function, "__globals__", {})}
    names, checks = [], {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
        hint = parameter.annotation
        while isinstance(hint, str):
            try:
                hint = eval(hint, scope)  # an annotation of this library
            except NameError as error:  # of a module that is not loaded
                scope[error.name] = _Unloaded
        check = _check_of(hint)
        if check is not None and parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            default = parameter.default
            checks[parameter.name] = check if default is not None else _or_none(check)
    return names, checks


def _public_names() -> dict[str, Any]:
    """The classes of all rooms that are loaded, for annotations whose names are imported for type checkers alone."""
    found: dict[str, Any] = {}
    for name, module in list(sys.modules.items()):
        if name.startswith(("clozelab.", "matplotlib.axes")):
            found |= {key: one for key, one in vars(module).items() if inspect.isclass(one)}
    return found


def _check_of(hint: Any) -> Check | None:
    """The check that an annotation asks for; None where it says nothing that can be checked."""
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _check_of_union(inside)
    if hint is _Unloaded:
        return None
    if origin is typing.Annotated:
        return _check_of(inside[0])
    if hint in _SIMPLE:
        return _SIMPLE[hint]
    if origin in _CONTAINERS:
        return functools.partial(_check_container, origin, inside)
    if origin is type and inspect.isclass(inside[0]):
        return functools.partial(_check_subclass, inside[0])
    if origin is abc.Callable or hint is abc.Callable:
        return _check_callable
    if inspect.isclass(hint) and issubclass(hint, nn.Module) and hint.__module__.startswith("clozelab.models"):
        return functools.partial(_check_own_model, hint)
    if inspect.isclass(hint) and hint not in (object, type, Any) and not getattr(hint, "_is_protocol", False):
        return functools.partial(_check_instance, hint)
    return None


def _check_of_union(members: tuple[Any, ...]) -> Check | None:
    kinds = [one for one in members if one is not type(None)]
    checks = [_check_path_like if one is Path and str in kinds else _check_of(one) for one in kinds]
    known = [check for check in checks if check is not None]
    if len(known) < len(checks):
        return None
    either = known[0] if len(known) == 1 else functools.partial(_check_any, known, " or ".join(map(_noun, kinds)))
    return _or_none(either) if type(None) in members else either


def _or_none(check: Check) -> Check:
    return lambda value, name: None if value is None else check(value, name)


def _check_any(checks: list[Check], kinds: str, value: Any, name: str) -> None:
    """Raises `InputError` where every check refuses the value."""
    for check in checks:
        with suppress(InputError):
            check(value, name)
            return
    raise InputError(f"expected {name} as {kinds}, got {shown(value)} ({_kind(value)})")


def _check_bool(value: Any, name: str) -> None:
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name} must be True or False, got {shown(value)} ({_kind(value)})")


def _check_whole(value: Any, name: str) -> None:
    _check_single(value, name)
    check_int(value, name, -(2**63), 2**63 - 1)


def _check_real(value: Any, name: str) -> None:
    _check_single(value, name)
    check_number(value, name)


def _check_single(value: Any, name: str) -> None:
    if isinstance(value, (Tensor, np.ndarray)) and (getattr(value, "is_meta", False) or np.prod(value.shape) != 1):
        raise InputError(f"{name} must be one number, got {_kind(value)} of shape {tuple(value.shape)}")


def _check_device(value: Any, name: str) -> None:
    try:
        torch.device(value)
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{name} must be a device, such as cpu or cuda:0, got {shown(value)}") from error


def _check_path_like(value: Any, name: str) -> None:
    check_path(value, name)


def _check_dense(value: Any, name: str) -> None:
    if not isinstance(value, Tensor):
        raise InputError(f"expected {name} as a tensor, got {shown(value)} ({_kind(value)})")
    if value.layout != torch.strided:
        raise InputError(f"expected {name} as a dense tensor, got one of the layout {value.layout}: call .to_dense()")
    if value.is_meta:
        raise InputError(f"expected {name} as a tensor with values, got one on the meta device, which has none")
    if value.dtype not in _DTYPES:
        raise InputError(f"expected {name} of a dtype that PyTorch computes with, got {value.dtype}")


def _check_alike(tensors: dict[str, Tensor]) -> None:
    """Raises `InputError` for tensors on several devices, or real numbers of several dtypes."""
    real = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    for what, values in (
        ("device", {name: str(tensor.device) for name, tensor in tensors.items()}),
        ("dtype", {name: str(tensor.dtype) for name, tensor in real.items()}),
    ):
        if len(set(values.values())) > 1:
            raise InputError(f"expected tensors of one {what}, got {', '.join(f'{k} {v}' for k, v in values.items())}")


def _check_subclass(kind: type, value: Any, name: str) -> None:
    if not (isinstance(value, type) and issubclass(value, kind)):
        raise InputError(f"expected {name} as a class of {kind.__name__}, got {shown(value)} ({_kind(value)})")


def _check_model(value: Any, name: str) -> None:
    """A model that computes: with weights, on a device that has values, with a forward that takes `input_ids`."""
    _check_instance(nn.Module, value, name)
    weights = list(value.parameters())
    if not weights or any(weight.is_meta for weight in weights):
        raise InputError(f"expected {name} with weights, got {_kind(value)} {'on the meta device' * bool(weights)}")
    taken = inspect.signature(value.forward).parameters
    if name == "model" and "input_ids" not in taken and all(one.kind != one.VAR_KEYWORD for one in taken.values()):
        raise InputError(f"expected {name} as one whose forward takes input_ids, got {_kind(value)}, with {[*taken]}")


def _check_own_model(kind: type, value: Any, name: str) -> None:
    _check_instance(kind, value, name)
    _check_model(value, name)


def _check_container(kind: type, inside: tuple[Any, ...], value: Any, name: str) -> None:
    """A list, mapping, iterable or the like; of a short one each element is checked too.

    A tensor or an array of numbers may stand for a sequence of them.
    """
    text = isinstance(value, (str, bytes)) and kind is not abc.Mapping
    scalar = isinstance(value, (Tensor, np.ndarray)) and value.ndim == 0
    if text or scalar or not (isinstance(value, kind) or _stands_for(value, kind)):
        raise InputError(f"expected {name} as {_CONTAINERS[kind]}, got {shown(value)} ({_kind(value)})")
    elements: Any = value.values() if isinstance(value, abc.Mapping) else value
    check = _check_of(inside[-1]) if inside and inside[-1] is not Ellipsis else None
    if check is not None and isinstance(value, (abc.Sequence, abc.Mapping)) and len(value) <= SHORT:
        for element in elements:
            check(element, f"each of {name}")
    elif isinstance(value, (Tensor, np.ndarray)):
        if inside[-1:] not in ((int,), (float,), (bool,), (Any,)):
            raise InputError(f"expected {name} as {_CONTAINERS[kind]}, got a tensor of shape {tuple(value.shape)}")
        if isinstance(value, np.ndarray) and value.dtype.kind not in "biuf":
            raise InputError(f"expected {name} as {_CONTAINERS[kind]} of numbers, got an array of {value.dtype}")
        _check_dense(torch.as_tensor(value), name)


def _stands_for(value: Any, kind: type) -> bool:
    """Whether an array or a tensor may stand for a sequence, or anything that can be iterated over for an iterable."""
    if isinstance(value, (Tensor, np.ndarray)):
        return kind in (abc.Sequence, abc.Collection, abc.Iterable)
    return kind is abc.Iterable and hasattr(value, "__getitem__") and hasattr(value, "__len__")


def _check_callable(value: Any, name: str) -> None:
    if not callable(value) or isinstance(value, type):
        raise InputError(f"expected {name} as a function, got {shown(value)} ({_kind(value)})")


def _check_instance(kind: type, value: Any, name: str) -> None:
    if not isinstance(value, kind):
        raise InputError(f"expected {name} as {kind.__name__}, got {shown(value)} ({_kind(value)})")


class _Unloaded:
    """The kind of what comes from a module that is not loaded, whatever it is made of."""

    def __class_getitem__(cls, _: Any) -> Any:
        return cls


def _noun(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint))


def _kind(value: Any) -> str:
    return f"the class {value.__name__}: call it" if isinstance(value, type) else type(value).__name__


_SIMPLE: dict[Any, Check] = {
    int: _check_whole,
    float: _check_real,
    bool: _check_bool,
    Tensor: _check_dense,
    torch.device: _check_device,
    nn.Module: _check_model,
}
_DTYPES = {torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64}
_DTYPES |= {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_CONTAINERS = {
    list: "a list",
    tuple: "a tuple",
    dict: "a dict",
    abc.Mapping: "a mapping",
    abc.Sequence: "a sequence",
    abc.Collection: "a collection",
    abc.Iterable: "several",
}
"""Kinds of containers, and what a message calls them."""
