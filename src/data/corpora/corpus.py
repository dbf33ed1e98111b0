"""Load a corpus from files, tables, the hub, any iterable of strings, or the text that comes with Python."""

from __future__ import annotations

import ast
import inspect
import json
import platform
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...checks import check_number
from ...errors import InputError
from .cache import cache_folder, written_whole
from .documents import checked_text, split_by_hash, split_by_position
from .streamed import stream_documents
from .tables import TABLES, column_of, read_hub, read_tables, tables_in

TEXT_FILES = (".txt", ".md", ".rst", ".text")


@dataclass(frozen=True)
class Corpus:
    """Documents for training, and others that are held out."""

    name: str
    train: Iterable[str]
    """Can be iterated over repeatedly; a list unless the corpus is streamed."""
    heldout: Iterable[str]


def load_corpus(
    source: str | Path | Iterable[str],
    *,
    text_column: str = "text",
    split: str = "auto",
    heldout: float = 0.1,
    streaming: bool = False,
) -> Corpus:
    """Documents from `source`, split into training documents and held-out ones.

    `source` is

    - `"builtin"`: about 2 MB of English that comes with Python, its language reference and the docstrings of its
      standard library, which are parsed and not run;
    - a text file (one document) or a folder of them (one document each, in the order of their names);
    - JSON lines, CSV, Parquet or Arrow, a file or a folder of files of one kind, each row's `text_column` a document. A
      CSV file without a header has its columns numbered from 0: `text_column="2"` is the third, and the first row is
      a document like the others;
    - a hub name such as `"roneneldan/TinyStories"`, its "train" split, with `streaming=True` without downloading it;
    - any iterable of strings.

    Documents of white space alone are left out, and so are missing values. With `streaming=True` tables and hub names
    are read anew in each iteration, and never held in memory.

    `split="hash"` holds out each document by a hash of its content, so that it stays held out whatever is added,
    removed or reordered. `split="position"` holds out the last part of the text by characters, cutting through a
    document where it must: the rule of nanoGPT's Shakespeare, whose published figures hold out the last tenth.
    `"auto"` is "position" for a lone document and "hash" otherwise. `heldout` is the share that is held out.

    >>> from clozelab import load_corpus
    >>> corpus = load_corpus(["one", "two", "three", "four", "five", "six"], heldout=0.5)
    >>> len(corpus.train) + len(corpus.heldout)
    6
    >>> load_corpus(["0123456789"], split="position").heldout
    ['9']

    Raises `FileNotFoundError` for a path that does not exist, `InputError` for text that is not UTF-8, a missing
    column, an empty corpus, an unreachable hub, and a split that leaves one side empty.
    """
    if split not in ("auto", "hash", "position"):
        raise InputError(f'split must be "auto", "hash" or "position", got {split!r}')
    if not 0.0 < check_number(heldout, "heldout") < 1.0:
        raise InputError(f"heldout must lie strictly between 0 and 1, got {heldout!r}: it is a share, 0.1 for a tenth")
    text_column = str(text_column)
    if streaming:
        if split == "position":
            raise InputError('the length of a streamed corpus is not known, so it can only be split by "hash"')
        return Corpus(str(source), *stream_documents(source, text_column, heldout))
    name, documents = _read(source, text_column)
    documents = [checked_text(document, name) for document in documents if document.strip()]
    if not documents:
        raise InputError(f"the corpus {name} holds no text")
    if split == "auto":
        split = "position" if len(documents) == 1 else "hash"
    train, held = split_by_position(documents, heldout) if split == "position" else split_by_hash(documents, heldout)
    if not train or not held:
        cure = 'split="position" cuts through documents' if split == "hash" else "the corpus is too short to be split"
        raise InputError(
            f"splitting the {len(documents)} documents of {name} leaves {len(train)} to train on and {len(held)} "
            f"held out; use more text, or another share than {heldout} ({cure})"
        )
    return Corpus(name, train, held)


# --------------------------------------------------------------------------- sources


def _read(source: Any, text_column: str) -> tuple[str, Iterable[str]]:
    """(name, documents) of any source."""
    if isinstance(source, Path) or (isinstance(source, str) and source != "builtin" and _is_path(source)):
        path = Path(source)
        with suppress(RuntimeError):
            path = path.expanduser()
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in TEXT_FILES)
            if files:
                return path.name, [_text_of(file) for file in files]
            if tables := tables_in(path):
                return path.name, column_of(read_tables(tables, text_column), text_column, path.name)
            endings = ", ".join((*TEXT_FILES, *TABLES))
            raise InputError(f"{path} holds neither text files nor tables: expected names that end in {endings}")
        if not path.exists():
            raise FileNotFoundError(2, "no such corpus file or folder", str(path))
        if not path.is_file():
            raise InputError(f"{path} is neither a file nor a folder: a pipe or a device has no known end")
        if path.suffix.lower() in TABLES:
            return path.name, column_of(read_tables([path], text_column), text_column, path.name)
        return path.name, [_text_of(path)]
    if isinstance(source, str) and source == "builtin":
        return "builtin", builtin_documents()
    if isinstance(source, str):
        return source, column_of(read_hub(source), text_column, source)
    return "documents", _strings(source)


def _is_path(source: str) -> bool:
    """A string is a path where something lies there, or where it could be nothing else."""
    if not source:
        raise InputError("the name of the corpus is empty: is it a variable that was never set?")
    path = Path(source)
    with suppress(RuntimeError):  # ~user of an unknown user
        path = path.expanduser()
    looks = source.startswith((".", "/", "~")) or path.suffix.lower() in (*TEXT_FILES, *TABLES) or source.count("/") > 1
    return looks or path.exists()


def _strings(source: Any) -> list[str]:
    if not isinstance(source, Iterable) or isinstance(source, (bytes, Mapping)):
        raise InputError(
            'expected "builtin", a path, a hub name or an iterable of strings as the corpus, got '
            f"{type(source).__name__}"
        )
    documents = list(source)
    for place, document in enumerate(documents):
        if not isinstance(document, str):
            raise InputError(f"expected documents that are strings, got {type(document).__name__} in place {place}")
    return documents


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text: byte {error.start} is 0x{error.object[error.start]:02x}; convert it first "
            "(iconv -f latin1 -t utf-8, where that is what it is)"
        ) from error


# --------------------------------------------------------------------------- builtin

FORMAT = 1
MIN_DOCSTRING_LENGTH = 80
"""Characters; shorter docstrings are left out."""


def builtin_documents() -> list[str]:
    """Python's language reference, one document a topic, and its library's docstrings, one document a module.

    The sources are parsed and not run. This takes some seconds, so the result is kept in the cache folder. Documents
    are in the order of their names, each once.
    """
    kept = cache_folder() / f"builtin-{platform.python_version()}-{FORMAT}.json"
    try:
        return list(json.loads(kept.read_bytes()))
    except (OSError, ValueError):
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
