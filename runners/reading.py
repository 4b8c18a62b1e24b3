"""Any file of results as rows: our CSV, or another tool's output through its importer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chipassay.results.errors import FileError, InputError
from chipassay.results.schema import Row
from chipassay.results.table import iterate_rows, latest


def is_ours(path: Path) -> bool:
    """Whether the file begins as a results CSV does. Raises FileError when it cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(2**16)
    except OSError as error:
        raise FileError(path, f"cannot be read ({error.strerror})", mend="give the path of a file with results") from error
    names = {
        cell.strip().strip('"') for cell in head.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].decode("utf-8", "replace").split(",")
    }
    return {"op", "status"} <= names


def read_any(paths: Sequence[str | Path]) -> list[Row]:
    """The latest rows of several files, in order; other tools' files are recognised and imported.

    Raises FileError for a file that is neither ours nor known, InputError when together they hold no row.
    """
    from .importers.importer import Hints, recognise

    rows: list[Row] = []
    for path in map(Path, paths):
        importer = None if is_ours(path) else recognise(path)
        # A file that nobody knows goes to our own reader, whose error says what is missing.
        rows += latest(iterate_rows(path) if importer is None else importer.read(path, Hints()).rows)
    if not rows:
        raise InputError(f"{', '.join(map(str, paths))}: no row in there; measure some with `chipassay run`")
    return rows
