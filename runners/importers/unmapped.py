"""What an import could not place, told briefly: alike things are one sentence, with their number and where the first one stands."""

from __future__ import annotations


class Unmapped:
    """Gathers what found no place in a row.

    >>> unmapped = Unmapped()
    >>> unmapped.add("convolutions: no such operation here", "Results, row 111", 94)
    >>> unmapped.add("products without a time", "Results, row 9")
    >>> unmapped.add("products without a time", "Results, row 12")
    >>> unmapped.sentences()
    ('94 convolutions: no such operation here (first: Results, row 111)', '2 products without a time (first: Results, row 9)')
    """

    def __init__(self) -> None:
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, what: str, where: str, count: int = 1) -> None:
        """``what``: a plural and the reason, to be read after its number. ``where``: file, sheet, line or record of the first."""
        before, first = self._found.get(what, (0, where))
        self._found[what] = (before + count, first)

    def sentences(self) -> tuple[str, ...]:
        """One for each kind of thing, in the order in which they were found."""
        return tuple(f"{count} {what} (first: {first})" for what, (count, first) in self._found.items())
