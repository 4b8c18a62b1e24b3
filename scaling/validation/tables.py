"""The tables that turn a source's words into fields: patterns in their order, the first that matches counts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from chipassay.results.datafile import Line, read_lines
from chipassay.results.errors import ChipassayError, FileError

HERE = Path(__file__).parent


@lru_cache(maxsize=8)
def table(name: str, columns: Sequence[str]) -> tuple[tuple[re.Pattern[str], Line], ...]:
    """The lines of a shipped table with the pattern of each; an empty pattern matches everything."""
    lines = []
    for line in read_lines(HERE / name, columns):
        try:
            lines.append((re.compile(line.text("pattern"), re.IGNORECASE), line))
        except re.error as error:
            problem = f"not a regular expression ({error})"
            raise FileError(line.path, problem, line=line.number, field="pattern") from error
    return tuple(lines)


def first_match(name: str, columns: Sequence[str], text: str) -> Line | None:
    """The first line whose pattern is found in the text."""
    return next((line for pattern, line in table(name, tuple(columns)) if pattern.search(text)), None)


class Unusable(ChipassayError):
    """A run that cannot be predicted, with the reason in words: listed, never guessed around."""
