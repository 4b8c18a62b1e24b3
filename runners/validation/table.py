"""Short tables on a terminal: as wide as it is, or as long as the lines are where the output is piped."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from chipassay.results.errors import ChipassayError
from chipassay.results.safe_text import printable

UNBOUNDED = 100_000
"""Width of a pipe: what reads it, folds it."""


@dataclass(frozen=True)
class Section:
    """One table. ``numeric``: columns that stand to the right. Every cell is untrusted text."""

    title: str
    headings: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    numeric: tuple[int, ...] = ()


def layout(sections: Sequence[Section], closing: str, width: int | None = None, colour: bool = False) -> str:
    """The text to print. Nothing from the data is taken for markup or control.

    Raises ChipassayError where the library that lays it out is missing.
    """
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError as error:
        raise ChipassayError("rich is not installed; pip install rich, or take --json or --out") from error
    written = io.StringIO()
    console = Console(
        file=written,
        width=width or UNBOUNDED,
        force_terminal=colour,
        color_system="standard" if colour else None,
        markup=False,
        highlight=False,
        emoji=False,
        legacy_windows=False,
    )
    for section in sections:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
        for index, heading in enumerate(section.headings):
            right = index in section.numeric
            table.add_column(Text(heading), justify="right" if right else "left", no_wrap=right, overflow="fold")
        for line in section.lines:
            table.add_row(*(Text(printable(cell)) for cell in line))
        console.print(Text(printable(section.title), style="bold"))
        console.print(table)
        console.print()
    console.print(Text(printable(closing), style="bold"))
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"
