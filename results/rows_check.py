"""Whether measured rows agree with themselves: quantiles in order, rates that are work over time, bandwidths by the field's definitions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from .catalogue import load_chips
from .link import bus_factor
from .schema import Row, case_key
from .table import iterate_rows

EXACT = 1e-9
"""Relative; the same floating-point division may be done in another order."""


def rows_problems(path: Path) -> Iterator[str]:
    """Everything that is wrong in a results CSV, a sentence each. Raises FileError where it cannot be read."""
    seen: set[object] = set()
    for number, row in enumerate(iterate_rows(path), 1):
        for problem in row_problems(row):
            yield f"{path.name}, row {number} ({row.op}): {problem}"
        key = (row.run_id, row.chip_id, row.device_index, case_key(row))
        if key in seen:
            yield f"{path.name}, row {number} ({row.op}): the same case of the same run stands here twice"
        seen.add(key)


def row_problems(row: Row) -> Iterator[str]:
    """What is wrong in one row."""
    if row.chip_id is None or (row.chip_id not in load_chips() and not row.chip_id.startswith("cpu-")):
        yield f"{row.chip_id!r} is no chip of the catalogue"
    if row.measured_at_utc is not None and not _is_time(row.measured_at_utc):
        yield f"measured_at_utc is {row.measured_at_utc!r}, not ISO 8601"
    if row.status == "ok" and not row.time_median_s:
        yield "is ok without a time"
    if row.status != "ok" and not row.reason:
        yield f"is {row.status} without a reason"
    yield from _disorder(row)
    yield from _disagreements(row)


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return False
    return True


def _disorder(row: Row) -> Iterator[str]:
    quantiles = ("time_min_s", "time_p05_s", "time_p25_s", "time_median_s", "time_p75_s", "time_p95_s")
    interval = ("time_low_s", "time_median_s", "time_high_s")
    for names in (quantiles, interval) if row.time_statistic is None else ():
        known = [(name, value) for name in names if (value := getattr(row, name)) is not None]
        for (below, less), (above, more) in itertools.pairwise(known):
            if less > more * (1 + EXACT):
                yield f"{below} {less:g} is above {above} {more:g}"
    for name in ("samples_s", "sample_clocks_hz"):
        values = getattr(row, name)
        if values is not None and row.sample_count is not None and len(values) > row.sample_count:
            yield f"{name} has {len(values)} of {row.sample_count} samples"


def _disagreements(row: Row) -> Iterator[str]:
    time_s = row.time_median_s
    if not time_s:
        return
    factor = None if row.group_size is None or row.size_bytes is None or row.op is None else bus_factor(row.op, row.group_size)
    algbw = None if row.size_bytes is None else row.size_bytes / time_s
    for name, told, computed in (
        ("rate_flops_per_s", row.rate_flops_per_s, None if row.flops is None else row.flops / time_s),
        ("bandwidth_bytes_per_s", row.bandwidth_bytes_per_s, None if row.bytes is None else row.bytes / time_s),
        ("algbw_bytes_per_s", row.algbw_bytes_per_s, algbw),
        ("busbw_bytes_per_s", row.busbw_bytes_per_s, None if algbw is None or factor is None else factor * algbw),
    ):
        if told is not None and computed is not None and not math.isclose(told, computed, rel_tol=EXACT):
            yield f"{name} is {told:g}, its inputs give {computed:g}"
