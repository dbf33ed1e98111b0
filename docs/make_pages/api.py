"""A page for each package with public names, and one for the command line."""

import ast
import inspect
import pkgutil
from functools import cache
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import GenericAlias, ModuleType
from typing import Any

import clozelab
from clozelab.cli import COMMANDS
from clozelab.cli.parsing import parser_of

FIRST = ("objectives", "models", "data", "generation", "training", "evaluation", "testing", "languages")
"""The order of the packages in which a name is looked for: it is described where it is defined first."""
NOT_PUBLIC = ("cli",)
"""The command line has a page of its own."""


@cache
def packages() -> dict[str, ModuleType]:
    """Packages and modules whose `__all__` names what is public, by their full name."""
    names = [
        info.name for info in pkgutil.iter_modules(clozelab.__path__) if info.ispkg and info.name not in NOT_PUBLIC
    ]
    ordered = [*FIRST, *(name for name in names if name not in FIRST)]
    found = {f"clozelab.{name}": import_module(f"clozelab.{name}") for name in ordered}
    found |= {
        f"clozelab.integrations.{name}": import_module(f"clozelab.integrations.{name}") for name in _integrations()
    }
    return {name: module for name, module in found.items() if public(module)}


def _integrations() -> list[str]:
    return [info.name for info in pkgutil.iter_modules(import_module("clozelab.integrations").__path__)]


def public(module: ModuleType) -> list[str]:
    """The public names of a package: its `__all__`; of a module of integrations, what it defines without underscore."""
    if hasattr(module, "__all__") or not module.__name__.startswith("clozelab.integrations."):
        return list(getattr(module, "__all__", ()))
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    ]


@cache
def homes() -> dict[int, str]:
    """The full name under which each public object is described, by its id."""
    found: dict[int, str] = {}
    for package, module in packages().items():
        for name in public(module):
            found.setdefault(id(getattr(module, name)), f"{package}.{name}")
    return found


def pages() -> dict[str, str]:
    """{name of the page: Markdown}."""
    made = {f"api/{package}.md": _page(package, module) for package, module in packages().items()}
    return {**made, "api/clozelab.md": _top(), "api/clozelab-command-line.md": _command_line()}


def contents() -> str:
    """The table of packages, and their order in the menu."""
    rows = ["| package | |", "|---|---|", "| [clozelab](clozelab.md) | names that most programs need |"]
    rows += [f"| [{package}]({package}.md) | {_first_line(module)} |" for package, module in packages().items()]
    rows.append("| [the command line](clozelab-command-line.md) | every command and flag |")
    names = ["clozelab", *packages(), "clozelab-command-line"]
    return "\n".join([*rows, "", "```{toctree}", ":hidden:", *names, "```", ""])


def _first_line(module: ModuleType) -> str:
    return (module.__doc__ or "").strip().partition("\n\n")[0].replace("\n", " ")


def _top() -> str:
    lines = [
        "# clozelab",
        "Names of the package itself, and where they are described. Objectives are names of it, too.",
    ]
    rows = ["| name | |", "|---|---|"]
    for name in clozelab.__all__:
        home = homes().get(id(getattr(clozelab, name)), f"clozelab.errors.{name}")
        rows.append(f"| `{name}` | {{py:obj}}`{home}` |")
    names = ", ".join(f"{{py:obj}}`~clozelab.objectives.{kind.__name__}`" for kind in clozelab.OBJECTIVES.values())
    return (
        "\n\n".join([*lines, "\n".join(rows), f"Objectives: {names}.", _described("clozelab.errors", "InputError")])
        + "\n"
    )


def _page(package: str, module: ModuleType) -> str:
    parts = [f"# {package}", f"```{{eval-rst}}\n.. automodule:: {package}\n   :no-members:\n```"]
    elsewhere = []
    for name in sorted(public(module), key=str.casefold):
        home = homes()[id(getattr(module, name))]
        if home != f"{package}.{name}":
            elsewhere.append(f"{{py:obj}}`~{home}`")
        elif _is_objective(getattr(module, name)):
            kind = getattr(module, name)
            elsewhere.append(f"[{name}](../objectives/{kind.name}.md)")
        else:
            parts.append(_described(package, name))
    if elsewhere:
        parts.append(f"## Described elsewhere\n\n{', '.join(elsewhere)}")
    return "\n\n".join(parts) + "\n"


def _is_objective(value: Any) -> bool:
    return value in clozelab.OBJECTIVES.values()


def _described(package: str, name: str) -> str:
    """The directive of autodoc, or for a value its docstring, which Python does not keep."""
    value = getattr(import_module(package), name)
    full = f"{package}.{name}"
    if inspect.isclass(value) and not isinstance(value, GenericAlias):
        return f"```{{eval-rst}}\n.. autoclass:: {full}\n   :members:\n   :exclude-members: __new__\n```"
    if inspect.isroutine(value):
        return f"```{{eval-rst}}\n.. autofunction:: {full}\n```"
    return f"````{{py:data}} {full}\n{_docstring_of_value(name)}\n````"


@cache
def _values() -> dict[str, str]:
    """The docstrings below assignments at the top of a module, by name."""
    found = {}
    for path in sorted(Path(clozelab.__file__).parent.rglob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for node, after in pairwise(body):
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            if (
                isinstance(after, ast.Expr)
                and isinstance(after.value, ast.Constant)
                and isinstance(targets[0], ast.Name)
            ):
                found.setdefault(targets[0].id, inspect.cleandoc(str(after.value.value)))
    return found


def _docstring_of_value(name: str) -> str:
    return _values().get(name, "")


def _command_line() -> str:
    parts = [
        "# The command line",
        "What `clozelab COMMAND --help` prints, for the first objective where there are several.",
    ]
    for name, command in COMMANDS.items():
        text = parser_of(name, command, []).format_help().strip()
        parts.append(f"## clozelab {name}\n\n```text\n{text}\n```")
    return "\n\n".join(parts) + "\n"
