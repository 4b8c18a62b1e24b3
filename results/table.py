"""The CSV of rows: appended and flushed one by one, readable after any crash, read back with errors that name the cell."""

from __future__ import annotations

import contextlib
import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from .cells import row_to_cells, to_text
from .csv_lines import CsvLines
from .errors import FileError, InputError
from .row_maker import RowMaker, check_separator
from .schema import NAMES, TYPES, Row, case_key

if TYPE_CHECKING:
    import pandas

csv.field_size_limit(2**24)


def _line(cells: Sequence[str]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow(cells)
    return buffer.getvalue().encode("utf-8")


class TableWriter:
    """Appends rows to a CSV file; each row is on the disk before ``append`` returns.

    A new file gets the header. An existing one is continued: a last line that a crash cut short is removed first.
    Raises FileError when the file cannot be written or has other columns than this version's.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise FileError(self.path, f"cannot be written ({error.strerror})", mend="choose another place with --out") from error
        try:
            self._continue_or_begin()
        except BaseException:
            os.close(self._descriptor)
            raise

    def _continue_or_begin(self) -> None:
        header = _line(NAMES)
        try:
            with open(self.path, "rb") as existing:
                head = existing.read(len(header))
                tail = _unfinished(existing)
                end = existing.seek(0, os.SEEK_END)
        except OSError as error:
            raise FileError(self.path, f"cannot be read ({error.strerror})", mend="choose another place with --out") from error
        # Before anything is cut off: a file of something else keeps its last line.
        if not header.startswith(head):
            raise FileError(self.path, "has other columns than this version writes", line=1, mend="choose a new file with --out")
        if len(head) < len(header):
            self._cut(0)
            self._write(header)
        elif tail and _is_whole_row(tail):
            self._write(b"\n")
        elif tail:
            self._cut(end - len(tail))

    def _cut(self, size_bytes: int) -> None:
        try:
            os.ftruncate(self._descriptor, size_bytes)
        except OSError as error:
            raise FileError(self.path, f"cannot be shortened ({error.strerror})", mend="choose another place with --out") from error

    def append(self, row: Row) -> None:
        """Write one row and wait until the system has it on the disk."""
        self._write(_line(row_to_cells(row)))

    def extend(self, rows: Iterable[Row]) -> None:
        """Write many rows at once, of which none was measured just now: one wait for the disk instead of one for each."""
        self._write(b"".join([_line(row_to_cells(row)) for row in rows]))

    def _write(self, line: bytes) -> None:
        begin = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            written = 0
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
            os.fsync(self._descriptor)
        except OSError as error:
            # Leave no half row behind: everything before this line stays as it is. Where even that fails, readers leave it out.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, begin)
            raise FileError(
                self.path,
                f"a row could not be written ({error.strerror}); all rows before it are safe",
                mend="make room or choose another place, then go on with --resume",
            ) from error

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _unfinished(file: BinaryIO) -> bytes:
    """What stands after the last line end of a file."""
    position, tail = file.seek(0, os.SEEK_END), b""
    while position and b"\n" not in tail:
        begin = max(0, position - 2**16)
        file.seek(begin)
        tail = file.read(position - begin) + tail
        position = begin
    return tail[tail.rfind(b"\n") + 1 :]


def _is_whole_row(tail: bytes) -> bool:
    """Whether all cells of a row are there, and only the line's end is not. Readers count such a row, so it must not be cut off."""
    try:
        return [len(cells) for cells in csv.reader([tail.decode("utf-8")], strict=True)] == [len(NAMES)]
    except (csv.Error, UnicodeDecodeError):
        return False


def iterate_rows(path: str | Path) -> Iterator[Row]:
    """Rows of a results CSV, one by one; the file is read as they are asked for.

    A last line without its line end was being written when a run was killed: it does not count unless all its cells are there. In a file
    that chipassay did not write, where a number may end its lines, it is an error. Raises FileError naming line and column of whatever
    else is not as it should be.
    """
    path = Path(path)
    lines = CsvLines(path)
    reader = csv.reader(lines, strict=True)
    make: RowMaker | None = None
    begin = 1  # the line in which the next row begins: what a lost quote swallowed is told by it, not by where it ended
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            if make is not None and make.ours and not lines.whole and reader.line_num == begin:
                return
            if make is None:
                check_separator(path, lines.first)
            raise FileError(path, f"broken CSV ({error})", line=begin, mend="check the quotes of this line") from error
        if make is None:
            if not lines.whole:
                raise FileError(path, "ends in its header", line=1, mend="give a results CSV with a header and rows")
            if cells:
                check_separator(path, lines.first)
                make = RowMaker(path, cells)
        elif cells:
            if not lines.whole and not make.counts_unfinished(cells, lines.broken, begin):
                return
            yield make.row(cells, begin)
        begin = reader.line_num + 1
    if make is None:
        raise FileError(path, "is empty", mend="give a results CSV with a header and rows")


def read_rows(path: str | Path) -> list[Row]:
    """All rows of a results CSV. Raises FileError (see ``iterate_rows``)."""
    return list(iterate_rows(path))


def latest(rows: Iterable[Row]) -> list[Row]:
    """The last row of each case, run and chip, in the order of first appearance: a run that was cut short may hold earlier ones too."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        found[row.run_id, row.chip_id, row.device_index, case_key(row)] = row
    return list(found.values())


def keep_latest(path: str | Path) -> None:
    """Rewrite a finished file with one row per case and run, in one step: until then the file as it was is there.

    A disk without room for both leaves the file as it is; readers take the latest rows anyway.
    """
    path = Path(path)
    rows = read_rows(path)
    kept = latest(rows)
    if len(kept) == len(rows):
        return
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(_line(NAMES))
            file.writelines(_line(row_to_cells(row)) for row in kept)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)


def read_many(paths: Sequence[str | Path]) -> list[Row]:
    """The latest rows of several files, in order. Raises InputError when together they hold no row."""
    rows = [row for path in paths for row in latest(iterate_rows(path))]
    if not rows:
        raise InputError(f"{', '.join(map(str, paths))}: no row in there; measure some with `chipassay run`")
    return rows


def to_frame(rows: Sequence[Row]) -> pandas.DataFrame:
    """Rows as a pandas DataFrame with a nullable dtype per column; ``samples_s`` stays a column of tuples."""
    import pandas

    dtypes = {"str": "string", "int": "Int64", "float": "Float64", "bool": "boolean"}
    return pandas.DataFrame(
        {name: pandas.Series([getattr(row, name) for row in rows], dtype=dtypes.get(TYPES[name], "object")) for name in NAMES}
    )


__all__ = ["TableWriter", "iterate_rows", "keep_latest", "latest", "read_many", "read_rows", "to_frame", "to_text"]
