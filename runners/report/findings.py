"""What a check says, made ready for the page: its sentence on the machine, and remarks by the row that they are about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

from chipassay.results.schema import KEY_NAMES, Row

from ..check.finding import SEVERITIES, Finding, Severity, Verdict
from .shape import shape
from .table import kernel_words

_SAME = attrgetter("run_id", "chip_id", "device_index", *KEY_NAMES)
"""What tells a table's rows apart (``results.table.latest``)."""
LISTED_AT_MOST = 50


class Remark(NamedTuple):
    """One finding about a row."""

    severity: Severity
    words: str


def remarks(rows: Sequence[Row], verdict: Verdict | None) -> dict[int, list[Remark]]:
    """The findings of each row by its place in ``rows``, worst first. Findings of rows that are not there are left to the list."""
    if verdict is None or not verdict.findings:
        return {}
    places = {_SAME(row): place for place, row in enumerate(rows)}
    found: dict[int, list[Remark]] = {}
    for finding in worst_first(verdict.findings):
        place = None if finding.row is None else places.get(_SAME(finding.row))
        if place is not None:
            found.setdefault(place, []).append(Remark(finding.severity, finding.words))
    return found


def worst_first(findings: Sequence[Finding]) -> list[Finding]:
    """The same findings, the gravest first, otherwise in their order."""
    return sorted(findings, key=lambda finding: -SEVERITIES.index(finding.severity))


def sentence(verdict: Verdict) -> str:
    """The check in one sentence.

    >>> sentence(Verdict((), (), 120, 100, 60))
    'No finding: 100 of 120 rows were held against something, 60 of them against an expected value.'
    """
    counts = Counter(finding.severity for finding in (*verdict.findings, *verdict.machine))
    told = ", ".join(
        f"{counts[severity]:,} {_plural(severity, counts[severity])}" for severity in reversed(SEVERITIES[1:]) if counts[severity]
    )
    expected = f"{verdict.expected:,}" if verdict.expected else "none"
    checked = f"{verdict.checked:,} of {verdict.rows:,} rows were held against something, {expected} of them against an expected value."
    return f"{(told or 'no finding').capitalize()}: {checked}"


def _plural(severity: str, count: int) -> str:
    return severity if count == 1 or severity == "impossible" else f"{severity}s"


class Told(NamedTuple):
    """A finding about a row, for the list: what case it is about, and the finding."""

    case: str
    finding: Finding


def told(verdict: Verdict) -> list[Told]:
    """The gravest findings about rows, at most LISTED_AT_MOST."""
    return [Told(_case(finding.row), finding) for finding in worst_first(verdict.findings)[:LISTED_AT_MOST]]


def _case(row: Row | None) -> str:
    if row is None:
        return "the table"
    where = None if row.device_index is None else f"on chip {row.device_index}"
    return " ".join(filter(None, ((row.op or "unknown").replace("_", " "), shape(row), row.variant, row.dtype, kernel_words(row), where)))
