"""Two visits to the same case, minutes apart, pooled to one row: its spread then holds the machine's drift, not only its noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from chipassay.results.schema import SAMPLES_KEPT, Row

from .measure_kernel import time_columns
from .timing.statistics import thin


def pooled(first: Row, later: Row) -> Row:
    """The row of both visits. Statistics come from the kept samples of each, in time order and in equal shares per visit."""
    visits = (first.round_count or 1) + 1
    share = SAMPLES_KEPT // visits
    samples_s = (*thin(first.samples_s or (), share * (visits - 1)), *thin(later.samples_s or (), share))
    columns = time_columns(samples_s)
    columns["time_min_s"] = min(first.time_min_s or samples_s[0], later.time_min_s or samples_s[0], columns["time_min_s"])
    faster = (later.time_median_s or 1.0) / columns["time_median_s"]
    per_time = ("rate_flops_per_s", "bandwidth_bytes_per_s", "algbw_bytes_per_s", "busbw_bytes_per_s", "peak_fraction")
    rates = {name: value * faster for name in per_time if (value := getattr(later, name)) is not None}
    totals = {
        name: (getattr(first, name) or 0) + (getattr(later, name) or 0)
        for name in ("sample_count", "warmup_count", "measuring_s", "wall_s")
        if getattr(later, name) is not None
    }
    worst = {
        "clock_min_hz": _both(min, first.clock_min_hz, later.clock_min_hz),
        "temperature_c": _both(max, first.temperature_c, later.temperature_c),
        "slowest_rank_time_s": _both(max, first.slowest_rank_time_s, later.slowest_rank_time_s),
        "fastest_rank_time_s": _both(min, first.fastest_rank_time_s, later.fastest_rank_time_s),
        "throttled": _both(max, first.throttled, later.throttled),
    }
    means = {
        name: (getattr(first, name) * (visits - 1) + getattr(later, name)) / visits
        for name in ("clock_hz", "power_w")
        if getattr(first, name) is not None and getattr(later, name) is not None
    }
    checked = {"error": first.error, "error_limit": first.error_limit}
    return replace(later, **columns, **rates, **totals, **worst, **means, **checked, round_count=visits)


def _both(choose: Callable[[Sequence[Any]], Any], a: Any, b: Any) -> Any:
    known = [value for value in (a, b) if value is not None]
    return choose(known) if known else None
