"""A chip made of plain numbers: its clock moves only when it is used, so that timing code is tested exactly."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from chipassay.runners.timing.condition import Condition
from chipassay.runners.timing.engine import Timed


@dataclass
class FakeChip:
    """A Timer whose calls take what ``durations_s`` says, in order; the last one repeats for ever."""

    durations_s: Iterator[float]
    clocks_hz: Iterator[float] | None = None
    clock_source: str = "device"
    now: float = 0.0
    log: list[str] = field(default_factory=list)
    device_clocks_hz: Iterator[float | None] | None = None
    """What counters on the chip read around each call."""
    power_w: float | None = None
    energy_step_s: float = 0.1
    """The energy counter takes over the true energy so often; it exists where ``power_w`` is given."""
    unqueued: frozenset[int] = frozenset()
    """Calls, counted from 0, that begin before they are wholly queued."""
    throttle_reasons: tuple[str, ...] = ()

    def now_s(self) -> float:
        return self.now

    def start(self) -> None:
        self.log.append("start")

    def time_call(self, call: Callable[[], Any], queue: bool = True) -> Timed:
        position = self.log.count("call")
        call()
        self.log.append("call" if queue else "call unheld")
        duration_s = next(self.durations_s)
        self.now += duration_s
        return Timed(duration_s, self._clock(), position not in self.unqueued)

    def _clock(self) -> float | None:
        return next(self.device_clocks_hz) if self.device_clocks_hz else None

    def time_each(self, call: Callable[[], Any], count: int) -> list[float]:
        return [self.time_call(call).time_s for _ in range(count)]

    def time_burst(self, call: Callable[[], Any], count: int, meanwhile: Callable[[], Any] | None = None) -> Timed:
        duration_s = sum(next(self.durations_s) for _ in range(count))
        call()
        self.log.append(f"burst of {count}")
        if meanwhile is not None:
            meanwhile()
        self.now += duration_s
        return Timed(duration_s, self._clock())

    def evict_cache(self) -> None:
        self.log.append("evict")
        self.now += 1e-4

    def condition(self) -> Condition:
        clock_hz = next(self.clocks_hz) if self.clocks_hz else None
        throttled = True if self.throttle_reasons else None
        return Condition(clock_hz, "nvml" if clock_hz else None, throttled, self.throttle_reasons, self.power_w)

    def energy_j(self) -> float | None:
        if self.power_w is None:
            return None
        return self.power_w * self.energy_step_s * int(self.now / self.energy_step_s)


def steady(duration_s: float) -> Iterator[float]:
    """The same duration for ever."""
    while True:
        yield duration_s


def noisy(middle_s: float, sigma: float, seed: int = 1) -> Iterator[float]:
    """Log-normal durations around ``middle_s``."""
    source = random.Random(seed)
    while True:
        yield middle_s * source.lognormvariate(0.0, sigma)


@dataclass
class FixedCount:
    """Stop after ``count`` samples: whatever they are."""

    count: int
    _seen: int = field(default=0, init=False, repr=False)

    def start(self, now_s: float) -> None:
        self._seen = 0

    def add(self, sample_s: float, now_s: float) -> None:
        self._seen += 1

    def finished(self) -> str | None:
        return "sample_cap" if self._seen >= self.count else None
