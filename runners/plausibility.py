"""Can this number be? The share of the roofline a row reaches, and words for what makes it doubtful. Nothing is deleted for it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from chipassay.results.beyond_cache import BEYOND_CACHE

from .devices.facts import DeviceFacts

RATE_TOLERANCE = 1.10
"""Peaks of datasheets hold at a boost clock that the chip may exceed: the H100 SXM's at 1830 MHz, and it runs up to 1980 (notes in
chips.csv). A rate above this many times the peak, at the measured clock where it is known, is no rate of this chip."""
BANDWIDTH_TOLERANCE = 1.02
"""The memory's clock is fixed; datasheets round to two or three digits."""
EVENT_TICK_S = 0.5e-6
"""Resolution of events on a GPU (CUDA Runtime API, cudaEventElapsedTime: "around 0.5 microseconds"); newer chips resolve finer."""
COARSE = 0.02
"""A tick above this share of the time is a doubt worth telling."""
LOW_CLOCK = 0.75
"""A clock below this share of the one the peaks hold at is not what the chip was sold as (nvbench's share)."""
OFTEN = 0.05
"""Share of samples that may begin before they are wholly queued: beyond, the median holds launch cost."""

ABOVE_RATE = "above the chip's peak rate"
ABOVE_BANDWIDTH = "above the memory's bandwidth"
PARTLY_CACHED = "part of it may have stayed in the cache"
COARSE_TIMER = "the timer's tick is coarse for this time"
THROTTLED = "throttled"
THROTTLED_LATER = "throttled while sustained"
SLOW_CLOCK = "the clock is far below the peak's"
NOT_QUEUED = "launch cost may be in the time"
WRONG_BEFORE = "faster configurations gave wrong results"


def roofline_fraction(facts: DeviceFacts, limited_by: str, columns: Mapping[str, Any]) -> float | None:
    """The least time the datasheet's peaks allow over the time measured; None where neither peak is known or both do not matter.

    ``columns``: those of the row so far. Data that a warm cache may hold do not count as traffic. An operation limited by neither
    arithmetic nor memory (a launch, a transfer) has no roofline.
    """
    time_s = columns["time_median_s"]
    if limited_by not in ("compute", "memory") or not time_s:
        return None
    rate, bandwidth = facts.peak_flops_per_s.get(columns["dtype"]), facts.peak_bandwidth_bytes_per_s
    least_s = [columns["flops"] / rate.value] if rate is not None and columns["flops"] else []
    if bandwidth is not None and not (columns["cache"] == "warm" and _fits(facts, columns)):
        least_s.append(columns["bytes"] / bandwidth.value)
    return max(least_s) / time_s if least_s else None


def flags(facts: DeviceFacts, limited_by: str, columns: Mapping[str, Any], unqueued_share: float = 0.0) -> str | None:
    """What makes the row doubtful, joined by ``;``: always the same words, the numbers stand in their columns. None: nothing."""
    found = []
    if limited_by in ("compute", "memory"):
        found += _limits(facts, limited_by, columns)
        if unqueued_share > OFTEN:
            found.append(NOT_QUEUED)
    if columns["clock_source"] == "device" and tick_s(columns["samples_s"]) > COARSE * columns["time_median_s"]:
        found.append(COARSE_TIMER)
    if columns.get("throttled"):
        found.append(THROTTLED)
    clock_hz, peak_clock_hz = columns.get("clock_hz"), facts.peak_clock_hz
    if facts.kind != "cpu" and clock_hz and peak_clock_hz and clock_hz < LOW_CLOCK * peak_clock_hz:
        found.append(SLOW_CLOCK)
    return ";".join(found) or None


def _limits(facts: DeviceFacts, limited_by: str, columns: Mapping[str, Any]) -> list[str]:
    found = []
    time_s, peak, bandwidth = columns["time_median_s"], facts.peak_flops_per_s.get(columns["dtype"]), facts.peak_bandwidth_bytes_per_s
    if peak is not None and limited_by == "compute":
        clock_hz = columns.get("clock_hz") if columns.get("clock_method") == "device" else None
        share = clock_hz / facts.peak_clock_hz if clock_hz and facts.peak_clock_hz else 1.0
        if columns["flops"] / time_s > RATE_TOLERANCE * share * peak.value:
            found.append(ABOVE_RATE)
    if columns["cache"] == "cold":
        above = bandwidth is not None and columns["bytes"] / time_s > BANDWIDTH_TOLERANCE * bandwidth.value
        if above:
            found.append(ABOVE_BANDWIDTH)
        if _fits(facts, columns) and (above or limited_by == "memory"):
            found.append(PARTLY_CACHED)
    return found


def _fits(facts: DeviceFacts, columns: Mapping[str, Any]) -> bool:
    """Whether what the call moves is so little that a cache may keep a part of it: its writes, even when it began empty."""
    return bool(columns["bytes"] < BEYOND_CACHE * facts.cache_bytes)


def tick_s(samples_s: tuple[float, ...]) -> float:
    """The step of the timer that made these samples: their smallest difference, at most what the maker states.

    >>> tick_s((1.0e-6, 2.0e-6, 1.125e-6)) < 0.13e-6, tick_s((5e-6, 5e-6))
    (True, 5e-07)
    """
    ordered = sorted(set(samples_s))
    steps = [above - below for below, above in itertools.pairwise(ordered)]
    return min([EVENT_TICK_S, *steps])
