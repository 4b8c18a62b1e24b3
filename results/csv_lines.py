"""A CSV as lines of text, streamed: a file of any size needs the memory of one line. What is no such text is named with its mend."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

from .errors import FileError

LONGEST_LINE = 2**26
"""Characters: twenty thousand times a row of ours. What has a longer line is no table, and is not read into memory."""

UTF8 = "save it as CSV in UTF-8"
KINDS = (
    (b"\xff\xfe\x00\x00", "text in UTF-32", UTF8),
    (b"\x00\x00\xfe\xff", "text in UTF-32", UTF8),
    (b"\xff\xfe", 'text in UTF-16, as Excel\'s "Unicode text" is', UTF8),
    (b"\xfe\xff", "text in UTF-16", UTF8),
    (b"\x1f\x8b", "compressed by gzip", "unpack it first with gunzip"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd", "unpack it first with unzstd"),
    (b"\xfd7zXZ", "compressed by xz", "unpack it first with unxz"),
    (b"BZh", "compressed by bzip2", "unpack it first with bunzip2"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet's workbook", "unpack it, or export the sheet as CSV in UTF-8"),
    (b"\xd0\xcf\x11\xe0", "a spreadsheet's workbook", "export the sheet as CSV in UTF-8"),
    (b"PAR1", "a Parquet file", "write it as CSV"),
)
"""First bytes of what is given in the place of a CSV (the formats' own magic numbers)."""


class CsvLines:
    """The lines of a file with their ends (``\\n``, ``\\r\\n`` or ``\\r``), a byte order mark removed.

    ``first`` is the first line, as soon as it has come. ``whole`` is false once the last line has come and has no end; ``broken`` is true
    where, besides, its text ends inside a character.
    Iterating raises FileError for what cannot be read, is not UTF-8, or holds NUL bytes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first, self.whole, self.broken = "", True, False

    def __iter__(self) -> Iterator[str]:
        try:
            with open(self.path, "rb") as file:
                self._check_kind(file.peek(8))
                # What is no UTF-8 comes as surrogates, so that the line that holds it can be named.
                yield from self._lines(io.TextIOWrapper(file, encoding="utf-8-sig", errors="surrogateescape", newline=""))
        except OSError as error:
            raise FileError(self.path, f"cannot be read ({error.strerror})", mend="give the path of a results CSV") from error

    def _check_kind(self, head: bytes) -> None:
        for magic, kind, mend in KINDS:
            if head.startswith(magic):
                raise FileError(self.path, f"is {kind}", mend=mend)

    def _lines(self, text: io.TextIOWrapper) -> Iterator[str]:
        number = 0
        while line := text.readline(LONGEST_LINE):
            number += 1
            if "\0" in line:
                raise FileError(self.path, "holds NUL bytes: it is damaged, or UTF-16", line=number, mend=f"{UTF8}, or delete this line")
            self.whole = line.endswith(("\n", "\r"))
            if not self.whole and len(line) >= LONGEST_LINE:
                raise FileError(self.path, f"a line of more than {LONGEST_LINE} characters", line=number, mend="give a results CSV")
            if not line.isascii() and not is_text(line):
                if self.whole:
                    raise FileError(self.path, "not UTF-8 text", line=number, mend=UTF8)
                self.broken = True
            if number == 1:
                self.first = line
            yield line


def is_text(line: str) -> bool:
    """Whether all bytes of a line were UTF-8."""
    try:
        line.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
