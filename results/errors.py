"""The mistakes chipassay can name: each error says what was wrong, where, and the mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from os import PathLike

NEAREST_AT_MOST = 6
"""Names that an error offers: as many as there are forms of one chip."""


class ChipassayError(Exception):
    """Base of every error that chipassay raises on purpose. ``exit_code`` is what the command line ends with."""

    exit_code = 2


class InputError(ChipassayError):
    """A file or argument that cannot be used as it is."""


class FileError(InputError):
    """Something wrong inside a file: names the file, the line and the field, then the mend.

    >>> print(FileError("rows.csv", "not a number: 'fast'", line=3, field="time_median_s", mend="write seconds"))
    rows.csv, line 3, column time_median_s: not a number: 'fast'; write seconds
    """

    def __init__(
        self,
        path: str | PathLike[str],
        problem: str,
        *,
        line: int | None = None,
        field: str | None = None,
        mend: str | None = None,
    ) -> None:
        where = str(path)
        if line is not None:
            where += f", line {line}"
        if field is not None:
            where += f", column {field}"
        super().__init__(f"{where}: {problem}" + (f"; {mend}" if mend else ""))
        self.path, self.line, self.field = path, line, field


class UnknownName(InputError):
    """A name that is in no catalogue; offers those that begin with it, then the nearest ones.

    >>> print(UnknownName("chip", "h100sxm", ["h100-sxm-80gb", "t4-pcie-16gb"]))
    unknown chip 'h100sxm'; did you mean h100-sxm-80gb?
    >>> print(UnknownName("chip", "A100", ["a100-pcie-40gb", "a100-pcie-80gb", "a100-sxm-80gb", "br100"]))
    unknown chip 'A100'; did you mean a100-pcie-40gb, a100-pcie-80gb, a100-sxm-80gb, br100?
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, listed_by: str = "") -> None:
        """``listed_by``: the command that lists what is known, told where nothing is near."""
        names = sorted(known)
        written = name.lower()
        near = [other for other in names if written and other.lower().startswith(written)][:NEAREST_AT_MOST]
        near += [other for other in difflib.get_close_matches(written, names, n=3, cutoff=0.5) if other not in near]
        near += [other for other in names if written in other and other not in near][: max(0, 3 - len(near))]
        near = near[:NEAREST_AT_MOST]
        if near:
            mend = f"did you mean {', '.join(near)}?"
        elif len(names) <= 20:
            mend = f"known: {', '.join(names)}"
        elif listed_by:
            mend = f"`{listed_by}` lists the {len(names)} that are known"
        else:
            mend = f"{len(names)} are known, among them {', '.join(names[:5])}"
        super().__init__(f"unknown {kind} {name!r}; {mend}")
        self.nearest = near


class NothingMeasured(ChipassayError):
    """Nothing could be measured, or the chip went away before the end."""

    exit_code = 3
