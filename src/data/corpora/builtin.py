"""The text that comes with Python."""

from __future__ import annotations

import ast
import inspect
import json
import platform
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from .cache import cache_folder, written_whole

FORMAT = 1
MIN_DOCSTRING_LENGTH = 80
"""Characters; shorter docstrings are left out."""


def builtin_documents() -> list[str]:
    """Python's language reference, one document a topic, and its library's docstrings, one document a module.

    The sources are parsed and not run. This takes some seconds, so the result is kept in the cache folder. Documents
    are in the order of their names, each once.
    """
    kept = cache_folder() / f"builtin-{platform.python_version()}-{FORMAT}.json"
    with suppress(OSError, ValueError):
        documents = json.loads(kept.read_bytes())
        if isinstance(documents, list) and documents and all(isinstance(document, str) for document in documents):
            return documents
    documents = list(dict.fromkeys([*_topics(), *_modules()]))
    with suppress(OSError), written_whole(kept) as file:
        file.write(json.dumps(documents).encode())
    return documents


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
