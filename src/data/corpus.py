"""Where text comes from: files, tables, the hub, any iterable, or what every machine already has."""

from __future__ import annotations

import ast
import hashlib
import inspect
import json
import platform
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from .cache import cache_folder, written_whole

TEXT_FILES = (".txt", ".md", ".rst", ".text")
TABLES = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet", ".arrow": "arrow"}


@dataclass(frozen=True)
class Corpus:
    """Documents to learn from, and others to be tested on."""

    name: str
    train: Iterable[str]
    """Can be iterated over again and again; a list unless the corpus is streamed."""
    heldout: Iterable[str]


def load_corpus(
    source: str | Path | Iterable[str],
    *,
    text_column: str = "text",
    split: str = "auto",
    heldout: float = 0.1,
    streaming: bool = False,
) -> Corpus:
    """Documents from `source`, split into training and held-out ones.

    `source` is

    - `"builtin"`: about 2 MB of English that comes with Python, its language reference and the docstrings of its
      standard library, read without running any of it;
    - a text file (one document) or a folder of them (one document each, in the order of their names);
    - JSON lines, CSV, Parquet or Arrow, each row's `text_column` a document. A CSV file without a header has its
      columns numbered from 0: `text_column="2"` is the third, and the first row is a document like the others;
    - a hub name such as `"roneneldan/TinyStories"`, its "train" split, with `streaming=True` without downloading it;
    - any iterable of strings.

    Documents of nothing but white space are left out, and so are missing values.

    `split="hash"` holds out each document by a hash of its content, so that it stays held out whatever is added,
    removed or reordered. `split="position"` holds out the last part of the text by characters, cutting through a
    document where it must: the rule of nanoGPT's Shakespeare, whose published figures hold out the last tenth.
    `"auto"` is "position" for a lone document and "hash" otherwise. `heldout` is the share that is held out.

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
    if not 0.0 < heldout < 1.0:
        raise InputError(f"heldout must lie strictly between 0 and 1, got {heldout!r}: it is a share, 0.1 for a tenth")
    text_column = str(text_column)
    if streaming:
        return _stream(source, text_column, split, heldout)
    name, documents = _read(source, text_column)
    documents = [checked_text(document, name) for document in documents if document.strip()]
    if not documents:
        raise InputError(f"the corpus {name} holds no text")
    if split == "auto":
        split = "position" if len(documents) == 1 else "hash"
    train, held = _by_position(documents, heldout) if split == "position" else _by_hash(documents, heldout)
    if not train or not held:
        cure = 'split="position" cuts through documents' if split == "hash" else "it is too short to be split"
        raise InputError(
            f"splitting the {len(documents)} documents of {name} leaves {len(train)} to train on and {len(held)} "
            f"held out; use more text, or another share than {heldout} ({cure})"
        )
    return Corpus(name, train, held)


def checked_text(text: str, name: str = "the text") -> str:
    """The text itself; raises `InputError` where it is no string, or one that cannot be written as UTF-8."""
    if not isinstance(text, str):
        raise InputError(f"expected {name} as a string, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} holds half a character ({text[error.start]!r} at {error.start}), which is no Unicode text: were "
            "its bytes in another encoding than UTF-8?"
        ) from error
    return text


# --------------------------------------------------------------------------- the split


def is_heldout(document: str, share: float) -> bool:
    """Whether a document is held out: a property of its content alone."""
    digest = hashlib.blake2b(document.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") < share * 2**64


def _by_hash(documents: list[str], share: float) -> tuple[list[str], list[str]]:
    train: list[str] = []
    held: list[str] = []
    for document in documents:
        (held if is_heldout(document, share) else train).append(document)
    return train, held


def _by_position(documents: list[str], share: float) -> tuple[list[str], list[str]]:
    """The first characters and the last; a document that lies across the cut is cut."""
    left = int(sum(map(len, documents)) * (1 - share))
    train: list[str] = []
    held: list[str] = []
    for document in documents:
        for part, side in ((document[:left], train), (document[left:], held)):
            if part:
                side.append(part)
        left = max(0, left - len(document))
    return train, held


# --------------------------------------------------------------------------- sources


def _read(source: Any, text_column: str) -> tuple[str, Iterable[str]]:
    """(name, documents) of any source."""
    if isinstance(source, Path) or (isinstance(source, str) and source != "builtin" and _is_path(source)):
        path = Path(source)
        with suppress(RuntimeError):
            path = path.expanduser()
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.is_file() and p.suffix.lower() in TEXT_FILES)
            if not files:
                raise InputError(f"{path} holds no text files: expected names that end in {', '.join(TEXT_FILES)}")
            return path.name, [_text_of(file) for file in files]
        if not path.exists():
            raise FileNotFoundError(2, "no such corpus file or folder", str(path))
        if not path.is_file():
            raise InputError(f"{path} is neither a file nor a folder, so it has no end that could be read to")
        if path.suffix.lower() in TABLES:
            return path.name, _column_of(_table(path, text_column), text_column, path.name)
        return path.name, [_text_of(path)]
    if source == "builtin":
        return "builtin", builtin_documents()
    if isinstance(source, str):
        return source, _column_of(_hub(source, streaming=False), text_column, source)
    return "documents", _strings(source)


def _is_path(source: str) -> bool:
    """A string is a path where something lies there, or where it could be nothing else."""
    if not source:
        raise InputError("the name of the corpus is empty: is it a variable that was never set?")
    path = Path(source)
    with suppress(RuntimeError):  # ~somebody who has no home
        path = path.expanduser()
    looks = source.startswith((".", "/", "~")) or path.suffix.lower() in (*TEXT_FILES, *TABLES) or source.count("/") > 1
    return looks or path.exists()


def _strings(source: Any) -> list[str]:
    if not isinstance(source, Iterable) or isinstance(source, bytes):
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


def _table(path: Path, text_column: str) -> Any:
    """The rows of a table, read by `datasets`, whose own cache is put where it is gone afterwards."""
    import datasets

    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty")
    kind = TABLES[path.suffix.lower()]
    more: dict[str, Any] = {}
    if kind in ("csv", "json"):
        more["encoding"] = "utf-8"
    if kind == "csv" and text_column.isdecimal() and text_column not in _header(path):
        more["header"] = None
    try:
        with _silent(datasets), tempfile.TemporaryDirectory() as cache:
            return datasets.load_dataset(
                kind, data_files=str(path), split="train", cache_dir=cache, keep_in_memory=True, **more
            )
    except Exception as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = " ".join(str(cause).split())
        if "corresponds to no data" in reason or "BatchSize must be greater" in reason:  # their ways of saying so
            raise InputError(f"{path} holds no rows") from error
        raise InputError(f"{path} cannot be read as {kind}: {reason:.300}") from error


@contextmanager
def _silent(datasets: Any) -> Iterator[None]:
    """`datasets` without its bars and warnings; what goes wrong it raises as well."""
    bars, level = datasets.is_progress_bar_enabled(), datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(50)  # nothing but CRITICAL
    try:
        yield
    finally:
        datasets.logging.set_verbosity(level)
        if bars:
            datasets.enable_progress_bars()


def _header(path: Path) -> list[str]:
    import csv

    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        return next(csv.reader(file), [])


def _column_of(rows: Any, column: str, name: str) -> Iterator[str]:
    names = [str(known) for known in rows.column_names or []]
    if names and column not in names:
        raise InputError(f"{name} has no column {column!r}: it has {', '.join(map(repr, names))}; choose one of them")
    for place, row in enumerate(rows):
        value = row.get(column, row.get(int(column)) if column.isdecimal() else None)
        if value is None:
            continue
        if not isinstance(value, str):
            raise InputError(f"column {column!r} of {name} holds {type(value).__name__} in row {place}, expected text")
        yield value


def _hub(name: str, streaming: bool) -> Any:
    import datasets

    try:
        with _silent(datasets), _offline_where_it_is(datasets):
            return datasets.load_dataset(name, split="train", streaming=streaming)
    except Exception as error:
        reason = " ".join(str(error).split())
        name = name if len(name) <= 80 else f"{name[:80]}..."
        raise InputError(
            f"{name!r} is no file here and could not be had from the hub ({type(error).__name__}: {reason:.200}); "
            'without a network use "builtin" or a file of your own'
        ) from error


@contextmanager
def _offline_where_it_is(datasets: Any) -> Iterator[None]:
    """Ask the hub only where it answers: its library retries for half a minute where it does not.

    What it once downloaded is found without it, and behind a proxy nobody can know.
    """
    import socket
    import urllib.parse
    import urllib.request

    from huggingface_hub import constants

    was = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    endpoint = urllib.parse.urlsplit(constants.ENDPOINT)
    if not urllib.request.getproxies():
        try:
            socket.create_connection((endpoint.hostname or "", endpoint.port or 443), timeout=5).close()
        except OSError:
            constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = was


class _Streamed:
    """One side of a streamed corpus: read again from the start by each iteration, split by hash as it comes."""

    def __init__(self, rows: Any, column: str, name: str, share: float, heldout: bool) -> None:
        self.rows, self.column, self.name, self.share, self.heldout = rows, column, name, share, heldout

    def __iter__(self) -> Iterator[str]:
        documents = _column_of(self.rows, self.column, self.name)
        while True:
            try:
                document = next(documents)
            except StopIteration:
                return
            except InputError:
                raise
            except Exception as error:  # of many kinds, by the format of the file
                reason = " ".join(str(error).split())
                raise InputError(f"{self.name} cannot be read any further: {reason:.300}") from error
            if document.strip() and is_heldout(checked_text(document, self.name), self.share) == self.heldout:
                yield document


def _stream(source: Any, column: str, split: str, share: float) -> Corpus:
    if split == "position":
        raise InputError('a streamed corpus has no end that is known, so it can only be split by "hash"')
    if not isinstance(source, (str, Path)) or source == "builtin":
        raise InputError("only files of rows and hub names can be streamed")
    path = Path(source).expanduser()
    if path.suffix.lower() in TABLES:
        import datasets

        if not path.exists():
            raise FileNotFoundError(2, "no such corpus file", str(path))
        kind = TABLES[path.suffix.lower()]
        rows = datasets.load_dataset(kind, data_files=str(path), split="train", streaming=True)
    else:
        rows = _hub(str(source), streaming=True)
    return Corpus(str(source), *(_Streamed(rows, column, str(source), share, side) for side in (False, True)))


# --------------------------------------------------------------------------- builtin

FORMAT = 1
SHORTEST = 80
"""Characters that a docstring must have to count as prose."""


def builtin_documents() -> list[str]:
    """Python's language reference, a document a topic, and its library's docstrings, a document a module.

    The sources are parsed, not run, which takes some seconds, so the result is kept in the cache folder. The order is
    that of the names, and each document stands there once.
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
        if first in sys.stdlib_module_names and first not in _NO_PROSE and not {"test", "tests"} & set(inside):
            found = _docstrings(path)
            if found:
                yield "\n\n\n".join(found)


_NO_PROSE = {"idlelib", "lib2to3", "pydoc_data", "encodings"}


def _docstrings(path: Path) -> list[str]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return []
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, documented))
    return [inspect.cleandoc(text) for text in texts if text and len(text) >= SHORTEST]
