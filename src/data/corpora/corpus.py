"""Load a corpus from files, tables, the hub, any iterable of strings, or the text that comes with Python."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...checks import check_number, check_type
from ...errors import InputError
from ...escape import counted
from ..special_ids import SpecialIds
from .documents import digest_of, split_by_hash, split_by_position
from .files import TABLES
from .ids import IdRows
from .report import CorpusReport, Counts, MixtureReport, size_of
from .sources import FoundSource, Options, find_source
from .streamed import FileSource, HubSource, stream_documents


@dataclass(frozen=True, eq=False)
class Corpus:
    """Documents for training, and others that are held out: strings, or arrays (N,) of token ids."""

    name: str
    train: Iterable[Any]
    """Can be iterated over repeatedly; a list unless the corpus is streamed."""
    heldout: Iterable[Any]
    report: CorpusReport | MixtureReport
    """What it was found to be: files, documents, and what was left out and why."""
    special: SpecialIds | None = None
    """Of a corpus of token ids."""


def load_corpus(
    source: str | Path | Iterable[Any],
    *,
    special: SpecialIds | None = None,
    id_count: int | None = None,
    text_column: str | int | None = None,
    split: str = "auto",
    heldout: float = 0.1,
    validation: str | Path | None = None,
    lines: bool = False,
    skip_bad_rows: bool = False,
    streaming: bool = False,
) -> Corpus:
    """Documents from `source`, split into training documents and held-out ones.

    `source` is

    - `"builtin"`: about 2 MB of English that comes with Python, its language reference and the docstrings of its
      standard library, which are parsed and not run;
    - a text file (one document, or with `lines` one a line), or a folder of them in the order of their names;
    - JSON lines, CSV, TSV, Parquet or Arrow, a file or a folder of files of one kind, each row a document. All but the
      last two may be compressed: `.jsonl.gz`, `.csv.zst`, `.txt.xz`, `.json.bz2`;
    - FASTA, each record a document (its name is not read);
    - a hub name such as `"roneneldan/TinyStories"`, with `streaming=True` without downloading it;
    - any iterable of strings.

    With `special` the corpus holds token ids of that vocabulary and needs no tokenizer: in a .npy file, in a column of
    lists of whole numbers ("input_ids" by default) of JSON lines, Parquet or Arrow, or as an array or lists. An array
    (N, T) is a document a row; one of shape (N,) has documents that end with `special.eos`. Padding at the end of a row
    is left out; any other special id but an end of text, unknown and the like is a bad row. `id_count` says that the
    corpus holds ids below it alone, where special ids that it does not know lie behind them.

    `text_column` ("text" by default) is text as it is written: digits, dates and `NA` are not interpreted, and the
    other columns are not read. "data.content" is a field of an object. A CSV file without a header has its columns
    numbered from 0: `text_column=2` is the third, and the first row is a document like the others.

    In a folder, files and folders named train, validation or test (or valid, val, dev, eval; "c4-train.0001.json.gz")
    are kept apart: test files are never read, validation files are the held-out text. `validation` is a file or a
    folder to hold out instead. `Corpus.report` tells what was read, and what was left out and why.

    Documents of white space alone are left out, and so are missing values. A row that cannot be read is an error, or is
    left out and counted with `skip_bad_rows`. With `streaming=True` files and hub names are read anew in each
    iteration, and never held in memory.

    `split="hash"` holds out each document by a hash of its content, so that it stays held out whatever is added,
    removed or reordered. `split="position"` holds out the last part of the text by characters, cutting through a
    document where it must: the rule of nanoGPT's Shakespeare, whose published figures hold out the last tenth.
    `"auto"` is the validation files where there are some; otherwise "position" for a lone document and "hash" for
    several. `heldout` is the share that is held out by hash or position.

    >>> from clozelab import load_corpus
    >>> corpus = load_corpus(["one", "two", "three", "four", "five", "six"], heldout=0.5)
    >>> len(corpus.train) + len(corpus.heldout)
    6
    >>> load_corpus(["0123456789"], split="position").heldout
    ['9']
    >>> from clozelab import SpecialIds
    >>> load_corpus([[5, 6, 7, 8, 9]], special=SpecialIds(10, pad=0, eos=1), split="position").train
    [array([5, 6, 7, 8])]

    Raises `FileNotFoundError` for a path that does not exist, `InputError` for a file that is not what its name says,
    a missing column, a bad row, an empty corpus, an unreachable hub, and a split that leaves one side empty.
    """
    if split not in ("auto", "hash", "position"):
        raise InputError(f'split must be "auto", "hash" or "position", got {split!r}')
    heldout = check_number(heldout, "heldout")
    if not 0.0 < heldout < 1.0:
        raise InputError(f"heldout must lie strictly between 0 and 1, got {heldout!r}: it is a share, 0.1 for a tenth")
    if validation is not None and split != "auto":
        raise InputError(
            f'split="{split}" would have no effect: the validation text is held out; leave one of them out'
        )
    if streaming and split == "position":
        raise InputError('the length of a streamed corpus is not known, so it can only be split by "hash"')
    ids = None if special is None else IdRows(check_type(special, SpecialIds, "special ids"), id_count)
    options = Options(None if text_column is None else str(text_column), lines, skip_bad_rows, streaming, ids)
    found = find_source(source, options)
    if validation is not None:
        found.hold_out(validation)
    if split != "auto" and found.validation is not None:
        found.left_out[f'not held out, since split is "{split}"'] = [*found.validation_names] or ["validation"]
        found.validation = None
    if streaming:
        return _streamed(found, heldout, options)
    return _loaded(found, split, heldout, options)


def _loaded(found: FoundSource, split: str, share: float, options: Options) -> Corpus:
    """The documents in memory."""
    counts, unpacked, what = Counts(), [], "text" if options.ids is None else "token ids"
    rows = found.rows(found.train, options, unpacked)
    train = list(counts.documents(rows, options.skip_bad_rows))
    if not train:
        left_out = f": its rows are left out, {counts.left_out}" if counts.rows else ""
        left_out += "".join(f"; {row.place}: {row.reason}" for row in counts.bad_rows[:1])
        raise InputError(f"the corpus {found.name} holds no {what}{left_out}")
    if found.validation is not None:
        rows = found.rows(found.validation, options, unpacked)
        held = list(counts.documents(rows, options.skip_bad_rows))
        if not held:
            names = ", ".join(found.validation_names)
            raise InputError(f"what is to be held out of {found.name} ({names}) holds no {what}")
        digests = {digest_of(document) for document in held}
        both = {digest for document in train if (digest := digest_of(document)) in digests}
        repeated, rule = sum(digest_of(document) in both for document in held), ""
    else:
        repeated = 0
        train, held, rule = _split(train, split, share, found.name)
    return Corpus(
        found.name,
        train,
        held,
        CorpusReport(
            **_described(found, options),
            split=rule,
            counts=counts,
            train=size_of(train),
            heldout=size_of(held),
            repeated=repeated,
            unpacked=unpacked,
            unit="character" if options.ids is None else "token id",
        ),
        options.ids and options.ids.special,
    )


def _split(documents: list[Any], split: str, share: float, name: str) -> tuple[list[Any], list[Any], str]:
    """(training documents, held-out documents, how they were chosen)."""
    if split == "auto":
        split = "position" if len(documents) == 1 else "hash"
    if split == "position":
        train, held = split_by_position(documents, share)
        rule = "the end of the text"
    else:
        train, held = split_by_hash(documents, share)
        rule = "chosen by a hash of each document"
    if not train or not held:
        sides = f"leaves {len(train):,} to train on and {len(held):,} held out"
        raise InputError(f"splitting {counted(len(documents), 'document')} of {name} {sides}: {_why(documents, split)}")
    return train, held, rule


def _why(documents: list[Any], split: str) -> str:
    """Why documents cannot be split, and what to do."""
    if split == "position":
        return "the text is too short; use more, or hold out another text, validation=FILE"
    different = len({digest_of(document) for document in documents})
    why = "so few documents may all have hashes of one side"
    if different < len(documents):
        are = "all are equal" if different == 1 else f"only {different:,} of them are different"
        why = f"{are}, and equal documents have one hash, which decides where they go"
    return f'{why}; split="position" cuts through documents, and validation=FILE holds out another text'


def _streamed(found: FoundSource, share: float, options: Options) -> Corpus:
    """Documents that are read when they are iterated over."""
    column = options.text_column

    def source(of: Any) -> FileSource | HubSource:
        if isinstance(of, list):
            return FileSource(of, column, options.lines, options.ids)
        return HubSource(of, column, found.name, options.ids)

    validation = None if found.validation is None else source(found.validation)
    train, held = stream_documents(source(found.train), validation, found.name, share, options.skip_bad_rows)
    rule = "chosen by a hash of each document" if validation is None else ""
    report = CorpusReport(**_described(found, options), split=rule)
    return Corpus(found.name, train, held, report, options.ids and options.ids.special)


def _described(found: FoundSource, options: Options) -> dict[str, Any]:
    kind = {"text": "text files, one document a line" if options.lines else "text files", "hub": "dataset of the hub"}
    kind |= {"FASTA": "FASTA files, one document a record", "NumPy": "NumPy arrays of token ids"}
    if found.kind in TABLES.values():
        kind[found.kind] = f"{found.kind} files, column {options.text_column!r}"
    return {
        "name": found.name,
        "kind": kind.get(found.kind, found.kind),
        "files": found.names,
        "validation": found.validation_names if found.validation is not None else (),
        "left_out": found.left_out,
    }
