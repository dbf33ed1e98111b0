"""What the source of a corpus is: files, a dataset of the hub, strings, or the text that comes with Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...checks import check_path
from ...errors import InputError
from ...escape import counted, shown
from .builtin import builtin_documents
from .documents import Row, checked_text
from .files import COMPRESSED, TABLES, UNTABLED, CorpusFile, Found, find_files
from .hub import hub_rows, read_hub
from .ids import COLUMN, IdRows, documents_of_ids
from .rows import check_of, read_rows


class IdleOption(InputError):
    """An option that would have no effect on a source."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


@dataclass(frozen=True)
class Options:
    """How rows are read."""

    column: str | None
    lines: bool
    skip_bad_rows: bool
    streaming: bool
    ids: IdRows | None
    """Checks rows of token ids; None where the corpus is text."""

    @property
    def text_column(self) -> str:
        """The column that is read."""
        return self.column if self.column is not None else "text" if self.ids is None else COLUMN

    def refuse_idle(self, name: str, kind: str) -> None:
        """Raises `IdleOption` for an option that this kind of source does not know."""
        if self.column is not None and kind not in (*TABLES.values(), "hub"):
            raise IdleOption(
                "text_column", f"text_column {shown(self.column)} would have no effect: {name} has no columns"
            )
        if self.lines and kind != "text":
            raise IdleOption("lines", f"lines=True would have no effect: {name} is no text file")


@dataclass
class FoundSource:
    """A source of any kind: rows for training, and rows to hold out where they are stated."""

    name: str
    kind: str
    train: Any
    """Files, rows, or a dataset of the hub."""
    validation: Any = None
    names: Sequence[str] = ()
    validation_names: Sequence[str] = ()
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def hold_out(self, validation: str | Path) -> None:
        """Hold out what the user names instead of what was found, and do not train on it."""
        path = _expanded(check_path(validation, "validation"))
        other = find_files(path, "validation")
        if self.validation is not None:
            self.left_out["validation files, since others are named"] = [*self.validation_names] or ["validation"]
        same = {file.path.resolve() for file in other.train}
        if isinstance(self.train, list) and self.train and isinstance(self.train[0], CorpusFile):
            kept = [n for n, file in enumerate(self.train) if file.path.resolve() not in same]
            if not kept:
                raise InputError(f"nothing is left to train on: {path} holds all files of {self.name}")
            self.train, self.names = [self.train[n] for n in kept], [self.names[n] for n in kept]
        self.validation = other.train
        self.validation_names = [str(file.path) for file in other.train]

    def rows(self, of: Any, options: Options, unpacked: list[tuple[int, int]]) -> Iterator[Row]:
        """The rows of one side."""
        for part in of if isinstance(of, list) else [of]:
            if isinstance(part, CorpusFile):
                yield from read_rows(part, options.text_column, lines=options.lines, ids=options.ids, unpacked=unpacked)
            elif self.kind != "hub":
                yield part
            else:
                yield from hub_rows(part, options.text_column, self.name, check_of(options.text_column, options.ids))


# --------------------------------------------------------------------------- sources


def find_source(source: Any, options: Options) -> FoundSource:
    """What a source is."""
    if isinstance(source, Path) or (isinstance(source, str) and source != "builtin" and _is_path(source)):
        path = _expanded(Path(source))
        return _of_files(path, find_files(path), options)
    if isinstance(source, str) and source != "builtin":
        options.refuse_idle(source, "hub")
        train, validation, others = read_hub(source, streaming=options.streaming)
        left_out = {"other splits": others} if others else {}
        return FoundSource(source, "hub", train, validation, ["train"], ["validation"] if validation else [], left_out)
    if options.streaming:
        raise InputError(
            "only tables, folders of tables, and hub names can be streamed, and text with one document a line"
        )
    if options.ids is not None and not isinstance(source, str):
        rows = list(documents_of_ids(source, options.ids))
        options.refuse_idle("a list of token ids", "ids")
        return FoundSource("documents", f"{counted(len(rows), 'array')} of token ids", rows)
    if isinstance(source, str):
        if options.ids is not None:
            raise InputError("the builtin corpus is text and no token ids: name a corpus of ids, or leave these out")
        options.refuse_idle("the builtin corpus", "builtin")
        return FoundSource("builtin", "the text that comes with Python", builtin_documents())
    documents = _strings(source)
    options.refuse_idle("a list of strings", "strings")
    return FoundSource("documents", counted(len(documents), "string"), documents)


def _of_files(path: Path, found: Found, options: Options) -> FoundSource:
    options.refuse_idle(str(path), found.kind)
    if options.streaming and found.kind == "NumPy":
        raise InputError(f"{path} is read from the disk as it is needed: a NumPy array is packed, and not streamed")
    if options.streaming and found.kind == "text" and not options.lines:
        raise InputError(
            f"{path} is text, and only tables can be streamed ({', '.join(TABLES)}), or text with one document a line "
            "(lines=True)"
        )
    root = path if path.is_dir() else path.parent
    names, held = (
        [file.path.relative_to(root).as_posix() for file in some] for some in (found.train, found.validation)
    )
    return FoundSource(
        path.name or path.resolve().name, found.kind, found.train, found.validation or None, names, held, found.left_out
    )


def _is_path(source: str) -> bool:
    """A string is a path where something lies there, or where it could be nothing else."""
    if not source:
        raise InputError("the name of the corpus is empty: is it a variable that was never set?")
    path = _expanded(Path(source))
    endings = (*TABLES, *UNTABLED, *COMPRESSED)
    looks = source.startswith((".", "/", "~")) or path.suffix.lower() in endings or source.count("/") > 1
    return looks or path.exists()


def _expanded(path: Path) -> Path:
    with suppress(RuntimeError):  # ~user of an unknown user
        return path.expanduser()
    return path


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
        checked_text(document, "documents")
    return documents
