"""The state of the chip while it is measured: clock, power, heat, and what slowed it down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .statistics import median

THROTTLE_RATIO = 0.75
"""A clock that falls below this share of the highest in the same measurement counts as a slowdown (nvbench's share)."""
THROTTLE_LOOKS = 4
"""With fewer looks at the clock a single wrong reading would decide; with this many the second lowest and second highest do."""
STRAY = 0.05
"""Share of readings at either end that may be wrong, where there is one for each of hundreds of samples."""


@dataclass(frozen=True)
class Condition:
    """The state of the chip at one moment; None where it cannot be read."""

    clock_hz: float | None = None
    clock_method: str | None = None
    """How the clock was read: ``nvml``, or ``chain`` (a CPU's adder)."""
    throttled: bool | None = None
    throttle_reasons: tuple[str, ...] = ()
    """What the driver names as limiting the clock, those included that are no fault: a clock set by the owner."""
    power_w: float | None = None
    temperature_c: float | None = None


def summarise(conditions: Sequence[Condition], sample_clocks_hz: Sequence[float] = ()) -> dict[str, Any]:
    """Median and lowest clock, median power, highest temperature, and whether the chip was slowed down: columns of the row.

    ``sample_clocks_hz``, read on the chip around each call, say more than the looks between calls and are taken where they exist.

    >>> summarise([Condition(clock_hz=clock) for clock in (2e9, 2e9, 1e9, 1e9)])["throttled"]
    True
    >>> summarise([Condition(clock_hz=clock) for clock in (2e9, 2e9, 2e9, 1e9)])["throttled"]
    False
    """
    looks = [c.clock_hz for c in conditions if c.clock_hz is not None]
    clocks = sample_clocks_hz or looks
    method = next((c.clock_method for c in conditions if c.clock_hz is not None), None)
    powers = [c.power_w for c in conditions if c.power_w is not None]
    temperatures = [c.temperature_c for c in conditions if c.temperature_c is not None]
    slowed = [c.throttled for c in conditions if c.throttled is not None]
    if (fell := _fell(clocks)) is not None:
        slowed.append(fell)
    reasons = dict.fromkeys(reason for c in conditions for reason in c.throttle_reasons)
    return {
        "clock_hz": median(clocks) if clocks else None,
        "clock_min_hz": min(clocks) if clocks else None,
        "clock_method": "device" if sample_clocks_hz else method,
        "throttled": any(slowed) if slowed else None,
        "throttle_reasons": ";".join(reasons) or None,
        "power_w": median(powers) if powers else None,
        "temperature_c": max(temperatures) if temperatures else None,
    }


def _fell(clocks_hz: Sequence[float]) -> bool | None:
    """Whether the clock fell for more than a stray reading; None with few looks.

    The second lowest is held against the second highest, and among many the 5th against the 95th percentile.
    """
    if len(clocks_hz) < THROTTLE_LOOKS:
        return None
    ordered = sorted(clocks_hz)
    low = max(ordered[1], ordered[round(STRAY * (len(ordered) - 1))])
    high = min(ordered[-2], ordered[round((1 - STRAY) * (len(ordered) - 1))])
    return low < THROTTLE_RATIO * high
