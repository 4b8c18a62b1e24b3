"""A hard end: what runs when the budget is over is stopped, so that what was measured is still told in order."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class BudgetSpent(BaseException):
    """The budget is over. Not an Exception: libraries that catch those while they compile must not keep it."""


class Deadline:
    """``budget_s`` from now on; None: no end."""

    def __init__(self, budget_s: float | None) -> None:
        self._end_s = math.inf if budget_s is None else time.perf_counter() + budget_s
        self.budget_s = budget_s

    @property
    def left_s(self) -> float:
        return self._end_s - time.perf_counter()

    def check(self) -> None:
        """Raise BudgetSpent once it is over: called between steps, for platforms and threads without an alarm."""
        if self.left_s <= 0:
            raise BudgetSpent

    @contextmanager
    def alarm(self) -> Iterator[None]:
        """Within this, BudgetSpent is raised as soon as the budget is over, where the platform has alarms and this is the main thread."""
        able = hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()
        if not able or math.isinf(self._end_s):
            yield
            return

        def ring(number: int, frame: Any) -> None:
            raise BudgetSpent

        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, max(self.left_s, 1e-3))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            signal.signal(signal.SIGALRM, before)
