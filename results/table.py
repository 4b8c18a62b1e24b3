"""The CSV of rows: appended and flushed one by one, readable after any crash, read back with errors that name the cell."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .cells import from_text, row_to_cells, to_text
from .errors import FileError, InputError, UnknownName
from .schema import NAMES, SCHEMA_VERSION, TYPES, Row, case_key

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
        with open(self.path, "rb") as existing:
            content = existing.read()
        header = _line(NAMES)
        # Before anything is cut off: a file of something else keeps its last line.
        if not header.startswith(content[: len(header)]):
            raise FileError(self.path, "has other columns than this version writes", line=1, mend="choose a new file with --out")
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.ftruncate(self._descriptor, whole)
        if whole == 0:
            self._write(header)

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
            # Leave no half row behind: everything before this line stays as it is.
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


def _open(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror})", mend="give the path of a results CSV") from error
    # The last line of a run that was killed may be cut short: it was never measured to its end, so it does not count.
    whole = content[: content.rfind(b"\n") + 1]
    try:
        return whole.decode("utf-8")
    except UnicodeDecodeError as error:
        line = whole.count(b"\n", 0, error.start) + 1
        raise FileError(path, "not UTF-8 text", line=line, mend="give a results CSV written by chipassay") from error


def _check_header(path: Path, header: Sequence[str]) -> None:
    if not {"op", "status"} <= set(header):
        raise FileError(
            path,
            "not a chipassay results CSV: no op and status columns",
            line=1,
            mend="bring other tools' files in with `chipassay import`",
        )
    for position, name in enumerate(header):
        if name not in TYPES and not name.startswith("x_"):
            raise FileError(path, str(UnknownName("column", name, NAMES)), line=1, mend="columns of your own begin with x_")
        if name in header[:position]:
            raise FileError(path, f"column {name!r} stands twice", line=1, mend="keep one of them")


def iterate_rows(path: str | Path) -> Iterator[Row]:
    """Rows of a results CSV, one by one.

    Raises FileError naming the line and column of the first cell that is not of its type.
    """
    path = Path(path)
    reader = csv.reader(io.StringIO(_open(path), newline=""), strict=True)
    try:
        header = next(reader)
    except StopIteration:
        raise FileError(path, "is empty", mend="give a results CSV with a header and rows") from None
    _check_header(path, header)
    try:
        for cells in reader:
            yield _row(path, reader.line_num, header, cells)
    except csv.Error as error:
        raise FileError(path, f"broken CSV ({error})", line=reader.line_num, mend="check the quotes of this line") from error


def _row(path: Path, line: int, header: Sequence[str], cells: Sequence[str]) -> Row:
    if len(cells) != len(header):
        raise FileError(path, f"{len(cells)} cells where the header has {len(header)}", line=line, mend="repair or delete this line")
    values = {}
    for name, text in zip(header, cells, strict=True):
        if name in TYPES:
            try:
                values[name] = from_text(name, text)
            except ValueError as error:
                raise FileError(path, str(error), line=line, field=name, mend="repair or delete this line") from error
    version = values.get("schema_version")
    if version is not None and version > SCHEMA_VERSION:
        raise FileError(path, f"schema version {version}, this chipassay reads up to {SCHEMA_VERSION}", line=line, mend="upgrade chipassay")
    for name in ("op", "status"):
        if values.get(name) is None:
            raise FileError(path, "is empty", line=line, field=name, mend="repair or delete this line")
    return Row(**values)


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
    whole = b"".join([_line(NAMES), *(_line(row_to_cells(row)) for row in kept)])
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(whole)
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
