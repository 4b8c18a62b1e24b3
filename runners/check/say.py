"""A check in words: the machine first, then what was found of rows, worst first, alike findings together."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from chipassay.results.evidence import LEVELS
from chipassay.results.safe_text import printable
from chipassay.results.schema import KEY_NAMES, Row

from .check import Examined
from .finding import SEVERITIES, Expectation, Finding, Severity

ROWS_SHOWN = 3
"""Rows told of each rule, the worst of them; --all tells all."""
CASE_CHARACTERS = 160
WORDS_CHARACTERS = 500


@dataclass(frozen=True)
class Group:
    """Findings of one rule about rows."""

    rule: str
    severity: Severity
    findings: tuple[Finding, ...]
    """Worst first."""


def groups(findings: Iterable[Finding]) -> list[Group]:
    """The findings by rule: the gravest rules first, then those with the most rows."""
    found: dict[tuple[str, Severity], list[Finding]] = defaultdict(list)
    for finding in findings:
        found[finding.rule, finding.severity].append(finding)
    told = [Group(rule, severity, tuple(sorted(own, key=_distance))) for (rule, severity), own in found.items()]
    return sorted(told, key=lambda group: (-SEVERITIES.index(group.severity), -len(group.findings), group.rule))


def _distance(finding: Finding) -> float:
    """The figure as a share of what is expected; findings without an expectation stay in their order, after the others."""
    expected = finding.expectation
    value = getattr(finding.row, expected.metric, None) if expected is not None else None
    return value / expected.value if expected is not None and value else math.inf


def case_words(row: Row | None) -> str:
    """The case that a row is of.

    >>> case_words(Row(op="all_reduce", size_bytes=2**30, group_size=8, dtype="bf16", kernel="nccl", device_index=5))
    'all reduce 1 GiB, 8 ranks bf16 nccl on chip 5'
    """
    from ..report.shape import shape

    if row is None:
        return "the table"
    where = None if row.device_index is None else f"on chip {row.device_index}"
    op = (row.op or "unknown").replace("_", " ")
    return " ".join(filter(None, (op, shape(row), row.variant, row.dtype, row.kernel or row.backend, row.cache, where)))


def evidence(examined: Examined) -> dict[str, int]:
    """Level of evidence -> rows whose expectation rests on it, strongest first."""
    found = Counter(one.level for one in examined.table.expectations if one is not None)
    return {level: found[level] for level in LEVELS if found[level]}


def closing(examined: Examined) -> str:
    """What was held against what, in one sentence."""
    verdict, levels = examined.verdict, evidence(examined)
    told = f" ({', '.join(f'{count:,} {level}' for level, count in levels.items())})" if levels else ""
    return (
        f"{verdict.rows:,} rows: {verdict.checked:,} held against a limit, an expectation or each other, "
        f"{verdict.expected:,} of them against an expected value{told}"
    )


def counts_words(findings: Iterable[Finding]) -> str:
    """How many of each severity.

    >>> counts_words([])
    'nothing found'
    """
    found = Counter(finding.severity for finding in findings)
    told = [f"{found[severity]:,} {_plural(severity, found[severity])}" for severity in reversed(SEVERITIES) if found[severity]]
    return ", ".join(told) or "nothing found"


def _plural(severity: str, count: int) -> str:
    return severity if count == 1 or severity == "impossible" else f"{severity}s"


def heading(examined: Examined) -> str:
    """The verdict in one line: the chips, and the gravest that was found."""
    chips = list(examined.table.by_chip)
    names = ", ".join(chips[:4]) + (f" and {len(chips) - 4} more" if len(chips) > 4 else "")
    return f"{names}: {examined.verdict.severity}"


def text(examined: Examined, everything: bool = False) -> str:
    """For a terminal. Nothing from the rows steers it."""
    verdict = examined.verdict
    lines = [heading(examined)]
    for finding in verdict.machine:
        lines += ["", *_told(finding, f"{finding.severity:<10}")]
    lines += ["", closing(examined), f"of the machine: {counts_words(verdict.machine)}; of rows: {counts_words(verdict.findings)}"]
    for group in groups(verdict.findings):
        shown = group.findings if everything else group.findings[:ROWS_SHOWN]
        first = group.findings[0]
        lines += ["", f"{group.severity:<10} {group.rule}, {len(group.findings):,} row{'s' * (len(group.findings) != 1)}"]
        lines += _advice(first)
        for finding in shown:
            lines += [f"  {printable(case_words(finding.row), CASE_CHARACTERS)}", f"    {printable(finding.words, WORDS_CHARACTERS)}"]
        lines += _left(group, shown)
    return "\n".join(lines) + "\n"


def _told(finding: Finding, label: str) -> list[str]:
    return [f"{label} {printable(finding.words, WORDS_CHARACTERS)}", *_advice(finding)]


def _advice(finding: Finding, say: Callable[[str], str] = printable) -> list[str]:
    told = (("likely", finding.cause), ("try", finding.mend))
    return [f"  {label + ':':<8} {say(words)}" for label, words in told if words]


def _left(group: Group, shown: Sequence[Finding]) -> list[str]:
    left = len(group.findings) - len(shown)
    return [f"  and {left:,} more (--all)"] if left else []


def markdown(examined: Examined, everything: bool = False) -> str:
    """For a pull request or an issue."""
    from ..comparison.markdown import escaped

    verdict = examined.verdict
    lines = [f"## {escaped(heading(examined))}", "", escaped(closing(examined)) + ".", ""]
    for finding in verdict.machine:
        lines += [f"- **{finding.severity}**: {escaped(finding.words, WORDS_CHARACTERS)}"]
        lines += [f"  - {label}: {escaped(words)}" for label, words in (("likely", finding.cause), ("try", finding.mend)) if words]
    for group in groups(verdict.findings):
        shown = group.findings if everything else group.findings[:ROWS_SHOWN]
        first = group.findings[0]
        lines += ["", f"### {group.severity}: {escaped(group.rule)}, {len(group.findings):,} row{'s' * (len(group.findings) != 1)}", ""]
        lines += [f"{label}: {escaped(words)}  " for label, words in (("Likely", first.cause), ("Try", first.mend)) if words]
        lines += ["", "| case | finding |", "| --- | --- |"]
        lines += [f"| {escaped(case_words(one.row), CASE_CHARACTERS)} | {escaped(one.words, WORDS_CHARACTERS)} |" for one in shown]
        lines += ["", *(line.strip() for line in _left(group, shown))]
    return "\n".join(lines).rstrip() + "\n"


def as_dict(examined: Examined) -> dict[str, Any]:
    """For programs: everything, rows named by their key columns."""
    verdict = examined.verdict
    return {
        "severity": verdict.severity,
        "rows": verdict.rows,
        "checked": verdict.checked,
        "expected": verdict.expected,
        "evidence": evidence(examined),
        "machine": [_finding(finding) for finding in verdict.machine],
        "findings": [_finding(finding) for group in groups(verdict.findings) for finding in group.findings],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    told: dict[str, Any] = {name: getattr(finding, name) for name in ("rule", "severity", "words", "cause", "mend")}
    if finding.row is not None:
        names = ("chip_id", "host_hash", "device_index", "run_id", *KEY_NAMES)
        told["row"] = {name: value for name in names if (value := getattr(finding.row, name)) is not None}
    if finding.expectation is not None:
        told["expectation"] = _expectation(finding.expectation)
    return told


def _expectation(one: Expectation) -> dict[str, Any]:
    high = one.high if math.isfinite(one.high) else None
    return {"metric": one.metric, "value": one.value, "low": one.low, "high": high, "level": one.level, "source": one.source}
