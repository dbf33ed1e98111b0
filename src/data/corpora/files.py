"""What a path is: the files of a corpus, which of them are trained on or held out, and what is left out and why."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import InputError

TEXT_FILES = (".txt", ".md", ".rst", ".text")
TABLES = {
    ".jsonl": "JSON",
    ".ndjson": "JSON",
    ".json": "JSON",
    ".csv": "CSV",
    ".tsv": "TSV",
    ".parquet": "Parquet",
    ".arrow": "Arrow",
}
UNTABLED = {
    **dict.fromkeys(TEXT_FILES, "text"),
    **dict.fromkeys((".fasta", ".fa", ".faa", ".fna"), "FASTA"),
    ".npy": "NumPy",
}
"""Endings of files without columns: text, sequences of molecules, and arrays of token ids."""
COMPRESSED = {".gz": "gzip", ".zst": "Zstandard", ".xz": "xz", ".bz2": "bzip2"}
"""Endings behind those of text files, FASTA, JSON, CSV and TSV."""
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "heldout"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
"""Words in the names of files and folders, and the split that they name: those that `datasets` knows."""

_LEFT_OUT = {"test": "test files, neither trained on nor held out"}
_DOCUMENTATION = {"readme", "license", "licence", "copying", "notice", "changelog", "contributing", "citation"}
_DESCRIPTIONS = {"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"}
_OF_PROGRAMS = {"__macosx", "__pycache__", "_temporary"}
_ABOUT_DOCUMENTS = {"attributes", "quality_signals", "minhash", "duplicates"}
_ENDINGS = ", ".join((*TABLES, *UNTABLED))


@dataclass(frozen=True)
class CorpusFile:
    """A file that holds documents."""

    path: Path
    kind: str
    """One of the values of `TABLES` and `UNTABLED`."""
    compression: str | None = None
    """One of the values of `COMPRESSED`."""


@dataclass
class Found:
    """What a path is."""

    train: list[CorpusFile]
    validation: list[CorpusFile] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Names by the reason why they are left out; those of folders end in "/"."""

    @property
    def kind(self) -> str:
        """The kind that all files have."""
        return self.train[0].kind


def classify(path: Path) -> CorpusFile | None:
    """The kind of a file by its ending; None where the ending is unknown.

    >>> from pathlib import Path
    >>> from clozelab.data.corpora.files import classify
    >>> file = classify(Path("c4-train.00000-of-01024.json.gz"))
    >>> file.kind, file.compression
    ('JSON', 'gzip')
    """
    ending, compression = path.suffix.lower(), None
    if ending in COMPRESSED:
        ending, compression = Path(path.stem).suffix.lower(), COMPRESSED[ending]
    kind = (TABLES | UNTABLED).get(ending)
    if kind is None or (compression and kind in ("Parquet", "Arrow", "NumPy")):
        return None
    return CorpusFile(path, kind, compression)


def find_files(path: Path, split: str = "train") -> Found:
    """The files of a corpus, or of its `split` "validation" alone, which are then called `train`.

    A file that is named is always read; with an unknown ending it is text. In a folder the files are found by their
    endings and assigned to training, validation and test by their names; what is no part of the corpus is left out.

    Raises `FileNotFoundError` for a path that does not exist, and `InputError` for what is neither a file nor a folder,
    a folder without documents, one with documents of several kinds, and one with test or validation files alone.
    """
    if path.is_dir():
        return _in_folder(path, split)
    if not path.exists():
        raise FileNotFoundError(2, "no such corpus file or folder", str(path))
    if not path.is_file():
        raise InputError(f"{path} is neither a file nor a folder: a pipe or a device has no known end")
    compression = COMPRESSED.get(path.suffix.lower())
    return Found([classify(path) or CorpusFile(path, "text", compression)])


def _in_folder(folder: Path, split: str) -> Found:
    left_out: dict[str, list[str]] = {}
    files: dict[str, CorpusFile] = {}  # by their names below the folder
    for name, reason in _walk(folder):
        file = classify(folder / name) if reason is None else None
        if file is not None:
            files[name] = file
        else:
            left_out.setdefault(reason or _unknown(name), []).append(name)
    for name, reason in _beside_documents(files):
        del files[name]
        left_out.setdefault(reason, []).append(name)
    if not files:
        raise InputError(
            f"{folder} holds neither text files nor tables: {_listed(left_out)}expected names that end in "
            f"{_ENDINGS}; all but Parquet, Arrow and NumPy also with {', '.join(COMPRESSED)} behind"
        )
    kinds = Counter(file.kind for file in files.values())
    if len(kinds) > 1:
        examples = {kind: next(name for name, file in files.items() if file.kind == kind) for kind in sorted(kinds)}
        counted = " and ".join(f"{kinds[kind]} of {kind} (such as {name})" for kind, name in examples.items())
        raise InputError(
            f"{folder} holds documents of several kinds, {counted}: name the file or the folder that is the corpus"
        )
    return _assign(folder, files, left_out, split)


