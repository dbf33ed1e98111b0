"""What the JSON files of this room hold, field by field: packed text, its shards, and what is kept in the cache.

Whoever reads or writes one imports it there: pydantic, which checks the fields, takes longer to import than many a
command to run.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, model_validator

from . import packed_files
from .corpora.descriptions import Count, Description, Fingerprint, Sha256
from .corpora.shards import MAX_SHARDS

Checksum = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
"""XXH3, 64 bits: it is for damage, and hashes several gigabytes a second."""


class PackedDescription(Description):
    """The content of NAME.json, beside the tokens in NAME.bin."""

    FORMAT = "packed text, 4"

    name: str
    """NAME, so that files which were swapped are found."""
    dtype: Literal["uint16", "uint32"]
    tokens: Count
    documents: Count
    bytes: Count
    unknown: Count
    emptied: Count
    tokenizer: Fingerprint
    checksums: list[Checksum]
    """Of each chunk of NAME.bin."""
    byte_counts: list[Checksum] | None
    """Of each chunk of NAME.bytes, which may be absent."""

    @model_validator(mode="after")
    def _covers_all(self) -> Self:
        size = np.dtype(self.dtype).itemsize
        for sums, width in ((self.checksums, size), (self.byte_counts, 4)):
            if sums is not None and len(sums) != -(-self.tokens * width // packed_files.CHUNK):
                raise ValueError(f"{len(sums)} checksums are not those of {self.tokens} tokens")
        return self


class UnfinishedShards(Description):
    """The content of packing.json: what is being packed there."""

    FORMAT = "shards that are being packed, 2"

    source: Fingerprint
    """Of the corpus and the tokenizer."""


class FinishedShards(Description):
    """The content of packed.json."""

    FORMAT = "packed shards, 2"

    source: Fingerprint
    """Of the corpus and the tokenizer."""
    tokenizer: Sha256
    """Of tokenizer.json."""
    special: dict[str, Count]
    """The tokenizer's ids by their roles, which its file does not say where they were stated."""
    heldout: Sha256
    """The checksum that heldout.json holds of itself."""
    shards: Annotated[list[Sha256], Field(min_length=1, max_length=MAX_SHARDS)]
    """The checksum that each shard's JSON file holds of itself."""


class KeptTokenizer(Description):
    """A trained tokenizer in the cache."""

    FORMAT = "trained tokenizer, 1"

    key: Fingerprint
    """Of the texts and the settings."""
    tokenizer: str
    """The content of its tokenizer.json."""


class KeptDocuments(Description):
    """The documents of Python in the cache."""

    FORMAT = "documents of Python, 2"

    python: str
    documents: Annotated[list[str], Field(min_length=1)]
