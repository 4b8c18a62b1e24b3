"""What an import could not place, told briefly: alike things are one sentence, with their number and where the first one stands."""

from __future__ import annotations

KEPT = 200
"""Different sentences at most; more would hide the ones that matter."""


class Unmapped:
    """Gathers what found no place in a row.

    >>> unmapped = Unmapped()
    >>> unmapped.add("Convolution: no such operation here", "Results, row 111", 94)
    >>> unmapped.add("size 0: nothing was carried", "line 12")
    >>> unmapped.sentences()
    ('Convolution: no such operation here (94 times, first in Results, row 111)', 'size 0: nothing was carried (line 12)')
    """

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}
        self._more = 0

    def add(self, what: str, where: str, count: int = 1) -> None:
        """``what`` without its place, so that alike ones are counted; ``where``: file, sheet, line or record of the first."""
        if what not in self._found and len(self._found) >= KEPT:
            self._more += count
            return
        seen, first = self._found.get(what, (0, where))
        self._found[what] = (seen + count, first)

    def sentences(self) -> tuple[str, ...]:
        """One for each kind of thing, in the order in which they were found."""
        told = (
            f"{what} ({first})" if count == 1 else f"{what} ({count} times, first in {first})"
            for what, (count, first) in self._found.items()
        )
        return (*told, *([f"and {self._more} more of other kinds"] if self._more else []))
