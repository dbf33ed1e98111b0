"""Documents that are token ids: checked against their special ids, and arrays of them cut into documents."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...checks import check_int
from ...errors import InputError
from ...escape import shorten, shown
from ..special_ids import SpecialIds
from .documents import IDS_AT_ONCE, BadRow, Row

COLUMN = "input_ids"
"""The column of a table that holds token ids, where none is named."""


class IdRows:
    """Checks rows of token ids: `ids(values, place)` is an array (N,), or a `BadRow` with the first bad value.

    Padding at the end of a row is left out, and so is one end of text there, since packing adds it. Elsewhere an end of
    text may stand, and every id of `SpecialIds.others`; padding, mask, sentinels and the ids of other roles may not.

    >>> import numpy as np
    >>> from clozelab import SpecialIds
    >>> from clozelab.data.corpora.ids import IdRows
    >>> ids = IdRows(SpecialIds(vocab_size=10, pad=0, eos=1, mask=2))
    >>> ids(np.array([5, 6, 1, 0, 0]), "row 1")
    array([5, 6])
    >>> ids([5, 12], "row 2")
    BadRow(place='row 2', reason='id 12 in place 1 is too large: expected 0 to 9')
    """

    def __init__(self, special: SpecialIds, count: int | None = None) -> None:
        self.special = special
        self.count = special.vocab_size if count is None else check_int(count, "id_count", 1, special.vocab_size)
        """Documents hold ids below this one."""

    def __call__(self, values: Any, place: str) -> Row:
        if values is None:
            return None
        ids = _as_ids(values)
        if isinstance(ids, str):
            return BadRow(place, ids)
        if len(ids) and ids[-1] == self.special.pad < self.count:
            kept = np.flatnonzero(ids != self.special.pad)
            ids = ids[: kept[-1] + 1] if len(kept) else ids[:0]
        if len(ids) and ids[-1] == self.special.eos < self.count:
            ids = ids[:-1]
        bad = self.bad_places(ids)
        return BadRow(place, self.reason(ids[bad[0]], int(bad[0]))) if len(bad) else ids

    def bad_places(self, ids: np.ndarray) -> np.ndarray:
        """Where ids (N,) are none that may stand in a document."""
        inside = (ids >= 0) & (ids < self.count)
        if not inside.all():
            return np.flatnonzero(~inside | ~self._allowed[np.where(inside, ids, 0).astype(np.int64)])
        return np.flatnonzero(~self._allowed[ids.astype(np.int64)])

    def reason(self, value: Any, place: int) -> str:
        """Why an id may not stand in a document."""
        value, most = int(value), self.count - 1
        if not 0 <= value <= most:
            return (
                f"id {value} in place {place:,} is {'negative' if value < 0 else 'too large'}: expected 0 to {most:,}"
            )
        role = next((role for role, n in self.special.named.items() if n == value), "sentinel")
        return f"id {value} in place {place:,} is that of {role}, which stands in no document"

    @cached_property
    def _allowed(self) -> np.ndarray:
        """(V,) bool: which ids may stand in a document."""
        special = self.special
        allowed = np.ones(special.vocab_size, bool)
        allowed[list(special.all)] = False
        allowed[[special.eos, *special.others]] = True
        return allowed

    def array(self, values: np.ndarray, place: str) -> Iterator[Row]:
        """The documents of an array: the rows (N, T), or the parts of (N,) between ends of text."""
        if values.ndim == 2:
            for number, row in enumerate(values, 1):
                yield self(row, f"{place}, row {number}")
            return
        ends, bad = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for start in range(0, len(values), IDS_AT_ONCE):
            piece = values[start : start + IDS_AT_ONCE]
            bad.append(start + self.bad_places(piece))
            if self.special.eos < self.count:
                ends.append(start + np.flatnonzero(piece == self.special.eos))
        begin, wrong = 0, np.concatenate(bad)
        for end in [*np.concatenate(ends).tolist(), len(values)]:
            first = np.searchsorted(wrong, begin)
            if first < len(wrong) and wrong[first] < end:
                at = int(wrong[first])
                yield BadRow(place, self.reason(values[at], at))
            elif end > begin:
                yield values[begin:end]
            begin = end + 1


def read_array(path: Path, ids: IdRows) -> Iterator[Row]:
    """The documents of a .npy file, which stay on the disk until they are used.

    Raises `InputError` for a file that is none, is damaged, or holds something else than whole numbers (N,) or (N, T).
    """
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, zipfile.BadZipFile) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        reason = " ".join(str(error).split()) or "it is cut short"
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty") from error
        raise InputError(f"{path} cannot be read as a NumPy array of whole numbers: {shorten(reason, 200)}") from error
    yield from ids.array(_checked_array(values, str(path)), str(path))


def documents_of_ids(source: Any, ids: IdRows) -> Iterator[Row]:
    """The documents of an array, a tensor, or an iterable of lists of ids."""
    if hasattr(source, "ndim"):
        yield from ids.array(_checked_array(np.asarray(source), "the array"), "the array")
        return
    for number, values in enumerate(source):
        yield ids(values, f"document {number}")


def _checked_array(values: Any, name: str) -> np.ndarray:
    if not isinstance(values, np.ndarray):  # an archive of several
        raise InputError(f"{name} holds several arrays, expected one")
    if values.dtype.kind not in "iu" or values.ndim not in (1, 2):
        raise InputError(
            f"{name} holds {values.dtype} of shape {values.shape}, expected whole numbers of shape (N,) or (N, T)"
        )
    return values


def _as_ids(values: Any) -> np.ndarray | str:
    """Values as an array (N,) of whole numbers, or why they are none."""
    if hasattr(values, "ndim"):  # an array or a tensor
        values = np.asarray(values)
    elif isinstance(values, (list, tuple, range)):
        wrong = next((n for n, one in enumerate(values) if type(one) is not int), None)
        if wrong is not None:
            return f"{shown(values[wrong], 40)} in place {wrong:,} is no whole number, expected token ids"
        try:
            values = np.asarray(values, np.int64)
        except OverflowError:
            return "a number beyond 64 bits, expected token ids"
    else:
        return f"{type(values).__name__} {shown(values, 40)}, expected a list of token ids"
    if values.ndim != 1 or (len(values) and values.dtype.kind not in "iu"):
        return f"{values.dtype} of shape {values.shape}, expected a list of token ids"
    return values
