"""When to stop sampling: a rule with three methods (start, add, finished), fed with plain numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

from .statistics import median, median_interval


class StoppingRule(Protocol):
    """Told of each sample; says when enough is enough, and why."""

    def start(self, now_s: float) -> None:
        """Begin a measurement at host time ``now_s``."""

    def add(self, sample_s: float, now_s: float) -> None:
        """One more sample, taken at host time ``now_s``."""

    def finished(self) -> str | None:
        """The stop reason, or None to go on."""


@dataclass
class PreciseMedian:
    """Stop when the 95 % interval of the median is narrow, when more samples stop helping, or when time is up.

    The defaults, each with its reason:
    """

    relative_half_width: float = 0.005
    """0.5 %: well below the differences people compare chips for, and about what a quiet GPU reaches in 50 samples."""
    min_samples: int = 10
    """The distribution-free interval needs 6; 10 keeps one wild sample from setting its end."""
    min_time_s: float = 0.5
    """Clocks, turbo and neighbours move over tenths of a second; fewer would report one mood of the machine."""
    time_cap_s: float = 10.0
    """Wall time after which sampling ends, however wide the interval."""
    sample_cap: int = 10_000
    """Bounds memory and the cost of the interval."""
    few_samples: int = 3
    """A call so long that ``min_samples`` would exceed the cap still gets this many."""
    plateau_from: int = 64
    """No plateau is declared on fewer samples."""
    plateau_ratio: float = 0.9
    """Doubling the samples should narrow the interval to 1/sqrt(2) = 0.71; above 0.9 the rest is drift, not noise."""

    samples: list[float] = field(default_factory=list, init=False, repr=False)
    _begin_s: float = field(default=0.0, init=False, repr=False)
    _now_s: float = field(default=0.0, init=False, repr=False)
    _next_check: int = field(default=0, init=False, repr=False)
    _half_widths: dict[int, float] = field(default_factory=dict, init=False, repr=False)
    _reason: str | None = field(default=None, init=False, repr=False)

    def start(self, now_s: float) -> None:
        self.samples, self._half_widths, self._reason = [], {}, None
        self._begin_s = self._now_s = now_s
        self._next_check = self.min_samples

    def add(self, sample_s: float, now_s: float) -> None:
        self.samples.append(sample_s)
        self._now_s = now_s
        self._reason = self._decide()

    def finished(self) -> str | None:
        return self._reason

    def _decide(self) -> str | None:
        count = len(self.samples)
        elapsed_s = self._now_s - self._begin_s
        if elapsed_s >= self.time_cap_s and count >= self.few_samples:
            return "time_cap"
        if count >= self.sample_cap:
            return "sample_cap"
        if count < self._next_check or elapsed_s < self.min_time_s:
            return None
        # Sorting at every sample would cost more than short samples do: look again after 10 % more.
        self._next_check = max(count + 1, math.ceil(count * 1.1))
        half_width = self.relative_interval()
        if half_width <= self.relative_half_width:
            return "precise"
        self._half_widths[count] = half_width
        half = [w for n, w in self._half_widths.items() if n <= count / 2]
        if count >= self.plateau_from and half and half_width > self.plateau_ratio * half[-1]:
            return "plateau"
        return None

    def relative_interval(self) -> float:
        """Half the width of the median's 95 % interval over the median."""
        low, high = median_interval(self.samples)
        middle = median(self.samples)
        return (high - low) / 2 / middle if middle > 0 else math.inf
