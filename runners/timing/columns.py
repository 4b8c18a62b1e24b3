"""What the engine measured, as columns of a results row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chipassay.results.schema import SAMPLES_KEPT

from .condition import summarise
from .engine import METHOD_VERSION, Samples
from .statistics import median, median_interval, percentile, thin

UNREAD_HZ = 0.0
"""Stands in ``sample_clocks_hz`` for a sample whose clock could not be read: the column is as long as ``samples_s``."""


def result_columns(samples: Samples) -> dict[str, Any]:
    """What the timing engine found, as columns of the row."""
    clocks_hz = [clock_hz for clock_hz in samples.clocks_hz if clock_hz is not None]
    aligned = [UNREAD_HZ if clock_hz is None else clock_hz for clock_hz in samples.clocks_hz]
    return {
        "method_version": METHOD_VERSION,
        "cache": samples.cache,
        "clock_source": samples.clock_source,
        "warmup_count": samples.warmup_count,
        "sample_count": len(samples.times_s),
        "stop_reason": samples.stop_reason,
        "measuring_s": samples.measuring_s,
        **time_columns(samples.times_s),
        "sample_clocks_hz": thin(aligned, SAMPLES_KEPT) if clocks_hz else None,
        **summarise(samples.conditions, clocks_hz),
    }


def time_columns(times_s: Sequence[float]) -> dict[str, Any]:
    """Median, its interval, percentiles and the kept samples."""
    ordered = sorted(times_s)
    low_s, high_s = median_interval(times_s)
    return {
        "time_median_s": median(times_s),
        "time_low_s": low_s,
        "time_high_s": high_s,
        "time_min_s": ordered[0],
        **{f"time_p{int(100 * q):02d}_s": percentile(ordered, q) for q in (0.05, 0.25, 0.75, 0.95)},
        "samples_s": thin(times_s, SAMPLES_KEPT),
    }
