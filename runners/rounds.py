"""Two visits to the same case, minutes apart, pooled to one row: its spread then holds the machine's drift, not only its noise."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from chipassay.results.schema import SAMPLES_KEPT, Row

from .timing.columns import time_columns
from .timing.statistics import thin


def pooled(first: Row, later: Row) -> Row:
    """The row of both visits. Statistics come from the kept samples of each, in time order and in equal shares per visit."""
    visits = (first.round_count or 1) + 1
    share = SAMPLES_KEPT // visits
    samples_s = (*thin(first.samples_s or (), share * (visits - 1)), *thin(later.samples_s or (), share))
    columns: dict[str, Any] = time_columns(samples_s)
    columns["time_min_s"] = min(first.time_min_s or samples_s[0], later.time_min_s or samples_s[0], columns["time_min_s"])
    faster = (later.time_median_s or 1.0) / columns["time_median_s"]
    for name in ("rate_flops_per_s", "bandwidth_bytes_per_s", "algbw_bytes_per_s", "busbw_bytes_per_s", "peak_fraction"):
        rate = getattr(later, name)
        columns[name] = None if rate is None else rate * faster
    for name in ("sample_count", "warmup_count", "measuring_s", "wall_s"):
        columns[name] = _both(operator.add, getattr(first, name), getattr(later, name))
    for name in ("clock_min_hz", "fastest_rank_time_s"):
        columns[name] = _both(min, getattr(first, name), getattr(later, name))
    for name in ("temperature_c", "slowest_rank_time_s", "throttled"):
        columns[name] = _both(max, getattr(first, name), getattr(later, name))
    for name in ("clock_hz", "power_w"):
        columns[name] = _both(lambda a, b: (a * (visits - 1) + b) / visits, getattr(first, name), getattr(later, name))
    return replace(later, **columns, error=first.error, error_limit=first.error_limit, round_count=visits)


def _both(combine: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    """The two combined; the known one where the other is unknown."""
    if a is None or b is None:
        return b if a is None else a
    return combine(a, b)
