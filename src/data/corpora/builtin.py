"""The text that comes with Python."""

from __future__ import annotations

import ast
import gc
import inspect
import platform
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .cache import cache_folder

MIN_DOCSTRING_LENGTH = 80
"""Characters; shorter docstrings are left out."""


def builtin_documents() -> list[str]:
    """Python's language reference, one document a topic, and its library's docstrings, one document a module.

    The sources are parsed and not run. This takes some seconds, so the result is kept in the cache folder. Documents
    are in the order of their names, each once.
    """
    from ..file_formats import KeptDocuments

    version = platform.python_version()
    path = cache_folder() / f"builtin-{version}.json"
    kept = KeptDocuments.read_if_whole(path)
    if kept is not None and kept.python == version:
        return kept.documents
    with _no_garbage_collection():
        documents = list(dict.fromkeys([*_topics(), *_modules()]))
    with suppress(OSError):
        KeptDocuments(python=version, documents=documents).write(path)
    return documents


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Syntax trees are large and hold no cycles: the search for cycles would take as long as all the rest."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _topics() -> Iterator[str]:
    from pydoc_data import topics

    for name in sorted(topics.topics):
        yield topics.topics[name].strip()


def _modules() -> Iterator[str]:
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.rglob("*.py")):
        first, *inside = path.relative_to(library).with_suffix("").parts
        if first in sys.stdlib_module_names and first not in _WITHOUT_PROSE and not {"test", "tests"} & set(inside):
            found = _docstrings(path)
            if found:
                yield "\n\n\n".join(found)


_WITHOUT_PROSE = {"idlelib", "lib2to3", "pydoc_data", "encodings"}


def _docstrings(path: Path) -> list[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return []
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented))
    return [inspect.cleandoc(text) for text in texts if text and len(text) >= MIN_DOCSTRING_LENGTH]
