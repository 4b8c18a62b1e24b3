"""What a check finds: a row's verdict, and what the findings together say of the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chipassay.results.profile import Level
from chipassay.results.schema import Row

Severity = Literal["ok", "note", "warning", "fault", "impossible"]
SEVERITIES: tuple[Severity, ...] = ("ok", "note", "warning", "fault", "impossible")
"""Mildest first. ``fault`` and worse make `chipassay check` end with 1."""


@dataclass(frozen=True)
class Expectation:
    """What a row should show, and how that is known. ``metric`` is the column that ``value`` is of."""

    metric: str
    value: float
    low: float
    """Below this the row is slow: the tolerance of ``source`` is in it."""
    high: float
    """Above this the row is better than it should be: another chip or condition than thought, or an error."""
    level: Level
    source: str


@dataclass(frozen=True)
class Finding:
    """One rule that a row, or the machine as a whole (``row`` None), broke."""

    rule: str
    severity: Severity
    words: str
    """What was seen, with numbers: one sentence."""
    cause: str = ""
    """The likely cause."""
    mend: str = ""
    """What to try."""
    row: Row | None = None
    expectation: Expectation | None = None


@dataclass(frozen=True)
class Verdict:
    """What a check of a table comes to. ``checked``: rows held against anything; ``expected``: those that an expectation exists for."""

    findings: tuple[Finding, ...]
    """Of rows, in their order."""
    machine: tuple[Finding, ...]
    """Of the machine, worst first."""
    rows: int
    checked: int
    expected: int

    @property
    def severity(self) -> Severity:
        """The worst of all findings."""
        found = [finding.severity for finding in (*self.findings, *self.machine)]
        return max(found, key=SEVERITIES.index, default="ok")
