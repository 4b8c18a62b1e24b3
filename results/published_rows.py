"""Published measurements by chip, and the curves fitted to them: the raw material of a profile nobody measured here.

A ``typical`` row says what many shapes give, a ``best`` row what the luckiest shape gives; the two are never mixed in a fit.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from .catalogue import GIGA, TERA, load_chips
from .datafile import DATA, read_lines
from .errors import FileError
from .link import bus_factor
from .profile import Curve, Evidence, Link

PUBLISHED_CSV = DATA / "published.csv"
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter")
OPS = ("matmul", "attention", "copy", *COLLECTIVES)
ROLES = ("typical", "best")

KERNEL_LATENCY_S = 5e-6
"""Overhead of one kernel where no size sweep was published: a typical gap between two short kernels of one stream (assumed)."""
COLLECTIVE_LATENCY_S = 20e-6
"""Small all-reduce in a node: 15.6 us (H100) to 25.1 us (B200) in the aiconfigurator-core tables; used where no sweep is published."""


@dataclass(frozen=True)
class PublishedRow:
    """One published figure. ``work`` is FLOPs, bytes moved, or the size of a collective; None where the source gives no size."""

    chip_id: str
    op: str
    dtype: str
    case: str
    role: str
    work: float | None
    group_size: int | None
    rate_per_s: float
    """FLOP/s, bytes/s, or the bus bandwidth of a collective in bytes/s."""
    source: str


@lru_cache(maxsize=1)
def load_published(path: Path = PUBLISHED_CSV) -> tuple[PublishedRow, ...]:
    """All published figures."""
    columns = ("chip_id", "op", "dtype", "case", "role", "work", "group_size", "tflop_per_s", "gb_per_s", "source")
    rows = []
    for line in read_lines(path, columns):
        op = line.one_of("op", OPS)
        if line.required("chip_id") not in load_chips():
            raise FileError(path, f"{line.text('chip_id')!r} is no chip of the catalogue", line=line.number, field="chip_id")
        column, scale = ("tflop_per_s", TERA) if op in ("matmul", "attention") else ("gb_per_s", GIGA)
        rate_per_s = line.number_or_none(column, scale)
        if not rate_per_s:
            raise FileError(path, f"empty, but {op} needs it", line=line.number, field=column)
        group_size = line.whole_or_none("group_size")
        if op in COLLECTIVES and (group_size is None or group_size < 2):
            raise FileError(path, "a collective needs a group of at least 2", line=line.number, field="group_size")
        rows.append(
            PublishedRow(
                chip_id=line.text("chip_id"),
                op=op,
                dtype=line.text("dtype"),
                case=line.text("case"),
                role=line.one_of("role", ROLES),
                work=line.number_or_none("work"),
                group_size=group_size,
                rate_per_s=rate_per_s,
                source=line.required("source"),
            )
        )
    return tuple(rows)


def fit_line(works: Sequence[float], times_s: Sequence[float]) -> tuple[float, float, float]:
    """(overhead_s, rate, log spread) of ``time = overhead + work / rate`` with the least squared relative error, overhead >= 0.

    The relative error makes small and large cases count alike; both unknowns enter linearly, so the answer is exact.

    >>> overhead_s, rate, spread = fit_line([1e9, 1e10, 1e11], [1.1e-3, 1.01e-2, 1.001e-1])
    >>> round(overhead_s * 1e6), round(rate / 1e9), round(spread, 6)
    (100, 1000, 0.0)
    """
    a = [1.0 / time for time in times_s]
    b = [work / time for work, time in zip(works, times_s, strict=True)]
    aa, ab, bb = sum(x * x for x in a), sum(x * y for x, y in zip(a, b, strict=True)), sum(y * y for y in b)
    determinant = aa * bb - ab * ab
    overhead_s = (sum(a) * bb - sum(b) * ab) / determinant if determinant > 1e-9 * aa * bb else 0.0
    if overhead_s < 0:
        overhead_s = 0.0
    seconds_per_work = (sum(b) - overhead_s * ab) / bb
    if seconds_per_work <= 0:
        overhead_s, seconds_per_work = 0.0, sum(b) / bb
    residuals = [math.log((overhead_s + work * seconds_per_work) / time) for work, time in zip(works, times_s, strict=True)]
    spread = math.sqrt(sum(r * r for r in residuals) / len(residuals))
    return overhead_s, 1.0 / seconds_per_work, spread


def _sources(rows: Sequence[PublishedRow]) -> str:
    return "; ".join(dict.fromkeys(row.source for row in rows))


@lru_cache(maxsize=256)
def published_curve(chip_id: str, op: str, dtype: str = "") -> Curve | None:
    """The curve of one operation fitted to its typical rows, or None where there are none."""
    rows = [row for row in load_published() if (row.chip_id, row.op, row.dtype, row.role) == (chip_id, op, dtype, "typical")]
    if not rows:
        return None
    sized = [(row.work, row.work / row.rate_per_s) for row in rows if row.work]
    if len(sized) >= 3:
        overhead_s, rate, spread = fit_line([work for work, _ in sized], [time for _, time in sized])
        works = [work for work, _ in sized]
        overhead_s = overhead_s or KERNEL_LATENCY_S  # none found: every published case was too large to show it
        return Curve(overhead_s, rate, Evidence("published", _sources(rows)), len(sized), spread, min(works), max(works))
    overhead_s = KERNEL_LATENCY_S
    if op == "attention" and (matmul := published_curve(chip_id, "matmul", dtype)) is not None:
        overhead_s = matmul.overhead_s
    return Curve(overhead_s, statistics.median(row.rate_per_s for row in rows), Evidence("published", _sources(rows)), len(rows))


@lru_cache(maxsize=1)
def typical_over_best() -> float:
    """What many shapes give over what the best shape gives: the median over the chips and dtypes published both ways."""
    ratios = []
    for chip_id, dtype in sorted({(row.chip_id, row.dtype) for row in load_published() if row.op == "matmul"}):
        curve, best = published_curve(chip_id, "matmul", dtype), best_rate_per_s(chip_id, "matmul", dtype)
        if curve is not None and best is not None:
            ratios.append(curve.rate / best[0])
    return min(1.0, statistics.median(ratios))


def best_rate_per_s(chip_id: str, op: str, dtype: str) -> tuple[float, str] | None:
    """The highest published rate of one operation and its source."""
    rows = [row for row in load_published() if (row.chip_id, row.op, row.dtype, row.role) == (chip_id, op, dtype, "best")]
    if not rows:
        return None
    best = max(rows, key=lambda row: row.rate_per_s)
    return best.rate_per_s, best.source


@lru_cache(maxsize=128)
def published_links(chip_id: str) -> tuple[Link, ...]:
    """One link per collective and group size, fitted where sizes were swept."""
    groups: dict[tuple[str, int], list[PublishedRow]] = {}
    for row in load_published():
        if row.chip_id == chip_id and row.op in COLLECTIVES and row.group_size is not None:
            groups.setdefault((row.op, row.group_size), []).append(row)
    links = []
    for (op, group_size), rows in sorted(groups.items()):
        factor = bus_factor(op, group_size)
        sized = [(row.work, row.work * factor / row.rate_per_s) for row in rows if row.work]
        latency_s, busbw, spread = COLLECTIVE_LATENCY_S, statistics.median(row.rate_per_s for row in rows), None
        if len(sized) >= 3:
            latency_s, rate, spread = fit_line([work for work, _ in sized], [time for _, time in sized])
            busbw = rate * factor
        evidence = Evidence("published", _sources(rows))
        links.append(Link(op, load_chips()[chip_id].link or "PCIe", group_size, latency_s, busbw, evidence, len(rows), spread))
    return tuple(links)


def published_chips(op: str) -> Mapping[str, None]:
    """The chips with any figure for ``op``, in the order of the table."""
    return dict.fromkeys(row.chip_id for row in load_published() if row.op == op)
