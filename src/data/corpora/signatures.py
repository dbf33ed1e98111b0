"""Files are opened by what they are: signatures and encodings are looked at, and compressed files are unpacked."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ...errors import InputError
from ...escape import shorten
from .files import CorpusFile

HIGHEST_RATIO = 100
"""How many times its size a compressed file may unpack to: text rarely reaches 30."""
ALWAYS_ALLOWED = 2**26
"""Bytes that any compressed file may unpack to."""

_FORMATS = [
    (rb"\x1f\x8b", "gzip", "name it with .gz at the end, as in corpus.jsonl.gz"),
    (rb"\x28\xb5\x2f\xfd", "Zstandard", "name it with .zst at the end, as in corpus.jsonl.zst"),
    (rb"\xfd7zXZ\0", "xz", "name it with .xz at the end, as in corpus.jsonl.xz"),
    (rb"BZh[1-9]1AY&SY", "bzip2", "name it with .bz2 at the end, as in corpus.jsonl.bz2"),
    (rb"PK(\x03\x04|\x05\x06)", "zip", "unpack it; office documents are zip files too and need their text exported"),
    (rb"7z\xbc\xaf\x27\x1c", "7-Zip", "unpack it"),
    (rb"Rar!\x1a\x07", "RAR", "unpack it"),
    (rb".{257}ustar", "tar", "unpack it"),
    (rb"PAR1[\0-\x1f]", "Parquet", "name it with .parquet at the end"),
    (rb"ARROW1\0\0", "Arrow", "name it with .arrow at the end"),
    (rb"%PDF-", "PDF", "extract its text, by pdftotext for example"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old office document", "export its text"),
    (rb"SQLite format 3\0", "SQLite", "export its text"),
    (rb"version https://git-lfs\.github\.com/spec/", "a Git LFS pointer", "fetch the file itself by git lfs pull"),
]
_UNICODE = [
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
]


@contextmanager
def opened(file: CorpusFile, unpacked: list[tuple[int, int]] | None = None) -> Iterator[BinaryIO]:
    """The content of a text file, JSON, CSV or TSV, unpacked, without a byte order mark of UTF-8.

    `unpacked` receives (bytes in the file, bytes unpacked) of a compressed file when it is closed.

    Raises `InputError` for a file that is something else than its name says, for a damaged one, and for one that
    unpacks to more than `HIGHEST_RATIO` times its size.
    """
    with open(file.path, "rb") as raw:
        check_signature(file.path, raw.read(4096), file.compression)
    if file.compression is None:
        with open(file.path, "rb") as raw:
            yield _without_mark(raw)
        return
    source = _Unpacked(file)
    with io.BufferedReader(source, 2**20) as content:
        check_signature(file.path, content.peek(4096)[:4096], None)
        yield _without_mark(content)
        if unpacked is not None:
            unpacked.append((source.packed, source.unpacked))


def check_signature(path: Path, head: bytes, compression: str | None) -> None:
    """Raises `InputError`, with what to do, where the beginning of a file is not that of text, or of `compression`."""
    kind, cure = next(((kind, cure) for sign, kind, cure in _FORMATS if re.match(sign, head, re.DOTALL)), (None, ""))
    if compression is not None:
        if kind != compression and head:
            raise InputError(
                f"{path} is named as {compression} and is {f'{kind}: {cure}' if kind else 'not compressed'}"
            )
        return
    if kind is not None:
        raise InputError(f"{path} is {kind}, not text: {cure}")
    encoding = _unicode(head)
    if encoding:
        raise InputError(
            f"{path} is {encoding.upper().rstrip('LBE').rstrip('-')}, not UTF-8: convert it by "
            f"iconv -f {encoding} -t utf-8"
        )


def _unicode(head: bytes) -> str | None:
    """UTF-16 or UTF-32, by its byte order mark, or by the zeros beside Latin letters."""
    for mark, encoding in _UNICODE:
        if head.startswith(mark):
            return encoding
    zeros = [head[place : len(head) // 4 * 4 : 4].count(0) * 4 / max(len(head), 1) for place in range(4)]
    if len(head) >= 16:
        for encoding, full in (("utf-32le", "0111"), ("utf-32be", "1110"), ("utf-16le", "0101"), ("utf-16be", "1010")):
            if all(zeros[place] > 0.6 if one == "1" else zeros[place] < 0.2 for place, one in enumerate(full)):
                return encoding
    return None


def encoding_advice(data: bytes) -> str:
    """What bytes that are not UTF-8 probably are, and what to do.

    >>> from clozelab.data.corpora.signatures import encoding_advice
    >>> encoding_advice("“A café”, he said.".encode("cp1252"))
    'convert it first, by iconv -f cp1252 -t utf-8 if it was written on Windows'
    """
    text = data.decode("utf-8", "replace")
    wrong, other = text.count("\ufffd"), sum(character > "\x7f" for character in text)
    if sum(byte < 9 or 13 < byte < 27 or byte == 127 for byte in data) * 50 > len(data):
        return "it looks like binary data and not like text"
    if other - wrong > wrong:
        return "the text around it is UTF-8, so it was damaged or cut"
    high = [byte for byte in data if byte >= 0x80]
    if {0x81, 0x8D, 0x8F, 0x90, 0x9D} & set(high) or len(high) * 3 > len(data):
        return "convert it first, by iconv -f ENCODING -t utf-8 with its encoding (gb18030, shift_jis, koi8-r, ...)"
    if any(byte < 0xA0 for byte in high):
        return "convert it first, by iconv -f cp1252 -t utf-8 if it was written on Windows"
    return "convert it first, by iconv -f latin1 -t utf-8 if it is in a language of Western Europe"


def decoded(data: bytes, name: str) -> str:
    """UTF-8 as a string; raises `InputError`, which begins with `name`, for other bytes."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        around = data[max(0, error.start - 2**14) : error.start + 2**14]
        raise InputError(
            f"{name} is not UTF-8 text: byte {error.start} is 0x{data[error.start]:02x}; {encoding_advice(around)}"
        ) from error


def _without_mark(content: Any) -> BinaryIO:
    if content.peek(3)[:3] == b"\xef\xbb\xbf":
        content.read(3)
    return content


class _Unpacked(io.RawIOBase):
    """A compressed file as it is unpacked, which counts its bytes and has a bound."""

    def __init__(self, file: CorpusFile) -> None:
        self.path, self.packed, self.unpacked = file.path, file.path.stat().st_size, 0
        if file.compression == "gzip":
            self.inner: Any = gzip.GzipFile(file.path, "rb")
        elif file.compression == "xz":
            self.inner = lzma.LZMAFile(file.path)  # noqa: SIM115
        elif file.compression == "bzip2":
            self.inner = bz2.BZ2File(file.path)
        else:
            import pyarrow

            self.inner = pyarrow.input_stream(str(file.path), compression="zstd")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self.inner.read(len(buffer))
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            if isinstance(error, OSError) and error.errno:  # of the disk
                raise
            reason = shorten(error, 200)
            raise InputError(f"{self.path} is damaged: it cannot be unpacked to its end ({reason})") from error
        self.unpacked += len(data)
        if self.unpacked > max(ALWAYS_ALLOWED, HIGHEST_RATIO * self.packed):
            raise InputError(
                f"{self.path} of {self.packed:,} bytes unpacks to more than {self.unpacked:,}, which no text does: "
                "unpack it yourself if it is what you expect"
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            self.inner.close()
        super().close()
