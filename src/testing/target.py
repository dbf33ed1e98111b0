"""From `module:name`, or the name of an objective, to the check that fits, for `clozelab check`."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Collection
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, cast

from ..data.masking import MaskScheme
from ..errors import InputError
from ..objectives import OBJECTIVES, Objective
from .collator import check_collator
from .mask_scheme import check_mask_scheme
from .objective import check_objective
from .randomness import own_random_state
from .report import Report

VOCAB_SIZE = 80
"""Of the tiny model that an objective is tried on."""


def load(target: str) -> Any:
    """The object behind "package.module:name" or "path/to/file.py:name", or the objective of that name.

    The module is executed, as an import does.

    >>> from clozelab.testing import target
    >>> target.load("diffusion")
    MaskedDiffusion()

    Raises `InputError` for what is not of that form, or not there, or raises while it is imported.
    """
    if target in OBJECTIVES:
        return OBJECTIVES[target]()
    module_name, colon, name = target.rpartition(":")
    if not colon or not module_name or not name:
        raise InputError(f"expected module:name, file.py:name, or one of {', '.join(OBJECTIVES)}, got {target!r}")
    try:
        if module_name.endswith(".py"):
            path = Path(module_name)
            if not path.is_file():
                raise InputError(f"there is no file {module_name}")
            loader = SourceFileLoader(path.stem, str(path))
            spec = importlib.util.spec_from_file_location(path.stem, path, loader=loader)
            assert spec is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[path.stem] = module
            # As a script: no bytecode is written beside the file, and none that is older than the file is run.
            exec(loader.source_to_code(path.read_bytes(), str(path)), vars(module))
        else:
            sys.path.insert(0, "")  # where the command runs, as `python -m` does
            module = importlib.import_module(module_name)
    except InputError:
        raise
    except ModuleNotFoundError as error:
        raise InputError(f"{module_name} cannot be imported: {error}; is the command run in its folder?") from error
    except (Exception, SystemExit) as error:
        raise InputError(f"{module_name} raises {type(error).__name__} while it is imported: {error}") from error
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            known = ", ".join(known for known in vars(found) if not known.startswith("_"))
            raise InputError(f"{module_name} has no {name}; it has {known[:200]}")
        found = getattr(found, part)
    return found


def check(thing: Any, *, rate: float | None = None, special: Any = None, skip: Collection[str] = ()) -> Report:
    """Run the check that fits: an objective's, a masking scheme's (three parameters or more), or a collator's (one).

    A tuple (objective, model, batch) is what `check_objective` takes, and (scheme, rows) is a masking scheme with
    examples of its own; an `Objective` alone is tried on its own tiny model and its own batch; a class is called
    without arguments first.

    Raises `CheckFailed` for a fault, `InputError` for anything else, such as a rate for what is no masking scheme.
    """
    if inspect.isclass(thing):
        try:
            thing = thing()
        except Exception as error:
            raise InputError(
                f"the class {thing.__name__} cannot be made without arguments ({error}): make one in your module and "
                "name that"
            ) from error
    if isinstance(thing, tuple) and len(thing) == 2 and isinstance(thing[1], list):
        return check_mask_scheme(thing[0], rate=rate, rows=thing[1], skip=skip)
    if rate is not None and (isinstance(thing, (tuple, Objective)) or len(_needed(thing)) == 1):
        raise InputError(
            f"the rate {rate:g} would have no effect: it is the share that a masking scheme should hide, and an "
            "objective or a collator has one of its own"
        )
    if isinstance(thing, tuple):
        return check_objective(*thing, skip=skip)
    if isinstance(thing, Objective):
        with own_random_state(0):
            model = thing.build_model(VOCAB_SIZE, "tiny", d_model=32, n_layers=2)
        return check_objective(thing, model, skip=skip)
    needed = _needed(thing)
    if len(needed) >= 3:
        return check_mask_scheme(cast(MaskScheme, thing), rate=rate, skip=skip)
    if len(needed) == 1:
        return check_collator(thing, special, skip=skip)
    raise InputError(
        "a masking scheme takes (tokens, maskable, generator) and a collator takes (examples); this takes "
        f"({', '.join(needed)}). A loss is named together with what it is tried on, as a tuple "
        "(loss, model, batch)"
    )


def _needed(thing: Any) -> list[str]:
    """The names of the arguments that a function cannot be called without."""
    if not callable(thing):
        raise InputError(f"expected a masking scheme, a collator or an objective, got {type(thing).__name__}")
    parameters = inspect.signature(thing).parameters.values()
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [one.name for one in parameters if one.default is one.empty and one.kind in places]
