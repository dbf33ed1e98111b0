"""Calls of everything public with values that cannot be meant: only `InputError` and what is documented may come.

A call is a right one with one or two of its arguments exchanged, so that it comes past the first check.
"""

import builtins
import copy
import functools
import importlib
import inspect
import itertools
import random
import re
import traceback
from collections import Counter
from enum import Enum
from pathlib import Path

import torch
from fuzz_hostile import spoiled
from fuzz_values import Pool

from clozelab.errors import InputError, NotFinite
from clozelab.objectives import Objective
from clozelab.testing import CheckFailed

ROOMS = ("data", "objectives", "models", "generation", "training", "evaluation", "testing", "planning", "languages")
ROOMS += ("course", "display")
RESULT_IS_LARGE = ("build", "build_model", "seeded_model", "model_config", "causal_mask", "full_mask", "sample")
RESULT_IS_LARGE += ("DecoderOnly", "EncoderOnly", "EncoderDecoder", "Transformer", "LanguageModel", "uniform")
"""Doors whose result is as large as the numbers say: PyTorch's message of an allocation that fails is allowed there."""
HOOKS = ("corrupt", "reads", "targets", "breakdown", "scored_ids", "check_batch", "loss", "entropy_floor", "declares")
"""Methods that a class of objectives defines and the library calls, with batches that it has checked."""
FOR_AUTHORS = ("options", "add_flags")
"""What is called as a class of objectives or a command line is written, and then with the same arguments for ever."""
LONG = ("compare", "train", "fit")
"""What works for as long as the numbers say, and can be interrupted."""
HANDED_ON = ("Processes", "Optimizers", "StreamedDocuments")
"""Classes whose objects are given from function to function, and whose methods nobody calls by hand."""
CALLED = ("__call__", "__getitem__")
"""Methods with names of Python's that are called too."""
ONCE = ("backward",)
"""What is called once for each object."""


def doors(pool: Pool) -> dict[str, object]:
    """Every public function, class, and method of an object in the pool, by a name."""
    found = {}
    for room in ROOMS:
        module = importlib.import_module(f"clozelab.{room}")
        for name in module.__all__:
            door = getattr(module, name)
            is_class = inspect.isclass(door) and not issubclass(door, (BaseException, dict, Enum))
            if name not in FOR_AUTHORS and (inspect.isfunction(door) or is_class):
                found[f"{room}.{name}"] = door
    for kind, instances in pool.instances().items():
        for name, method in inspect.getmembers(kind, inspect.isroutine):
            ours = getattr(method, "__module__", None) or ""
            if kind.__name__ in HANDED_ON or name in HOOKS:
                continue
            is_door = (not name.startswith("_") or name in CALLED) and name not in ONCE
            if ours.startswith("clozelab") and is_door:
                found[f"{kind.__name__}().{name}"] = getattr(instances[0], name)
    return found


def documented(door: object) -> tuple[type[BaseException], ...]:
    """The exceptions that a docstring, its own or that of its class, says it raises."""
    text = f"{inspect.getdoc(door)} {inspect.getdoc(getattr(door, '__self__', None).__class__)}"
    names = set(re.findall(r"`(\w+Error)`", text)) & {"IndexError", "KeyError", "TypeError", "OSError"}
    if getattr(door, "__name__", "") == "__getitem__":  # as Python's own sequences and mappings do
        names |= {"IndexError", "KeyError"}
    return tuple(getattr(builtins, name) for name in sorted(names))


def right_arguments(name: str, door: object, pool: Pool) -> dict[str, object]:
    """Makers of arguments by parameter, for those without a default and for those that the pool knows."""
    short = name.split(".")[-1]
    made = {}
    for parameter in inspect.signature(door).parameters.values():
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        maker = pool.right.get(f"{short}.{parameter.name}")
        if maker is None and parameter.default is inspect.Parameter.empty:
            maker = pool.right.get(parameter.name, object)
        elif maker is None:
            maker = functools.partial(copy.copy, parameter.default)
        made[parameter.name] = (maker, parameter.kind == parameter.POSITIONAL_ONLY)
    owner = getattr(door, "__self__", None)
    if isinstance(owner, Objective):
        own = {"batch": lambda: pool.batch(owner), "model": lambda: pool.model(owner.architecture)}
        made |= {key: (maker, made[key][1]) for key, maker in own.items() if key in made}
    return made


def call(door: object, arguments: dict) -> None:
    """Call it, and use what comes lazily."""
    positional = [value for value, first in arguments.values() if first]
    named = {name: value for name, (value, first) in arguments.items() if not first}
    result = door(*positional, **named)
    if hasattr(result, "__enter__") and inspect.isgenerator(getattr(result, "gen", None)):
        with result:
            pass
    elif inspect.isgenerator(result):
        for _ in itertools.islice(result, 3):
            pass


def attempt(door: object, arguments: dict) -> str | None:
    """What is wrong about how a call ended; None where nothing is."""
    allowed = (InputError, NotFinite, OSError, CheckFailed, *documented(door))
    try:
        call(door, arguments)
    except allowed as error:
        return None if len(str(error)) > 8 or isinstance(error, LookupError) else f"says only {str(error)!r}"
    except (RuntimeError, MemoryError) as error:
        no_room = re.search("can't allocate memory|Unable to allocate|size calculation overflowed", str(error))
        if not no_room or getattr(door, "__name__", "") not in RESULT_IS_LARGE:
            return told(error)
    return None


def told(error: BaseException) -> str:
    """The error, and the line of the library that it came from."""
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if "/robustness/" not in frame.filename]
    ours = [frame for frame in places if "site-packages" not in frame.filename and "/lib/python" not in frame.filename]
    place = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]} [{place}]"


def shown(name: str, arguments: dict) -> str:
    """The call, as far as it can be written."""
    written = []
    for key, (value, _) in arguments.items():
        text = (
            f"tensor{tuple(value.shape)} {value.dtype} {value.layout} {value.device}"
            if isinstance(value, torch.Tensor)
            else repr(value)
        )
        written.append(f"{key}={' '.join(text.split())[:60]}")
    return f"{name}({', '.join(written)})"


def fuzz(pool: Pool, count: int, seed: int, only: str, timed) -> tuple[Counter, list[dict]]:
    """(how many calls of each door were tried, the failures), spread over all doors alike."""
    chosen = {name: door for name, door in doors(pool).items() if only in name}
    tried, failures = Counter(), []
    for name, door in chosen.items():
        makers = right_arguments(name, door, pool)
        moment = random.Random(f"{seed} {name}")
        for number in range(max(1, count // len(chosen))):
            arguments = {key: [maker(), first] for key, (maker, first) in makers.items()}
            changed = moment.sample(sorted(makers), min(len(makers), moment.choice((1, 1, 1, 2)))) if number else ()
            for key in changed:
                try:
                    hostile = moment.random() < 0.6
                    arguments[key][0] = moment.choice(pool.hostile)() if hostile else spoiled(arguments[key][0], moment)
                except Exception:  # this value cannot be spoiled so
                    arguments[key][0] = None
            text = shown(name, {key: arguments[key] for key in changed})
            is_long = name.split(".")[-1] in LONG
            found = timed(lambda made, door=door: attempt(door, made), arguments, interrupt=is_long)
            tried[name] += 1
            if found is not None:
                failures.append({"call": text, "found": found})
    return tried, failures
