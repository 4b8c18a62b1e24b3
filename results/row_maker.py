"""Rows out of the cells of one file: its header looked at once, then each line as fast as Python makes a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import make_dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from .cells import READERS
from .errors import FileError, UnknownName
from .schema import NAMES, SCHEMA_VERSION, TYPES, Row

LONGEST_NAME = 60
"""Characters of an unknown column's name that are looked up and told."""

_Twin: Any = make_dataclass("_Twin", [(name, Any) for name in NAMES], slots=True)
"""A Row that is not frozen yet."""


def _ignored(text: str) -> None:
    """The reader of a column that is the user's own."""


class RowMaker:
    """Makes the rows of a file with this header. Raises FileError for a header that is not one of ours."""

    def __init__(self, path: Path, header: Sequence[str]) -> None:
        _check_header(path, header)
        self.path, self.header = path, header
        self.readers = [READERS.get(name, _ignored) for name in header]
        # Each column of the schema by its place in the file; those that the file lacks take the None after the last.
        self.arrange = itemgetter(*(header.index(name) if name in header else len(header) for name in NAMES))
        self.ours = list(header[:1]) == list(NAMES[:1]) and list(header[-2:]) == list(NAMES[-2:])
        """Whether the columns stand as ``TableWriter`` writes them, in this version or another."""

    def counts_unfinished(self, cells: Sequence[str], broken: bool, line: int) -> bool:
        """Whether a last line without its end is a row."""
        if self.ours:
            return len(cells) == len(self.header) and not broken
        if broken or len(cells) != len(self.header) or TYPES.get(self.header[-1], "str") != "str":
            raise FileError(
                self.path, "the last line has no end and may be cut short", line=line, mend="end it with a line break, or delete it"
            )
        return True

    def row(self, cells: Sequence[str], line: int) -> Row:
        """The row of one line. Raises FileError naming the cell that is wrong."""
        if len(cells) != len(self.header):
            problem = f"{len(cells)} cells where the header has {len(self.header)}"
            raise FileError(self.path, problem, line=line, mend="repair or delete this line")
        try:
            values = [read(text) for read, text in zip(self.readers, cells, strict=True)]
        except ValueError:
            self._name_wrong_cell(cells, line)
            raise
        values.append(None)
        # A frozen class sets each of its hundred fields by a call: its twin is made in a tenth of the time and then becomes it.
        row = _Twin(*self.arrange(values))
        row.__class__ = Row
        if row.op is None or row.status is None or (row.schema_version or 0) > SCHEMA_VERSION:
            self._complain(row, line)
        return row

    def _name_wrong_cell(self, cells: Sequence[str], line: int) -> None:
        for name, read, text in zip(self.header, self.readers, cells, strict=True):
            try:
                read(text)
            except ValueError as error:
                raise FileError(self.path, str(error), line=line, field=name, mend="repair or delete this line") from error

    def _complain(self, row: Row, line: int) -> None:
        if (row.schema_version or 0) > SCHEMA_VERSION:
            problem = f"schema version {row.schema_version}, this chipassay reads up to {SCHEMA_VERSION}"
            raise FileError(self.path, problem, line=line, mend="upgrade chipassay")
        field = "op" if row.op is None else "status"
        raise FileError(self.path, "is empty", line=line, field=field, mend="repair or delete this line")


def _check_header(path: Path, header: Sequence[str]) -> None:
    if not {"op", "status"} <= set(header):
        raise FileError(
            path,
            "not a chipassay results CSV: no op and status columns",
            line=1,
            mend="bring other tools' files in with `chipassay import`",
        )
    for position, name in enumerate(header):
        if name == "":
            problem = f"column {position + 1} has no name"
            raise FileError(path, problem, line=1, mend="delete it (pandas writes such a column without index=False)")
        if name not in TYPES and not name.startswith("x_"):
            raise FileError(path, str(UnknownName("column", name[:LONGEST_NAME], NAMES)), line=1, mend="columns of your own begin with x_")
        if name in header[:position]:
            raise FileError(path, f"column {name!r} stands twice", line=1, mend="keep one of them")


def check_separator(path: Path, first_line: str) -> None:
    """Raise FileError for a header whose columns are not separated by commas."""
    for separator, words in ((";", "semicolons"), ("\t", "tabs")):
        if {"op", "status"} <= {name.strip(' "') for name in first_line.strip("\r\n").split(separator)}:
            problem = f"separated by {words}, as some spreadsheets export it"
            raise FileError(path, problem, line=1, mend="export it with commas and decimal points")
