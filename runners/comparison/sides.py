"""The sides of a comparison: a file, a folder of runs, or several paths joined by commas, ours or another tool's, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chipassay.results.errors import FileError, InputError

from ..importers.importer import Hints, recognise
from ..reading import is_ours

if TYPE_CHECKING:
    from chipassay.results.compare.columns import Columns
    from chipassay.results.schema import Row

UNMAPPED_TOLD = 3
"""Sentences told of one imported file whose contents have no place in a row; more are counted."""


@dataclass(frozen=True)
class Files:
    """The files of one side, and what to know of how they were chosen."""

    name: str
    paths: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def files_of(text: str) -> Files:
    """The files that the user means by ``text``. A path that exists wins over its commas.

    Raises FileError for what does not exist, InputError for a folder without results.
    """
    parts = [text] if Path(text).exists() else [part.strip() for part in text.split(",") if part.strip()]
    paths: dict[Path, None] = {}
    notes: list[str] = []
    for part in map(Path, parts or [text]):
        if part.is_dir():
            found, left_out = _results_in(part)
            paths |= dict.fromkeys(found)
            notes += left_out
        elif part.exists():
            paths[part] = None
        else:
            raise FileError(part, "cannot be read (No such file or directory)", mend="give a file or a folder with results")
    return Files(text, tuple(paths), tuple(notes))


def _results_in(folder: Path) -> tuple[list[Path], list[str]]:
    """The files with results directly in a folder, by name, and a note on the others: profiles and pictures lie beside results."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    found = [path for path in files if path.stat().st_size and (is_ours(path) or recognise(path) is not None)]
    if not found:
        raise InputError(f"{folder}: no file with results lies directly in it; name files, or the folder whose files these are")
    others = [path.name for path in files if path not in found]
    if not others:
        return found, []
    named = ", ".join(others[:UNMAPPED_TOLD]) + (", ..." if len(others) > UNMAPPED_TOLD else "")
    return found, [f"{folder}: {len(others)} of {len(files)} files hold no results and were left out: {named}."]


def read_side(files: Files) -> tuple[Columns, list[str]]:
    """One side as columns, and what to know of it: what an import could not map. Raises FileError, InputError."""
    from chipassay.results.compare.columns import columns_of_rows, joined, read_columns

    ours: list[Path] = []
    rows: list[Row] = []
    notes = list(files.notes)
    for path in files.paths:
        importer = None if is_ours(path) else recognise(path)
        if importer is None:
            ours.append(path)  # a file that nobody knows, too: the error of our own reader says what is missing
            continue
        imported = importer.read(path, Hints())
        rows += imported.rows
        notes += _unmapped(path, imported.unmapped)
    parts = ([read_columns(ours, files.name)] if ours else []) + ([columns_of_rows(rows, files.name)] if rows else [])
    if not parts:
        raise InputError(f"{files.name}: no row in there; measure some with `chipassay run`")
    return (parts[0] if len(parts) == 1 else joined(*parts, name=files.name)), notes


def _unmapped(path: Path, sentences: Sequence[str]) -> list[str]:
    more = len(sentences) - UNMAPPED_TOLD
    told = [f"{path}: {sentence}" for sentence in sentences[:UNMAPPED_TOLD]]
    return told + ([f"{path}: {more} more such remarks; `chipassay import` tells all."] if more > 0 else [])
