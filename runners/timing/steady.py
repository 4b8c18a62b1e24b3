"""Calls back to back for a while: the energy of one, and what heat and the power limit leave of the rate.

Nothing is evicted or refilled in between: this is what a loop over one operation sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .condition import Condition, summarise
from .engine import CONDITION_EVERY_S, Timed, Timer

SUSTAIN_BATCH_S = 0.1
"""Calls in flight between two waits while sustaining: the wait costs some 20 us, so it is no part of the figure."""
ENERGY_BATCH_S = 0.02
"""Shorter, for the energy counter's steps are to be caught soon after they happen."""
CALLS_AT_MOST = 10_000
TAIL = 2 / 3
"""The sustained figures are those from here on: the last third."""
ENERGY_SPAN_S = 0.2
"""The energy is taken between two steps of the chip's counter at least so far apart. On A100 and H100 it steps every 100 ms (Yang et
al., "Part-time Power Measurements", arXiv 2312.02741, table 1): between steps a difference of readings would be off by a whole one."""
ENERGY_BATCHES = 8
"""A step is seen up to one batch late, at either end: with so many batches in between that costs a few per cent."""


@dataclass(frozen=True)
class Sustained:
    """The last third of a long run of calls."""

    span_s: float
    time_s: float
    """Mean of a call."""
    clock_hz: float | None
    power_w: float | None
    temperature_c: float | None
    throttled: bool | None

    def columns(self) -> dict[str, Any]:
        """As columns of the row."""
        return {
            "sustained_s": self.span_s,
            "sustained_time_s": self.time_s,
            "sustained_clock_hz": self.clock_hz,
            "sustained_power_w": self.power_w,
            "sustained_temperature_c": self.temperature_c,
        }


def batch(call_s: float, span_s: float) -> int:
    """How many calls of ``call_s`` fill ``span_s``.

    >>> batch(1e-3, 0.1), batch(5.0, 0.1), batch(0.0, 0.1)
    (100, 1, 10000)
    """
    return max(1, min(CALLS_AT_MOST, round(span_s / max(call_s, 1e-9))))


def sustain(call: Callable[[], Any], timer: Timer, span_s: float, call_s: float) -> Sustained:
    """Run ``call`` back to back for ``span_s``; a call takes about ``call_s``."""
    calls = batch(call_s, SUSTAIN_BATCH_S)
    begin_s = timer.now_s()
    batches: list[tuple[float, Timed]] = []
    looks: list[tuple[float, Condition]] = []

    def look() -> None:
        looks.append((timer.now_s() - begin_s, timer.condition()))

    while not batches or batches[-1][0] < span_s:
        # Looked at while it works: what slows a busy chip down is gone as soon as it waits.
        due = not looks or timer.now_s() - begin_s - looks[-1][0] >= CONDITION_EVERY_S
        timed = timer.time_burst(call, calls, look if due else None)
        batches.append((timer.now_s() - begin_s, timed))
    late = [timed for at_s, timed in batches if at_s >= TAIL * span_s]
    found = summarise(
        [condition for at_s, condition in looks if at_s >= TAIL * span_s] or [looks[-1][1]],
        [timed.clock_hz for timed in late if timed.clock_hz is not None],
    )
    return Sustained(
        span_s=batches[-1][0],
        time_s=sum(timed.time_s for timed in late) / (calls * len(late)),
        **{name: found[name] for name in ("clock_hz", "power_w", "temperature_c", "throttled")},
    )


def energy_of_call(call: Callable[[], Any], timer: Timer, call_s: float, cap_s: float) -> float | None:
    """Joules of one call: mean power between two steps of the chip's energy counter, times the mean time of a call meanwhile.

    It is the whole board's energy, idle parts and memory included. None where the chip counts none, or where ``cap_s`` is over before
    two steps far enough apart were seen.
    """
    last_j = timer.energy_j()
    if last_j is None:
        return None
    calls = batch(call_s, ENERGY_BATCH_S)
    begin_s = timer.now_s()
    first: tuple[float, float] | None = None
    busy_s, made = 0.0, 0
    while timer.now_s() - begin_s < cap_s:
        timed = timer.time_burst(call, calls)
        now_s, reading_j = timer.now_s(), timer.energy_j()
        if reading_j is None:
            return None
        if first is not None:
            busy_s, made = busy_s + timed.time_s, made + calls
        if reading_j == last_j:
            continue
        last_j = reading_j
        if first is None:
            first = now_s, reading_j
        elif now_s - first[0] >= max(ENERGY_SPAN_S, ENERGY_BATCHES * timed.time_s):
            power_w = (reading_j - first[1]) / (now_s - first[0])
            return power_w * busy_s / made
    return None
