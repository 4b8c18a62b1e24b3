"""Two visits to the same case, minutes apart, pooled to one row: its spread then holds the machine's drift, not only its noise."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from chipassay.results.schema import NAMES, SAMPLES_KEPT, Row

from .timing.columns import UNREAD_HZ, time_columns
from .timing.statistics import thin

STRAGGLER_NAMES = ("straggler_rank", "straggler_hash", "straggler_ratio")


def pooled(first: Row, later: Row) -> Row:
    """The row of both visits. Statistics come from the kept samples of each, in time order and in equal shares per visit."""
    visits = (first.round_count or 1) + 1
    share = SAMPLES_KEPT // visits
    samples_s = (*thin(first.samples_s or (), share * (visits - 1)), *thin(later.samples_s or (), share))
    columns: dict[str, Any] = time_columns(samples_s)
    columns["time_min_s"] = min(first.time_min_s or samples_s[0], later.time_min_s or samples_s[0], columns["time_min_s"])
    columns["sample_clocks_hz"] = _clocks(first, later, visits)
    faster = (later.time_median_s or 1.0) / columns["time_median_s"]
    rates = (
        *("rate_flops_per_s", "bandwidth_bytes_per_s", "algbw_bytes_per_s", "busbw_bytes_per_s", "wire_bytes_per_s"),
        *("peak_fraction", "roofline_fraction"),
    )
    for name in rates:
        rate = getattr(later, name)
        columns[name] = None if rate is None else rate * faster
    for name in ("sample_count", "warmup_count", "measuring_s", "wall_s"):
        columns[name] = _both(operator.add, getattr(first, name), getattr(later, name))
    for name in ("clock_min_hz", "fastest_rank_time_s"):
        columns[name] = _both(min, getattr(first, name), getattr(later, name))
    for name in ("temperature_c", "slowest_rank_time_s", "throttled"):
        columns[name] = _both(max, getattr(first, name), getattr(later, name))
    for name in ("clock_hz", "power_w", "median_rank_time_s", "alone_time_s"):
        columns[name] = _both(lambda a, b: _mean(a, b, visits), getattr(first, name), getattr(later, name))
    columns["rank_times_s"] = _both(
        lambda a, b: tuple(_mean(x, y, visits) for x, y in zip(a, b, strict=True)), first.rank_times_s, later.rank_times_s
    )
    columns |= _straggler(first, later, visits)
    for name in ("flags", "throttle_reasons"):
        columns[name] = _both(_words, getattr(first, name), getattr(later, name))
    # Made on the first visit only.
    for name in ("energy_j", *(name for name in NAMES if name.startswith("sustained_"))):
        columns[name] = _both(lambda a, b: a, getattr(first, name), getattr(later, name))
    return replace(later, **columns, error=first.error, error_limit=first.error_limit, round_count=visits)


def _mean(earlier: float, last: float, visits: int) -> float:
    """What all visits have on average, where ``earlier`` is that of all but the last."""
    return (earlier * (visits - 1) + last) / visits


def _straggler(first: Row, later: Row, visits: int) -> dict[str, Any]:
    """The rank that is slow in every visit; where they name different ones, the lesser of both: it was a passing mood."""
    if first.straggler_ratio is None or later.straggler_ratio is None:
        known = later if first.straggler_ratio is None else first
        return {name: getattr(known, name) for name in STRAGGLER_NAMES}
    if first.straggler_rank == later.straggler_rank:
        ratio = _mean(first.straggler_ratio, later.straggler_ratio, visits)
        return {"straggler_rank": later.straggler_rank, "straggler_hash": later.straggler_hash, "straggler_ratio": ratio}
    lesser = min((first, later), key=lambda row: row.straggler_ratio or 0.0)
    return {name: getattr(lesser, name) for name in STRAGGLER_NAMES}


def _clocks(first: Row, later: Row, visits: int) -> tuple[float, ...] | None:
    """The clocks of the samples that are kept, as these are kept; None where neither visit has any."""
    if not first.sample_clocks_hz and not later.sample_clocks_hz:
        return None
    share = SAMPLES_KEPT // visits
    earlier_hz, later_hz = (row.sample_clocks_hz or (UNREAD_HZ,) * len(row.samples_s or ()) for row in (first, later))
    return (*thin(earlier_hz, share * (visits - 1)), *thin(later_hz, share))


def _words(a: str, b: str) -> str:
    """Both lists of words joined by ``;``, each word once.

    >>> _words("throttled;x", "y;throttled")
    'throttled;x;y'
    """
    return ";".join(dict.fromkeys([*a.split(";"), *b.split(";")]))


def _both(combine: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
    """The two combined; the known one where the other is unknown."""
    if a is None or b is None:
        return b if a is None else a
    return combine(a, b)
