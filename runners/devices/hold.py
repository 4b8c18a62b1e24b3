"""Holding the stream before a timed call until the host has queued all of it, so that launch cost is not in the time.

nvbench blocks the stream with a kernel that waits for a flag of the host, and deadlocks when the call waits for the device. From
Python the wait is one of known length instead: as long as queueing took in the last calls, with a margin. Whether it was enough is
checked by the timer after each call (``Timed.queued``), not assumed. Run on an H200.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

SHORTEST_S = 150e-6
"""A single launch from Python takes 5 to 50 us; and the clock's timer wants 0.1 ms to be read over."""
LONGEST_S = 10e-3
"""A thousand launches."""
MARGIN = 1.5
"""The host is sometimes slower than it just was."""
REMEMBERED = 8
FUTILE = 4
"""A hold half as long again as the last queueing, and still too short, so often in a row: the call waits for the device, which no hold
can help. It is then held no longer than a single launch needs."""
CYCLES_PER_S = 2e9
"""Near the highest clock of the listed chips: at a lower one the hold lasts longer than wanted, which costs a little wall time only."""


class Hold:
    """``begin`` starts a hold on the stream; ``learn`` tells how long the queueing took that it was to cover.

    >>> hold = Hold(lambda cycles: None)
    >>> hold.learn(2e-3, enough=False)
    >>> hold.duration_s
    0.003
    """

    def __init__(self, spin: Callable[[int], None]) -> None:
        """``spin(cycles)`` queues a kernel that runs for so many cycles."""
        self._spin = spin
        self._recent_s: deque[float] = deque(maxlen=REMEMBERED)
        self._too_short = 0

    @property
    def duration_s(self) -> float:
        """Length of the next hold."""
        if self._too_short >= FUTILE:
            return SHORTEST_S
        return min(LONGEST_S, max(SHORTEST_S, MARGIN * max(self._recent_s, default=0.0)))

    def begin(self) -> None:
        self._spin(round(self.duration_s * CYCLES_PER_S))

    def learn(self, queueing_s: float, enough: bool) -> None:
        """``queueing_s``: host time from the start of the hold to the end of queueing; ``enough``: the hold outlasted it."""
        self._recent_s.append(queueing_s)
        self._too_short = 0 if enough else self._too_short + 1

    def forget(self) -> None:
        """The next call is another one."""
        self._recent_s.clear()
        self._too_short = 0
