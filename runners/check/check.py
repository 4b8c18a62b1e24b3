"""A check: every rule over a table, what it found of each row and of the machine."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Template

from chipassay.results import units
from chipassay.results.schema import Row

from .finding import SEVERITIES, Finding, Verdict
from .quantity import Quantity, Seen, common
from .rules import Rule, shipped_rules
from .table import Table

FEWEST_ROWS = 3
"""Fewer rows than this are no pattern that ``all_of`` could be about."""
NO_COMPARISON = ("has_figure", "incorrect", "broken", "no_room")
"""Quantities that hold a row against nothing."""


@dataclass(frozen=True)
class Examined:
    """A verdict, and the table with the expectation of each row."""

    verdict: Verdict
    table: Table


@dataclass
class _Tally:
    """What one rule came to: the rows (or chips) that it could judge, that broke it, and where it spoke."""

    judged: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    broke: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    chips: set[str] = field(default_factory=set)
    """Chips of which a rule of the machine spoke."""
    rows: set[int] = field(default_factory=set)
    """Rows of which a rule of rows spoke."""


def check_rows(rows: Sequence[Row], rules: Sequence[Rule] | None = None) -> Verdict:
    """What the rules (None: the shipped ones) find in ``rows``, which may be of several chips and hosts.

    >>> row = Row(op="matmul", dtype="bf16", chip_id="a100-sxm-80gb", status="ok", m=4096, n=4096, k=4096, rate_flops_per_s=6e14)
    >>> check_rows([row]).severity
    'impossible'
    """
    return examine(rows, rules).verdict


def examine(rows: Sequence[Row], rules: Sequence[Rule] | None = None) -> Examined:
    """As ``check_rows``, with what was expected of each row."""
    table = Table(rows)
    tallies: dict[str, _Tally] = {}
    found: list[tuple[int, Finding]] = []
    machine: list[Finding] = []
    compared: set[int] = set()
    for rule in shipped_rules() if rules is None else rules:
        tally = tallies[rule.id] = _Tally()
        if rule.severity == "ok":
            continue
        if rule.quantity is None:
            machine += _combined(rule, table, tallies)
        elif rule.quantity.scope == "machine":
            machine += _of_machine(rule, rule.quantity, table, tallies)
        else:
            of_rows = _of_rows(rule, rule.quantity, table, tallies)
            found += of_rows
            if rule.quantity.name not in NO_COMPARISON:
                compared |= {index for indices in tally.judged.values() for index in indices}
    impossible = {index for index, finding in found if finding.severity == "impossible"}
    # What cannot be needs no remark on its noise.
    kept = [(index, finding) for index, finding in found if finding.severity != "note" or index not in impossible]
    verdict = Verdict(
        findings=tuple(finding for _, finding in sorted(kept, key=lambda pair: pair[0])),
        machine=tuple(sorted(machine, key=lambda finding: -SEVERITIES.index(finding.severity))),
        rows=len(table.rows),
        checked=len(compared),
        expected=sum(one is not None for one in table.expectations),
    )
    return Examined(verdict, table)


def _values(quantity: Quantity, table: Table) -> list[Seen]:
    return table.once(f"quantity {quantity.name}", lambda: list(quantity.find(table)))


def _of_rows(rule: Rule, quantity: Quantity, table: Table, tallies: Mapping[str, _Tally]) -> list[tuple[int, Finding]]:
    tally, found = tallies[rule.id], []
    # Several rules ask for the same quantity.
    seen = table.once(f"rows of {quantity.name}", lambda: {one.index: one for one in _values(quantity, table) if one.index is not None})
    for index in range(len(table.rows)) if rule.missing else seen:
        if not _lets_through(rule, table, index):
            continue
        chip, one = table.names[index], seen.get(index)
        tally.judged[chip].add(index)
        if (one is not None) if rule.missing else (one is None or not rule.holds(one.value)):
            continue
        tally.broke[chip].add(index)
        if any(index in tallies[other].rows or chip in tallies[other].chips for other in rule.unless):
            continue
        tally.rows.add(index)
        fields = {**_row_fields(table, index), **(common(one) if one else {"chip": chip}), **(one.fields() if one else {})}
        found.append((index, _finding(rule, fields, table, index)))
    return found


def _of_machine(rule: Rule, quantity: Quantity, table: Table, tallies: Mapping[str, _Tally]) -> list[Finding]:
    seen, tally, found = _values(quantity, table), tallies[rule.id], []
    if rule.missing:
        known = {one.chip for one in seen}
        broken = [Seen(0.0, None, chip) for chip in table.by_chip if chip not in known]
    else:
        broken = [one for one in seen if rule.holds(one.value)]
    for one in broken:
        if not any(one.chip in tallies[other].chips for other in rule.unless):
            tally.chips.add(one.chip)
            found.append(_finding(rule, {**common(one), **one.fields()}))
    return found


def _combined(rule: Rule, table: Table, tallies: Mapping[str, _Tally]) -> list[Finding]:
    """``all_of``: chips for which each of the named rules holds, for ``share`` of the rows that it could judge."""
    found = []
    for chip, indices in table.by_chip.items():
        shares = []
        for other in rule.all_of:
            tally = tallies[other]
            judged = len(tally.judged[chip])
            shares.append(1.0 if chip in tally.chips else len(tally.broke[chip]) / judged if judged >= FEWEST_ROWS else 0.0)
        if min(shares) < rule.share or any(chip in tallies[other].chips for other in rule.unless):
            continue
        tallies[rule.id].chips.add(chip)
        fields = {**common(Seen(min(shares), None, chip)), "share": units.share(min(shares)), "rows": str(len(indices))}
        found.append(_finding(rule, fields))
    return found


def _lets_through(rule: Rule, table: Table, index: int) -> bool:
    if rule.only is None:
        return True
    row = table.rows[index]
    of = {"ops": row.op, "kinds": table.kinds[index], "device_kinds": row.device_kind, "dtypes": row.dtype, "backends": row.backend}
    return all((of[key] or "") in allowed for key, allowed in rule.only.items())


def _row_fields(table: Table, index: int) -> dict[str, str]:
    row, own = table.rows[index], table.figures[index]
    what = own.words if own else units.seconds(row.time_median_s) if row.time_median_s else "no figure"
    return {"op": (row.op or "unknown").replace("_", " "), "dtype": row.dtype or "unknown dtype", "what": what}


def _finding(rule: Rule, fields: Mapping[str, str], table: Table | None = None, index: int | None = None) -> Finding:
    words, cause, mend = (Template(text).safe_substitute(fields) for text in (rule.words, rule.cause, rule.mend))
    if table is None or index is None:
        return Finding(rule.id, rule.severity, words, cause, mend)
    return Finding(rule.id, rule.severity, words, cause, mend, table.rows[index], table.expectations[index])
