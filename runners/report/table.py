"""The rows as plain tables, one an operation: what a reader without scripts gets in place of the big table, and its words for both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chipassay.results.operations import LIMITED_BY, limited_by, place, time_per_kernel_s
from chipassay.results.schema import Row
from chipassay.results.units import bandwidth, rate, seconds, share

from .plot import clipped
from .shape import shape

MAX_ROWS = 1500
"""Rows shown in all: a page with more plain HTML is slow to open on a phone."""
WIDE_SPREAD = 0.2
"""p95 - p05 above this share of the median is worth a mark."""
UNSURE = 0.05
"""A 95 % interval of the median wider than this share of it is worth a mark."""


@dataclass(frozen=True)
class Cell:
    """What is shown, and the full truth for the tooltip. ``share`` draws a bar."""

    text: str = ""
    title: str = ""
    share: float | None = None


@dataclass(frozen=True)
class Line:
    """One row of a table. ``marks`` are unusual things, ``reason`` is the row's own words."""

    cells: tuple[Cell, ...]
    status: str
    marks: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class OpTable:
    """All shown rows of one operation; ``left_out`` more are only in the CSV."""

    op: str
    headings: tuple[str, ...]
    lines: tuple[Line, ...]
    total: int

    @property
    def left_out(self) -> int:
        """Rows that are counted but not shown."""
        return self.total - len(self.lines)


def tables(rows: Sequence[Row], limit: int = MAX_ROWS) -> list[OpTable]:
    """One table an operation. Above ``limit`` each operation keeps a fair part: failures first, then evenly spaced rows."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(_heading(row), []).append(row)
    several_chips = len({row.chip_id for row in rows}) > 1
    quota = _quotas({op: len(group) for op, group in groups.items()}, limit)
    return [_table(op, _kept(group, quota[op]), len(group), several_chips) for op, group in sorted(groups.items(), key=_place)]


def _heading(row: Row) -> str:
    """The operation; a collective that shares its name with one of a single chip (gather) has a table of its own."""
    name = row.op or "unknown operation"
    return f"{name} between ranks" if name in LIMITED_BY and limited_by(row) == "collective" else name


def marks(row: Row) -> tuple[str, ...]:
    """Unusual things about a row that a reader should not have to find.

    >>> marks(Row(native=False, throttled=True))
    ('throttled', 'emulated dtype')
    >>> marks(Row(flags="faster than the clock allows;no clock"))
    ('faster than the clock allows', 'no clock')
    """
    found = []
    if row.throttled:
        found.append("throttled")
    if row.native is False:
        found.append("emulated dtype")
    if row.time_statistic:
        found.append(f"{clipped(row.time_statistic, 20)} time")
    if row.peak_fraction is not None and row.peak_fraction > 1.0:
        found.append("above peak")
    if row.time_median_s:
        if row.time_p95_s is not None and row.time_p05_s is not None and row.time_p95_s - row.time_p05_s > WIDE_SPREAD * row.time_median_s:
            found.append("wide spread")
        if row.time_high_s is not None and row.time_low_s is not None and row.time_high_s - row.time_low_s > UNSURE * row.time_median_s:
            found.append("unsure median")
    flags = [flag.strip() for flag in (row.flags or "").split(";")]
    return (*found, *(clipped(flag, 80) for flag in flags if flag and flag not in found))


def _place(item: tuple[str, object]) -> tuple[int, str]:
    return place(item[0])


@dataclass(frozen=True)
class Figure:
    """The column that says how fast: which it is depends on what limits the operation."""

    name: str
    text: Callable[[float], str]
    of: Callable[[Row], float | None]
    unit: str = "per s"
    measure: str = "B/s"
    """The unit as it is written."""


FIGURES = {
    "compute": Figure("rate", rate, lambda row: row.rate_flops_per_s, measure="FLOP/s"),
    "memory": Figure("bandwidth", bandwidth, lambda row: row.bandwidth_bytes_per_s),
    "link": Figure("bandwidth", bandwidth, lambda row: row.bandwidth_bytes_per_s),
    "collective": Figure("bus bandwidth", bandwidth, lambda row: row.busbw_bytes_per_s),
    "overhead": Figure("time per kernel", seconds, time_per_kernel_s, "s", "s"),
}


def _table(op: str, kept: Sequence[Row], total: int, several_chips: bool) -> OpTable:
    kinds = [limited_by(row) for row in kept]
    figure = FIGURES[max(kinds, key=kinds.count, default="memory")]
    roofed = any(row.roofline_fraction is not None for row in kept)
    headings = ["case", "dtype", "kernel", "median time", "p05 to p95", figure.name, "share of peak", "status and notes"]
    headings[7:7] = ["share of roofline"] if roofed else []
    headings[:0] = ["chip"] if several_chips else []
    lines = []
    for row in kept:
        cells = [
            Cell(shape(row), _details(row)),
            Cell(row.dtype or "", row.math_mode or ""),
            Cell(kernel_words(row), row.config or ""),
            _number(row.time_median_s, seconds, "s"),
            _spread(row),
            _number(figure.of(row), figure.text, figure.unit),
            _share(row),
        ]
        if roofed:
            cells.append(_roofline(row))
        if several_chips:
            cells.insert(0, Cell(row.chip_id or "unknown chip", row.device_name or ""))
        lines.append(Line(tuple(cells), row.status or "unknown", marks(row), clipped(row.reason or "", 400)))
    return OpTable(op, tuple(headings), tuple(lines), total)


def kernel_words(row: Row) -> str:
    """Kernel, backend where the kernel's name does not tell it, cache, and launch where it is not the usual one."""
    name = row.kernel or ""
    backend = row.backend if row.backend and row.backend not in name else None
    return " ".join(filter(None, (name, backend, row.cache, "graph" if row.launch == "graph" else None)))


