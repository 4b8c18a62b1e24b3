"""The head and the foot of the page: what was measured, on what, with which versions and method."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from chipassay.results.schema import COLUMNS, STATUSES, Row

from .plot import clipped

MAX_VALUES = 6
"""Different values of one column told per chip; more are counted."""

_TOLD = (
    ("device_name", "device"),
    ("device_kind", "kind"),
    ("chip_count", "chips (ranks)"),
    ("node_count", "nodes"),
    ("fabric", "fabric"),
    ("host_hash", "host (hash)"),
    ("driver", "driver"),
    ("threads", "CPU threads per rank"),
    ("libraries", "libraries"),
    ("backend", "backends"),
    ("clock_source", "clock"),
    ("cache", "cache"),
    ("launch", "launch"),
    ("data", "input values"),
    ("tool", "measured by"),
    ("tool_version", "version of that tool"),
    ("source_hash", "imported from (hash)"),
    ("time_statistic", "times are"),
    ("method_version", "method version"),
    ("schema_version", "schema version"),
    ("run_id", "runs"),
)
"""(column, name on the page) of the environment table."""


@dataclass(frozen=True)
class Chip:
    """One chip of the rows, for the header."""

    chip_id: str
    device_names: str
    count: str
    dates: str
    statuses: str


@dataclass(frozen=True)
class Fact:
    """One line of the environment table: a column and its values per chip."""

    name: str
    doc: str
    values: tuple[str, ...]


def headers(rows: Sequence[Row]) -> list[Chip]:
    """The chips in order of appearance."""
    return [
        Chip(
            chip_id=chip,
            device_names=_joined(own, lambda row: row.device_name) or "device name unknown",
            count=_count(own),
            dates=_dates(own),
            statuses=statuses(own),
        )
        for chip, own in _by_chip(rows).items()
    ]


def environment(rows: Sequence[Row]) -> list[Fact]:
    """What the rows say about where and how they were measured, one column of values per chip."""
    docs = {column.name: str(column.metadata["doc"]).replace("`", "") for column in COLUMNS}
    groups = _by_chip(rows)
    facts = [Fact(name, docs[column], tuple(_values(own, column) for own in groups.values())) for column, name in _TOLD]
    return [fact for fact in facts if any(fact.values)]


def statuses(rows: Sequence[Row]) -> str:
    """Rows counted by status, in the order of the schema.

    >>> statuses([Row(status="ok"), Row(status="skipped"), Row(status="ok")])
    '2 ok, 1 skipped'
    """
    counts = Counter(row.status or "unknown" for row in rows)
    known = [status for status in STATUSES if status in counts] + sorted(set(counts) - set(STATUSES))
    return ", ".join(f"{counts[status]:,} {status.replace('_', ' ')}" for status in known)


def chipassay_version() -> str:
    """The version that made the page, or that it runs from a source tree without one."""
    try:
        return version("chipassay")
    except PackageNotFoundError:
        return "of a source tree"


def _by_chip(rows: Sequence[Row]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.chip_id or "unknown chip", []).append(row)
    return groups


def _values(rows: Sequence[Row], column: str) -> str:
    if column == "libraries":
        return _libraries(rows)
    return _joined(rows, lambda row: getattr(row, column))


def _joined(rows: Sequence[Row], value: Callable[[Row], object]) -> str:
    seen = list(dict.fromkeys(clipped(str(v), 160) for v in map(value, rows) if v is not None))
    return _some(seen)


def _libraries(rows: Sequence[Row]) -> str:
    """``name=version`` lists merged, so that one library with two versions shows both."""
    versions: dict[str, dict[str, None]] = {}
    for text in dict.fromkeys(row.libraries for row in rows if row.libraries):
        for part in text.split(";"):
            name, _, number = part.strip().partition("=")
            if name:
                versions.setdefault(clipped(name, 60), {})[clipped(number, 60)] = None
    return ", ".join(f"{name} {' and '.join(numbers)}".strip() for name, numbers in sorted(versions.items()))


def _some(values: Sequence[str]) -> str:
    more = len(values) - MAX_VALUES
    return ", ".join(values[:MAX_VALUES]) + (f", and {more} more" if more > 0 else "")


def _count(rows: Sequence[Row]) -> str:
    # Collectives that were skipped for want of chips tell how many they would have needed.
    rows = [row for row in rows if row.status == "ok"] or rows
    counts = sorted({row.chip_count for row in rows if row.chip_count is not None})
    nodes = max((row.node_count for row in rows if row.node_count is not None), default=1)
    if not counts:
        return "count unknown"
    chips = "1 chip" if counts == [1] else f"up to {counts[-1]} chips (ranks)"
    return chips + (f" on {nodes} nodes" if nodes > 1 else "")


def _dates(rows: Sequence[Row]) -> str:
    days = sorted({row.measured_at_utc[:10] for row in rows if row.measured_at_utc})
    if not days:
        return "date unknown"
    return f"measured {days[0]}" + (f" to {days[-1]}" if days[-1] != days[0] else "")
