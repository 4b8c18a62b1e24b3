"""Copies of shipped tables with one cell changed, to see it noticed."""

from __future__ import annotations

import csv
from pathlib import Path


def changed(path: Path, tmp_path: Path, column: str, value: str, where: str) -> Path:
    """A copy of a table with one cell changed: in the first line that begins with ``where``."""
    header, *lines = csv.reader(path.read_text(encoding="utf-8").splitlines())
    line = next(line for line in lines if ",".join(line).startswith(where))
    line[header.index(column)] = value
    copy = tmp_path / path.name
    with copy.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *lines])
    return copy