def _walk(folder: Path) -> Iterator[tuple[str, str | None]]:
    """(name below the folder, why it is left out or None) of each file, and of each folder that is not entered."""
    for place, folders, files in os.walk(folder):
        here = Path(place).relative_to(folder)
        about = _ABOUT_DOCUMENTS if "documents" in folders else set()
        entered = []
        for name in sorted(folders):
            if name.startswith("."):
                yield f"{(here / name).as_posix()}/", "hidden"
            elif name.lower() in _OF_PROGRAMS:
                yield f"{(here / name).as_posix()}/", "of other programs"
            elif name in about:
                yield f"{(here / name).as_posix()}/", "about documents"
            elif (Path(place) / name).is_symlink():
                yield f"{(here / name).as_posix()}/", "a link to a folder"
            else:
                entered.append(name)
        folders[:] = entered
        for name in sorted(files):
            if name.startswith("."):
                reason = "hidden"
            elif not (Path(place) / name).is_file():
                reason = "no regular file"
            elif name in _DESCRIPTIONS:
                reason = "describes the data"
            elif name.startswith("cache-") and name.endswith(".arrow"):
                reason = "a cache of datasets"
            else:
                reason = None
            yield (here / name).as_posix(), reason


def _unknown(name: str) -> str:
    endings = Path(name).suffixes[-2:] if Path(name).suffix.lower() in COMPRESSED else Path(name).suffixes[-1:]
    return f"unknown ending {''.join(endings)}" if endings else "no ending"


def _beside_documents(files: dict[str, CorpusFile]) -> list[tuple[str, str]]:
    """(name, reason) of documentation beside files with other endings, and of compressed copies."""
    documentation = {name for name in files if re.split(r"[-._]", Path(name).name.lower())[0] in _DOCUMENTATION}
    endings = {Path(name).suffix.lower() for name in files.keys() - documentation}
    found = [
        (name, "documentation")
        for name in files
        if name in documentation and endings and Path(name).suffix.lower() not in endings
    ]
    for name, file in files.items():
        if file.compression and name[: -len(Path(name).suffix)] in files:
            found.append((name, "a compressed copy of the file beside it"))
    return found


def _assign(folder: Path, files: dict[str, CorpusFile], left_out: dict[str, list[str]], wanted: str) -> Found:
    """Train, validation and test files apart: those named as the wanted split, or else those that name none."""
    names: dict[str | None, list[str]] = {}
    for name in sorted(files, key=lambda name: Path(name).parts):
        names.setdefault(split_of(name), []).append(name)
    chosen = names.pop(wanted, None) or names.pop(None, None)
    if not chosen:
        raise InputError(
            f"{folder} holds {' and '.join(str(split) for split in names)} files alone, such as "
            f"{next(iter(names.values()))[0]}: name the file or the folder that is meant"
        )
    validation = names.pop("validation", [])
    for split, others in names.items():
        left_out[_LEFT_OUT.get(split, f"{split} files") if split else f"not named as {wanted} files are"] = others
    return Found([files[name] for name in chosen], [files[name] for name in validation], left_out)


def split_of(name: str) -> str | None:
    """The split that the name of a file below its folder, or else the deepest folder above it, names by a word.

    >>> from clozelab.data.corpora.files import split_of
    >>> split_of("en/c4-validation.00000-of-00008.json.gz"), split_of("train/a.txt"), split_of("a/contest.txt")
    ('validation', 'train', None)
    """
    for part in reversed(Path(name).parts):
        named = {SPLITS[word] for word in re.split(r"[-._ 0-9]+", part.lower()) if word in SPLITS}
        if len(named) == 1:
            return named.pop()
    return None


def _listed(left_out: dict[str, list[str]]) -> str:
    """What a folder holds instead, for a message."""
    found = [f"{name} ({reason})" for reason, names in left_out.items() for name in names]
    more = f" and {len(found) - 3} more" if len(found) > 3 else ""
    return f"it holds {', '.join(found[:3])}{more}; " if found else ""
