"""Reading the shipped CSV tables: each cell typed, each mistake named by file, line and column."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import FileError

DATA = Path(__file__).with_name("data")


@dataclass(frozen=True)
class Line:
    """One line of a table, with the place that an error has to name."""

    path: Path
    number: int
    cells: dict[str, str]

    def text(self, column: str) -> str:
        """The cell as text; empty means unknown."""
        return self.cells[column]

    def required(self, column: str) -> str:
        """The cell as text; an empty one is an error."""
        if not self.cells[column]:
            raise FileError(self.path, "empty, but every row needs it", line=self.number, field=column)
        return self.cells[column]

    def number_or_none(self, column: str, scale: float = 1.0) -> float | None:
        """The cell times ``scale``, None where it is empty; a negative or unreadable number is an error."""
        cell = self.cells[column]
        if not cell:
            return None
        try:
            value = float(cell)
        except ValueError:
            raise FileError(self.path, f"not a number: {cell!r}", line=self.number, field=column) from None
        if not 0 <= value < float("inf"):
            raise FileError(self.path, f"not a finite number of at least 0: {cell!r}", line=self.number, field=column)
        return value * scale

    def whole_or_none(self, column: str) -> int | None:
        """The cell as a whole number, None where it is empty."""
        value = self.number_or_none(column)
        if value is None:
            return None
        if value != int(value):
            raise FileError(self.path, f"not a whole number: {self.cells[column]!r}", line=self.number, field=column)
        return int(value)

    def one_of(self, column: str, allowed: Sequence[str]) -> str:
        """The cell, which must be one of ``allowed``."""
        cell = self.cells[column]
        if cell not in allowed:
            raise FileError(self.path, f"{cell!r} is not one of {', '.join(allowed)}", line=self.number, field=column)
        return cell


def read_lines(path: Path, columns: Sequence[str]) -> Iterator[Line]:
    """The lines of a CSV whose header has all of ``columns`` (more are allowed)."""
    try:
        handle = path.open(newline="", encoding="utf-8")
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror})", mend="give the path of an existing CSV") from error
    with handle:
        reader = csv.DictReader(handle)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise FileError(path, f"the header lacks {', '.join(missing)}", line=1)
        for cells in reader:
            if None in cells or None in cells.values():
                width = len(reader.fieldnames or ())
                raise FileError(path, f"not {width} cells", line=reader.line_num, mend="quote cells that hold commas")
            yield Line(path, reader.line_num, {name: cell.strip() for name, cell in cells.items()})
