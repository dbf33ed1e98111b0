"""JSON files that describe others: their fields are declared once, and a checksum of the file itself shows damage."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...errors import InputError
from ...escape import escape_control_characters, shorten
from .cache import read_json, written_whole

_log = logging.getLogger(__name__)

SEAL = "sha256_of_this"
"""The field of a file that holds the checksum of all other fields."""

Count = Annotated[int, Field(ge=0, lt=2**63)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Fingerprint = Annotated[str, Field(pattern=r"^[0-9a-f]{32,64}$")]


class OtherFormat(InputError):
    """A file of another format, which another version wrote."""


class Fields(BaseModel):
    """The declared fields of a JSON object: nothing is converted (no bool is an int), numbers are finite."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Description(Fields):
    """A JSON file of declared fields, with the number of its format and its own checksum.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from clozelab.data.corpora.descriptions import Count, Description
    >>> class Size(Description):
    ...     FORMAT = "size, 1"
    ...     rows: Count
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Size(rows=3).write(Path(folder, "size.json"))
    ...     Size.read(Path(folder, "size.json")).rows
    3
    """

    FORMAT: ClassVar[str]
    """What kind of file it is, and the number of its format: "packed shards, 2"."""

    @property
    def seal(self) -> str:
        """The checksum that the file holds of itself."""
        return seal_of(self._content)

    @property
    def _content(self) -> dict[str, Any]:
        return {"format": self.FORMAT, **self.model_dump(mode="json")}

    def write(self, path: Path) -> None:
        """Write the file whole or not at all."""
        with written_whole(path) as file:
            file.write(json.dumps({**self._content, SEAL: self.seal}, indent=1).encode())

    @classmethod
    def read(cls, path: Path, seal: str | None = None) -> Self:
        """The content of a file; with a `seal` it must be the one that had this checksum.

        Raises `FileNotFoundError` where there is none, `OtherFormat`, and `InputError` for a file that is not what was
        written, and for a field that is missing, unknown or out of bounds.
        """
        content = read_json(path, most=2**28)
        if not isinstance(content, dict):
            raise InputError(f"{path} is damaged: expected a JSON object, got {type(content).__name__}")
        found = content.pop(SEAL, None)
        if found != seal_of(content) or seal not in (None, found):
            raise InputError(f"{path} is damaged: it is not what was written")
        kind, number = cls.FORMAT.rsplit(", ", 1)
        if (theirs := content.pop("format", None)) != cls.FORMAT:
            if not str(theirs).startswith(f"{kind}, "):
                raise InputError(f"{path} is damaged: it holds {theirs!s:.80} in place of {kind}")
            raise OtherFormat(f"{path} is {theirs}, and this version reads format {number}: use the one that wrote it")
        return checked_fields(cls, content, str(path))

    @classmethod
    def read_if_whole(cls, path: Path) -> Self | None:
        """The content of a file of the cache; None where there is none, or where it is damaged, which is logged."""
        try:
            return cls.read(path)
        except FileNotFoundError:
            return None
        except InputError as error:
            _log.warning(escape_control_characters(f"{error}; it is made again"))
            return None


def checked_fields(kind: type[Any], content: Any, source: str) -> Any:
    """`kind` from the content of a JSON file.

    Raises `InputError`, which names the `source`, for a field that is missing, unknown, of another type or out of
    bounds.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        came = f", got {shorten(repr(first['input']), 80)}" if first["type"] != "missing" else ""
        reason = f"{first['msg'][0].lower()}{first['msg'][1:]}{came}"
        raise InputError(f"{source} is damaged: {shorten(field, 80)}{field and ': '}{reason}") from None


def seal_of(content: dict[str, Any]) -> str:
    """The checksum of a JSON object, however it is spaced and ordered."""
    try:
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    except RecursionError:
        return "of what is nested too deeply"
