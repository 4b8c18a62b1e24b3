"""A comparison on a terminal: as wide as it is, coloured where it can be; plain lines where the output is piped."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from chipassay.results.errors import ChipassayError
from chipassay.results.safe_text import printable

from .view import Section, View

if TYPE_CHECKING:
    from rich.console import Console

UNBOUNDED = 100_000
"""Width of a pipe: what reads it, folds it."""
COLOURS = {"SLOWER": "red", "FASTER": "green", "UNCLEAR": "yellow", "SAME": "default", "NOT-COMPARABLE": "magenta"}


def terminal(views: Sequence[View], width: int | None = None, colour: bool = False) -> str:
    """The text to print. ``width`` in characters; None: as long as the lines are. Nothing from the data is taken for markup or control.

    Raises ChipassayError where the library that lays it out is missing.
    """
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError as error:
        raise ChipassayError("rich is not installed; pip install rich, or take --format markdown, csv or json") from error
    console = Console(
        file=io.StringIO(),
        width=width or UNBOUNDED,
        force_terminal=colour,
        color_system="standard" if colour else None,
        markup=False,
        highlight=False,
        emoji=False,
        legacy_windows=False,
    )
    for position, view in enumerate(views):
        if position:
            console.print()
        label = max(len(name) for name, _ in view.head)
        for name, words in view.head:
            console.print(Text(f"{name:<{label}}  {printable(words)}"))
        for section in (view.summary, *view.rows, *view.others):
            if section.lines:
                _table(console, section)
        for note in view.notes:
            console.print()
            console.print(Text(f"note: {printable(note)}"))
        console.print()
        console.print(Text(printable(view.closing), style="bold"))
        if view.gate:
            console.print(Text(printable(view.gate), style="bold red" if view.failed else "bold green"))
    text = console.file.getvalue()  # type: ignore[attr-defined]  # the StringIO above
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _table(console: Console, section: Section) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", show_edge=False)
    for index, heading in enumerate(section.headings):
        right = index in section.numeric
        table.add_column(
            Text(heading, style=COLOURS.get(heading, "")), justify="right" if right else "left", no_wrap=right, overflow="fold"
        )
    for line in section.lines:
        table.add_row(*(Text(printable(cell)) for cell in line))
    console.print()
    console.print(Text(printable(section.title), style="bold"))
    console.print(table)
    if section.more:
        console.print(Text(f"({printable(section.more)})", style="dim"))
