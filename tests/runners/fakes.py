"""A chip made of plain numbers: its clock moves only when it is used, so that timing code is tested exactly."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from chipassay.runners.timing.engine import Condition


@dataclass
class FakeChip:
    """A Timer whose calls take what ``durations_s`` says, in order; the last one repeats for ever."""

    durations_s: Iterator[float]
    clocks_hz: Iterator[float] | None = None
    clock_source: str = "device"
    now: float = 0.0
    log: list[str] = field(default_factory=list)

    def now_s(self) -> float:
        return self.now

    def time_call(self, call: Callable[[], Any]) -> float:
        call()
        self.log.append("call")
        duration_s = next(self.durations_s)
        self.now += duration_s
        return duration_s

    def time_each(self, call: Callable[[], Any], count: int) -> list[float]:
        return [self.time_call(call) for _ in range(count)]

    def evict_cache(self) -> None:
        self.log.append("evict")
        self.now += 1e-4

    def condition(self) -> Condition:
        return Condition(clock_hz=next(self.clocks_hz)) if self.clocks_hz else Condition()


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
