"""The sampling loop: warm up until steady, evict the cache, time one call, watch the clock, ask the rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from .statistics import median
from .stopping import StoppingRule

METHOD_VERSION = 1
"""Raised whenever a change here moves results, so that old rows can be told apart."""

WARMUP_MIN_CALLS = 3
"""The first call pays for lazy initialisation, the second often for allocation."""
WARMUP_STEADY = 0.05
"""Steady: two calls in a row that are no more than 5 % faster than the best so far."""
WARMUP_CAP_FRACTION = 0.2
"""Warm-up may take this share of the time cap: a chip that never settles is measured as it is."""
CONDITION_EVERY_S = 0.2
"""Clock and power are read between samples, not for each: reading takes up to milliseconds."""
THROTTLE_RATIO = 0.75
"""A clock that falls below this share of the highest in the same measurement counts as a slowdown (nvbench's share)."""
THROTTLE_LOOKS = 4
"""With fewer looks at the clock a single wrong reading would decide; with this many the second lowest and second highest do."""


@dataclass(frozen=True)
class Condition:
    """The state of the chip at one moment; None where it cannot be read."""

    clock_hz: float | None = None
    throttled: bool | None = None
    power_w: float | None = None
    temperature_c: float | None = None


class Timer(Protocol):
    """The clock side of a device, as the engine needs it."""

    clock_source: str
    """``device``: events on the chip; ``host``: the host's clock around a synchronous call."""

    def now_s(self) -> float:
        """Monotonic host time."""

    def time_call(self, call: Callable[[], Any]) -> float:
        """Run ``call`` once and wait for its end; seconds it took by ``clock_source``."""

    def time_each(self, call: Callable[[], Any], count: int) -> list[float]:
        """Run ``call`` so often back to back, without waiting in between where the device can queue; seconds of each."""

    def evict_cache(self) -> None:
        """Push everything out of the last-level cache."""

    def condition(self) -> Condition:
        """The chip's state now."""


@dataclass(frozen=True)
class Samples:
    """The raw times of one measurement, with what was known of the chip meanwhile."""

    times_s: tuple[float, ...]
    clock_source: str
    cache: str
    warmup_count: int
    stop_reason: str
    measuring_s: float
    clock_hz: float | None = None
    clock_min_hz: float | None = None
    throttled: bool | None = None
    power_w: float | None = None
    temperature_c: float | None = None


def measure(
    call: Callable[[], Any],
    timer: Timer,
    rule: StoppingRule,
    *,
    cache: str = "cold",
    before_sample: Callable[[], None] | None = None,
    warmup_cap_s: float = 2.0,
) -> Samples:
    """Sample ``call`` until ``rule`` is satisfied.

    Before each sample, outside the timed region: ``before_sample`` (refills the output with random values), then the
    cache is evicted when ``cache`` is ``cold``. Throttled samples are kept and the measurement marked: a chip that is
    capped for good would otherwise yield nothing.
    """
    begin_s = timer.now_s()
    warmups = _warm_up(call, timer, warmup_cap_s)
    conditions = [timer.condition()]
    samples: list[float] = []
    rule.start(timer.now_s())
    last_look_s = timer.now_s()
    reason = None
    while reason is None:
        if before_sample is not None:
            before_sample()
        if cache == "cold":
            timer.evict_cache()
        samples.append(timer.time_call(call))
        now_s = timer.now_s()
        if now_s - last_look_s >= CONDITION_EVERY_S:
            conditions.append(timer.condition())
            last_look_s = timer.now_s()
        rule.add(samples[-1], now_s)
        reason = rule.finished()
    conditions.append(timer.condition())
    return Samples(
        times_s=tuple(samples),
        clock_source=timer.clock_source,
        cache=cache,
        warmup_count=warmups,
        stop_reason=reason,
        measuring_s=timer.now_s() - begin_s,
        **summarise(conditions),
    )


def _warm_up(call: Callable[[], Any], timer: Timer, cap_s: float) -> int:
    begin_s = timer.now_s()
    best_s = float("inf")
    steady = count = 0
    while True:
        time_s = timer.time_call(call)
        count += 1
        steady = steady + 1 if time_s > best_s * (1 - WARMUP_STEADY) else 0
        best_s = min(best_s, time_s)
        if timer.now_s() - begin_s >= cap_s:
            return count
        if count >= WARMUP_MIN_CALLS and steady >= 2:
            return count


def summarise(conditions: list[Condition]) -> dict[str, Any]:
    """Median and lowest clock, median power, highest temperature, and whether the chip was slowed down at any look.

    >>> summarise([Condition(clock_hz=clock) for clock in (2e9, 2e9, 1e9, 1e9)])["throttled"]
    True
    >>> summarise([Condition(clock_hz=clock) for clock in (2e9, 2e9, 2e9, 1e9)])["throttled"]
    False
    """
    clocks = [c.clock_hz for c in conditions if c.clock_hz is not None]
    powers = [c.power_w for c in conditions if c.power_w is not None]
    temperatures = [c.temperature_c for c in conditions if c.temperature_c is not None]
    flags = [c.throttled for c in conditions if c.throttled is not None]
    fell = [ordered[1] < THROTTLE_RATIO * ordered[-2]] if len(ordered := sorted(clocks)) >= THROTTLE_LOOKS else []
    return {
        "clock_hz": median(clocks) if clocks else None,
        "clock_min_hz": min(clocks) if clocks else None,
        "throttled": any(flags + fell) if flags or fell else None,
        "power_w": median(powers) if powers else None,
        "temperature_c": max(temperatures) if temperatures else None,
    }
