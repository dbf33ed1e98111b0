"""JSON files that hold a checksum of themselves, so that an altered one is noticed before it is believed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...errors import InputError
from .cache import write_json

SEAL = "sha256_of_this"
"""The field of a file that holds the checksum of all other fields."""


def seal_of(content: Mapping[str, Any]) -> str:
    """The checksum of a JSON object, however it is spaced and ordered."""
    try:
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    except RecursionError:
        return "of what is nested too deeply"


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object with its checksum, whole or not at all.

    >>> import json, tempfile
    >>> from pathlib import Path
    >>> from clozelab.data.corpora.sealed import unsealed, write_sealed
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "size.json")
    ...     write_sealed(path, {"rows": 3})
    ...     unsealed(json.loads(path.read_text()), path)
    {'rows': 3}
    """
    content = json.loads(json.dumps(content))  # as it will be read: tuples are lists, keys are strings
    write_json(path, {**content, SEAL: seal_of(content)})


def unsealed(content: Any, path: Path) -> dict[str, Any]:
    """The fields of a JSON object without its checksum.

    Raises `InputError`, which names the file, for anything but an object, and for one that was altered.
    """
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged: expected a JSON object, got {type(content).__name__}")
    if SEAL not in content:
        raise InputError(f"{path} is damaged: it has lost its checksum ({SEAL})")
    fields = {name: value for name, value in content.items() if name != SEAL}
    if content[SEAL] != seal_of(fields):
        raise InputError(f"{path} is damaged: it is not what was written; was it edited?")
    return fields
