"""JSON files that describe others: their fields are declared once, and their checksums show damage."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ...errors import InputError
from ...escape import escape_control_characters, shorten
from .cache import read_json
from .sealed import seal_of, unsealed, write_sealed

_log = logging.getLogger(__name__)

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
        write_sealed(path, self._content)

    @classmethod
    def read(cls, path: Path, seal: str | None = None) -> Self:
        """The content of a file; with a `seal` it must be the one that had this checksum.

        Raises `FileNotFoundError` where there is none, `OtherFormat`, and `InputError` for a file that is not what was
        written, and for a field that is missing, unknown or out of bounds.
        """
        content = unsealed(read_json(path, most=2**28), path)
        if seal not in (None, seal_of(content)):
            raise InputError(f"{path} is damaged: it is not the file that was written in its place")
        kind, number = cls.FORMAT.rsplit(", ", 1)
        if (theirs := content.pop("format", None)) != cls.FORMAT:
            if not str(theirs).startswith(f"{kind}, "):
                raise InputError(f"{path} is damaged: it holds {shorten(theirs, 80)} in place of {kind}")
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
