"""Packed text on the disk: token ids in NAME.bin, what they are in NAME.json, with checksums of every chunk.

Each chunk is verified before the first of its tokens is used, so that opening a corpus of any size costs nothing and
no damage is trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xxhash

from ..errors import InputError

CHUNK = 2**20
"""Bytes that one checksum covers."""


class SummedFile:
    """A file that is being written, and the checksum of each chunk of it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._sums = file, list[str]()
        self._chunk, self._filled = xxhash.xxh3_64(), 0

    def write(self, content: bytes) -> None:
        """Append to the file."""
        self._file.write(content)
        rest = memoryview(content)
        while len(rest):
            part, rest = rest[: CHUNK - self._filled], rest[CHUNK - self._filled :]
            self._chunk.update(part)
            self._filled += len(part)
            if self._filled == CHUNK:
                self._end_chunk()

    def checksums(self) -> list[str]:
        """Those of the whole file; nothing may be written behind them."""
        if self._filled:
            self._end_chunk()
        return self._sums

    def _end_chunk(self) -> None:
        self._sums.append(self._chunk.hexdigest())
        self._chunk, self._filled = xxhash.xxh3_64(), 0


class CheckedArray:
    """A memory-mapped array whose chunks are verified before their first use.

    >>> import tempfile
    >>> from pathlib import Path
    >>> from clozelab.data.packed_files import CheckedArray, SummedFile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "a.bin")
    ...     with open(path, "wb") as file:
    ...         summed = SummedFile(file)
    ...         summed.write(bytes([1, 0, 2, 0]))
    ...     array = CheckedArray(path, "uint16", 2, summed.checksums())
    ...     array.verify(0, 2)
    ...     array.values.tolist()
    [1, 2]

    Raises `InputError` for a file of another size, and `OSError` where there is none.
    """

    def __init__(self, path: Path, dtype: str, length: int, checksums: Sequence[str], cure: str = "") -> None:
        self.path, self.checksums, self.cure = path, checksums, cure
        size, expected = path.stat().st_size, length * np.dtype(dtype).itemsize
        if size != expected:
            raise InputError(f"{path} is damaged: it has {size:,} bytes, {expected:,} were written{cure}")
        self.values = np.memmap(path, dtype, "r", shape=(length,)) if length else np.zeros(0, dtype)
        self._verified = bytearray(len(checksums))

    def verify(self, start: int, stop: int) -> None:
        """Raises `InputError` unless the values from `start` to before `stop` are what was written.

        Each chunk is hashed once in each process: damage that a disk does later is not noticed.
        """
        if start >= stop:
            return
        width, content = self.values.itemsize, None
        for chunk in range(start * width // CHUNK, (stop * width - 1) // CHUNK + 1):
            if not self._verified[chunk]:
                content = self.values.data.cast("B") if content is None else content
                begin = chunk * CHUNK
                if xxhash.xxh3_64_hexdigest(content[begin : begin + CHUNK]) != self.checksums[chunk]:
                    end = min(begin + CHUNK, len(content))
                    raise InputError(
                        f"{self.path} is damaged: its bytes {begin:,} to {end:,} are not what was written{self.cure}"
                    )
                self._verified[chunk] = 1
