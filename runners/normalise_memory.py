"""Rows of what memory limits to curves by bytes: one of the plain streams, and one of each operation.

A case that fits in the last-level cache measures the cache, even when it began empty: writes may stay in it (results/beyond_cache.py).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from chipassay.results.beyond_cache import HARDLY_CACHED, beyond_cache, measures_memory, measures_overhead
from chipassay.results.catalogue import Chip
from chipassay.results.operations import limited_by, place
from chipassay.results.profile import Curve
from chipassay.results.schema import Row

from .fit import fit_curve
from .normalise_rows import cold_or_untold, fit_evidence

LEAST_SPAN = 8.0
"""Largest over smallest size from which a slope tells the rate apart from the overhead: below, noise of a few percent makes half of the
time of either."""


def with_cache(rows: Sequence[Row], chip: Chip | None) -> list[Row]:
    """The rows of memory's operations; those that do not tell the size of the last-level cache get the catalogue's."""
    l2_bytes = int(chip.l2_bytes) if chip and chip.l2_bytes else None
    return [
        row if row.last_level_cache_bytes or l2_bytes is None else replace(row, last_level_cache_bytes=l2_bytes)
        for row in rows
        if row.bytes and limited_by(row) == "memory"
    ]


def stream_rows(rows: Sequence[Row]) -> list[Row]:
    """The plain streams beyond the cache, and those so small that they show what a call costs."""
    group = [row for row in rows if measures_memory(row) or measures_overhead(row)]
    return group if any(map(measures_memory, group)) else []


def memory_curve(rows: Sequence[Row]) -> Curve | None:
    """Time by bytes of the rows that ``stream_rows`` found."""
    return _fit(rows, None) if rows else None


def memory_op_rows(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """``op`` or ``op direction`` -> its rows beyond the cache, and far below it, where the first are there."""
    grouped: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        # Decoding with a window, or with values narrower than keys, is other work for the same bytes.
        if row.op and row.window is None and row.head_dim_v is None:
            grouped[row.op + (f" {row.direction}" if row.direction else "")].append(row)
    found = {}
    for name, group in sorted(grouped.items(), key=lambda item: (place(item[0].split()[0]), item[0])):
        told = cold_or_untold(group)
        if any(map(beyond_cache, told)):
            found[name] = [row for row in told if beyond_cache(row) or _hardly_cached(row)]
    return found


def _hardly_cached(row: Row) -> bool:
    return (row.bytes or 0.0) <= HARDLY_CACHED * (row.last_level_cache_bytes or 0)


def memory_ops(rows: Mapping[str, Sequence[Row]], streams: Curve | None) -> dict[str, Curve]:
    """A curve an operation. Sizes too alike to tell an overhead take that of the plain streams."""
    return {name: _fit(group, streams) for name, group in rows.items()}


def _fit(rows: Sequence[Row], streams: Curve | None) -> Curve:
    sizes, times_s = [row.bytes or 0.0 for row in rows], [row.time_median_s or 0.0 for row in rows]
    known = overhead_for(sizes, times_s, streams)
    return fit_curve(sizes, times_s, fit_evidence(rows), overhead_s=known)


def overhead_for(sizes: Sequence[float], times_s: Sequence[float], streams: Curve | None) -> float | None:
    """Half of the shortest time at most, where the sizes cannot tell it; None where they can."""
    if max(sizes) >= LEAST_SPAN * min(sizes):
        return None
    return min(streams.overhead_s if streams else 0.0, min(times_s) / 2)