def _number(value: float | None, formatted: Callable[[float], str], unit: str) -> Cell:
    return Cell() if value is None else Cell(formatted(value), f"{value!r} {unit}")


def _spread(row: Row) -> Cell:
    low, high = row.time_p05_s, row.time_p95_s
    if low is None or high is None:
        return Cell()
    (first, unit), last = seconds(low).split(" "), seconds(high)
    return Cell(
        f"{first}{'' if last.endswith(f' {unit}') else f' {unit}'} to {last}",
        f"{low!r} s to {high!r} s, {row.sample_count or 'unknown'} samples",
    )


def _share(row: Row) -> Cell:
    if row.peak_fraction is None:
        return Cell()
    evidence = "" if row.peak_evidence in (None, "published") else f" ({row.peak_evidence})"
    title = f"{row.peak_fraction!r} of the dense peak, which is {row.peak_evidence or 'of unknown evidence'}"
    return Cell(share(row.peak_fraction) + evidence, title, min(max(row.peak_fraction, 0.0), 1.0))


def _roofline(row: Row) -> Cell:
    if row.roofline_fraction is None:
        return Cell()
    title = f"{row.roofline_fraction!r} of what peak rate and peak bandwidth together allow"
    return Cell(share(row.roofline_fraction), title)


def _details(row: Row) -> str:
    parts = [f"{row.flops!r} FLOPs" if row.flops is not None else "", f"{row.bytes!r} bytes" if row.bytes is not None else ""]
    parts += [f"error {row.error!r} of {row.error_limit!r} allowed" if row.error is not None else "", row.measured_at_utc or ""]
    return ", ".join(filter(None, parts))


def _quotas(counts: dict[str, int], limit: int) -> dict[str, int]:
    """The limit shared fairly: small operations keep everything, what they leave goes to the large ones."""
    quota: dict[str, int] = {}
    left = limit
    for position, (op, count) in enumerate(sorted(counts.items(), key=lambda item: (item[1], item[0]))):
        quota[op] = min(count, left // (len(counts) - position))
        left -= quota[op]
    return quota


def _kept(rows: Sequence[Row], quota: int) -> list[Row]:
    if len(rows) <= quota:
        return list(rows)
    failed = [i for i, row in enumerate(rows) if row.status != "ok"][: max(quota // 2, 1)]
    others = [i for i, row in enumerate(rows) if row.status == "ok"]
    room = max(quota - len(failed), 0)
    chosen = failed + [others[i * len(others) // room] for i in range(min(room, len(others)))] if room else failed
    return [rows[i] for i in sorted(set(chosen))]
