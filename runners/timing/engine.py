"""The sampling loop: warm up until steady, evict the cache, time one call, watch the clock, ask the rule."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from .condition import Condition
from .stopping import StoppingRule

METHOD_VERSION = 2
"""Raised whenever a change here moves results, so that old rows can be told apart. 2: a GPU's stream is held until the whole call is
queued, so that calls of many kernels no longer show what issuing them costs the host."""

WARMUP_MIN_CALLS = 3
"""The first call pays for lazy initialisation, the second often for allocation."""
WARMUP_STEADY = 0.05
"""Steady: two calls in a row that are no more than 5 % faster than the best so far."""
CONDITION_EVERY_S = 0.2
"""Clock and power are read between samples, not for each: reading takes up to milliseconds."""


@dataclass(frozen=True)
class Timed:
    """One timed call, or several back to back."""

    time_s: float
    clock_hz: float | None = None
    """The chip's clock around it, by counters on the chip; None where they cannot be read or the span is too short for them."""
    queued: bool = True
    """False: the chip began before the host had queued all of it, so the time may hold what issuing it cost the host."""


class Timer(Protocol):
    """The clock side of a device, as the engine needs it."""

    clock_source: str
    """``device``: events on the chip; ``host``: the host's clock around a synchronous call."""

    def now_s(self) -> float:
        """Monotonic host time."""

    def start(self) -> None:
        """Another call is measured from now on: forget what was learned of the last."""

    def time_call(self, call: Callable[[], Any], queue: bool = True) -> Timed:
        """Run ``call`` once and wait for its end; seconds it took by ``clock_source``.

        ``queue``: a device that can be held is held until all of the call is queued. False where issuing is what is measured.
        """

    def time_each(self, call: Callable[[], Any], count: int) -> list[float]:
        """Run ``call`` so often back to back, without waiting in between where the device can queue; seconds of each."""

    def time_burst(self, call: Callable[[], Any], count: int, meanwhile: Callable[[], Any] | None = None) -> Timed:
        """Run ``call`` so often back to back; seconds of all together, with nothing between the calls.

        ``meanwhile`` is run on the host while the device works on what is queued; where nothing queues, after the calls.
        """

    def evict_cache(self) -> None:
        """Push everything out of the last-level cache."""

    def condition(self) -> Condition:
        """The chip's state now."""

    def energy_j(self) -> float | None:
        """Energy the chip has used since some fixed moment; None where it does not count."""


@dataclass(frozen=True)
class Samples:
    """The raw times of one measurement, with what was known of the chip meanwhile."""

    times_s: tuple[float, ...]
    clock_source: str
    cache: str
    warmup_count: int
    stop_reason: str
    measuring_s: float
    conditions: tuple[Condition, ...] = ()
    clocks_hz: tuple[float | None, ...] = ()
    """The chip's clock around each of ``times_s``."""
    unqueued_count: int = 0
    """Samples that began before the host had queued all of the call."""


def measure(
    call: Callable[[], Any],
    timer: Timer,
    rule: StoppingRule,
    *,
    cache: str = "cold",
    before_sample: Callable[[], None] | None = None,
    warmup_cap_s: float = 2.0,
    queue: bool = True,
) -> Samples:
    """Sample ``call`` until ``rule`` is satisfied.

    Before each sample, outside the timed region: ``before_sample`` (refills the output with random values), then the
    cache is evicted when ``cache`` is ``cold``. Throttled samples are kept and the measurement marked: a chip that is
    capped for good would otherwise yield nothing.
    """
    begin_s = timer.now_s()
    timer.start()
    warmups = _warm_up(call, timer, warmup_cap_s, queue)
    conditions = [timer.condition()]
    samples: list[Timed] = []
    rule.start(timer.now_s())
    last_look_s = timer.now_s()
    reason = None
    while reason is None:
        if before_sample is not None:
            before_sample()
        if cache == "cold":
            timer.evict_cache()
        samples.append(timer.time_call(call, queue))
        now_s = timer.now_s()
        if now_s - last_look_s >= CONDITION_EVERY_S:
            conditions.append(timer.condition())
            last_look_s = timer.now_s()
        rule.add(samples[-1].time_s, now_s)
        reason = rule.finished()
    conditions.append(timer.condition())
    return Samples(
        times_s=tuple(sample.time_s for sample in samples),
        clock_source=timer.clock_source,
        cache=cache,
        warmup_count=warmups,
        stop_reason=reason,
        measuring_s=timer.now_s() - begin_s,
        conditions=tuple(conditions),
        clocks_hz=tuple(sample.clock_hz for sample in samples),
        unqueued_count=sum(not sample.queued for sample in samples),
    )


def _warm_up(call: Callable[[], Any], timer: Timer, cap_s: float, queue: bool) -> int:
    begin_s = timer.now_s()
    best_s = float("inf")
    steady = count = 0
    while True:
        time_s = timer.time_call(call, queue).time_s
        count += 1
        steady = steady + 1 if time_s > best_s * (1 - WARMUP_STEADY) else 0
        best_s = min(best_s, time_s)
        if timer.now_s() - begin_s >= cap_s:
            return count
        if count >= WARMUP_MIN_CALLS and steady >= 2:
            return count
