"""Tables and prose for a terminal of 100 columns, and as Markdown."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH = 100
"""Characters of a line."""
NARROWEST = 16
"""Characters that a folded column keeps."""


@dataclass(frozen=True)
class Table:
    """A heading and lines of cells. ``numeric`` columns stand to the right."""

    title: str
    headings: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()


def text(table: Table) -> list[str]:
    """A table as aligned lines of at most WIDTH under its title. Columns that are empty throughout are left out; where it is too wide its
    widest columns of words are folded."""
    indent = "  " if table.title else ""
    kept = [i for i in range(len(table.headings)) if i == 0 or any(line[i] for line in table.lines)]
    widths = {i: max(len(line[i]) for line in (table.headings, *table.lines)) for i in kept}
    prose = [i for i in kept if i not in table.numeric]
    while (over := len(indent) + sum(widths.values()) + 2 * (len(kept) - 1) - WIDTH) > 0:
        widest = max(prose, key=lambda i: widths[i])
        if widths[widest] <= NARROWEST:
            break
        # Down to the next widest at first, so that none is folded to a word a line beside one that is left wide.
        next_widest = max((widths[i] for i in prose if i != widest), default=0)
        widths[widest] = max(NARROWEST, widths[widest] - over, min(next_widest, widths[widest] - 1))
    lines = [part for line in (table.headings, *table.lines) for part in _folded(line, widths, table.numeric)]
    return ["", table.title, *(f"{indent}{line}" for line in lines)] if table.title else lines


def _folded(line: Sequence[str], widths: Mapping[int, int], numeric: Sequence[int]) -> list[str]:
    """One line of a table as as many as its longest cell takes; what follows on is set in by 2."""
    cells = {i: textwrap.wrap(line[i], width, subsequent_indent="  ", break_on_hyphens=False) or [""] for i, width in widths.items()}
    found = []
    for number in range(max(map(len, cells.values()))):
        parts = {i: cell[number] if number < len(cell) else "" for i, cell in cells.items()}
        found.append("  ".join(parts[i].rjust(widths[i]) if i in numeric else parts[i].ljust(widths[i]) for i in widths).rstrip())
    return found


def wrapped(words: str, indent: int = 0) -> list[str]:
    """Prose as lines of WIDTH, the second and later ones set in by 2 more."""
    first = " " * indent
    return textwrap.wrap(
        words, WIDTH, initial_indent=first, subsequent_indent=first + "  " if indent else "", break_long_words=False, break_on_hyphens=False
    )


def markdown(table: Table) -> list[str]:
    """A table in GitHub's Markdown."""
    from .comparison.markdown import escaped

    rule = ["---:" if i in table.numeric else "---" for i in range(len(table.headings))]
    lines = [f"| {' | '.join(cells)} |" for cells in (table.headings, rule, *(tuple(map(escaped, line)) for line in table.lines))]
    return ["", f"**{escaped(table.title)}**", "", *lines] if table.title else lines
