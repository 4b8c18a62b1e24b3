"""Reading the shipped CSV tables: each cell typed, each mistake named by file, line and column."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from .cells import number_of
from .csv_lines import CsvLines
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
            value = number_of(cell)
        except ValueError as error:
            raise FileError(self.path, f"not a number: {cell!r}", line=self.number, field=column) from error
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
    reader = csv.DictReader(CsvLines(path), strict=True)
    try:
        header = list(reader.fieldnames or ())
        missing = [name for name in columns if name not in header]
        if missing:
            raise FileError(path, f"the header lacks {', '.join(missing)}", line=1)
        if len(set(header)) < len(header):
            raise FileError(path, "a column stands twice", line=1)
        for cells in reader:
            if None in cells or None in cells.values():
                raise FileError(path, f"not {len(header)} cells", line=reader.line_num, mend="quote cells that hold commas")
            yield Line(path, reader.line_num, {name: cell.strip() for name, cell in cells.items()})
    except csv.Error as error:
        raise FileError(path, f"broken CSV ({error})", line=reader.line_num, mend="check the quotes of this line") from error
