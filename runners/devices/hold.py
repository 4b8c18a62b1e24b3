"""Holding the stream before a timed call until the host has queued all of it, so that launch cost is not in the time.

nvbench blocks the stream with a kernel that waits for a flag of the host, and deadlocks when the call waits for the device. From
Python the wait is one of known length instead: as long as queueing took in the last calls, with a margin. Whether it was enough is
checked by the timer after each call (``Timed.queued``), not assumed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

SHORTEST_S = 150e-6
"""A single launch from Python takes 5 to 50 us; and the clock's timer wants 0.1 ms to be read over."""
LONGEST_S = 10e-3
"""A thousand launches. A call that waits for the device can never be queued ahead: it must not make the hold grow without bound."""
MARGIN = 1.5
"""The host is sometimes slower than it just was."""
REMEMBERED = 8
CYCLES_PER_S = 2e9
"""Near the highest clock of the listed chips: at a lower one the hold lasts longer than wanted, which costs a little wall time only."""


class Hold:
    """``begin`` starts a hold on the stream; ``learn`` tells how long the queueing took that it was to cover."""

    def __init__(self, spin: Callable[[int], None]) -> None:
        """``spin(cycles)`` queues a kernel that runs for so many cycles."""
        self._spin = spin
        self._recent_s: deque[float] = deque(maxlen=REMEMBERED)

    @property
    def duration_s(self) -> float:
        """Length of the next hold."""
        return min(LONGEST_S, max(SHORTEST_S, MARGIN * max(self._recent_s, default=0.0)))

    def begin(self) -> None:
        self._spin(round(self.duration_s * CYCLES_PER_S))

    def learn(self, queueing_s: float) -> None:
        """``queueing_s``: host time from the start of the hold to the end of queueing."""
        self._recent_s.append(queueing_s)
