"""The chip's clock around a call, read on the chip itself: cycles counted over nanoseconds passed, no root needed.

Before and after the call a tiny kernel on the same stream writes, from each multiprocessor it lands on, the multiprocessor's number,
its cycle counter and the chip's nanosecond timer. For a multiprocessor seen both times, cycles over nanoseconds is its mean clock in
between (the way of nvbench's ``gpu_frequency``). Both stamps lie outside the event pair, so they cost the call nothing. Where the
stream is held before the call, the hold lies between the stamps: a short call's clock is that of the 0.1 ms around it, which the timer
can resolve; nothing changes its clock faster. Run on an H200.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .facts import DeviceFacts

UNIT, CYCLES, NANOSECONDS = 0, 1, 2
"""Columns of a stamp."""
FEWEST_TICKS = 50
"""Either reading of the nanosecond timer is late by up to one tick (32 ns to about 1 us, by chip): over 50 that is 4 % at worst for
one multiprocessor; the median over all of them and over the samples is far closer."""
PLAUSIBLE_HZ = (5e7, 5e9)
"""A clock outside is a misread counter."""
TICK_STAMPS = 20
"""Stamps taken to learn the tick: together thousands of readings within a millisecond."""
TRIAL_S = 2e-3
"""A first reading over an interval that any timer resolves."""


def clock_hz(before: np.ndarray, after: np.ndarray, tick_ns: float) -> float | None:
    """Median clock of the multiprocessors that both stamps saw; None where the interval is too short for the timer, or nonsense.

    Stamps are int64 of shape (programs, 3): multiprocessor, cycles, nanoseconds.

    >>> clock_hz(np.array([[0, 1000, 0], [1, 5000, 0]]), np.array([[1, 185_000, 100_000], [0, 181_000, 100_000]]), tick_ns=32)
    1800000000.0
    """
    _, first, second = np.intersect1d(before[:, UNIT], after[:, UNIT], return_indices=True)
    cycles = after[second, CYCLES] - before[first, CYCLES]
    passed_ns = after[second, NANOSECONDS] - before[first, NANOSECONDS]
    resolved = (passed_ns >= FEWEST_TICKS * tick_ns) & (cycles > 0)
    if not resolved.any():
        return None
    found = float(np.median(cycles[resolved] / passed_ns[resolved])) * 1e9
    return found if PLAUSIBLE_HZ[0] <= found <= PLAUSIBLE_HZ[1] else None


def smallest_step(readings: np.ndarray) -> float | None:
    """The tick of a timer: the smallest difference between unequal readings, which is never less than one tick. None: all are equal.

    >>> smallest_step(np.array([1024, 0, 1024, 3072]))
    1024.0
    """
    steps = np.diff(np.unique(readings))
    return float(steps.min()) if len(steps) else None


class Stamper(Protocol):
    """The library's side: two stamp buffers on the device."""

    library: str

    def stamp(self, which: int) -> None:
        """Queue the kernel that fills buffer 0 or 1."""

    def fetch(self) -> np.ndarray:
        """Both buffers, int64 of shape (2, programs, 3); waits for the stream."""


@dataclass
class ChipClock:
    """A clock that can be read around calls: ``before()``, the call, ``after()``, wait, ``read()``."""

    stamper: Stamper
    tick_ns: float

    def before(self) -> None:
        self.stamper.stamp(0)

    def after(self) -> None:
        self.stamper.stamp(1)

    def read(self) -> float | None:
        """Clock between the last two stamps; None where they are too close for the timer."""
        first, second = self.stamper.fetch()
        return clock_hz(first, second, self.tick_ns)


def calibrated(stamper: Stamper, wait: Callable[[float], None] = time.sleep) -> ChipClock | None:
    """The clock with its tick learned and a first reading made; None where that reading is no clock."""
    readings = []
    for _ in range(TICK_STAMPS):
        stamper.stamp(0)
        stamper.stamp(1)
        readings.append(stamper.fetch()[..., NANOSECONDS].ravel())
    tick_ns = smallest_step(np.concatenate(readings))
    if tick_ns is None:
        return None
    clock = ChipClock(stamper, tick_ns)
    clock.before()
    stamper.fetch()
    wait(TRIAL_S)
    clock.after()
    return clock if clock.read() is not None else None


def open_clock(facts: DeviceFacts, index: int = 0) -> tuple[ChipClock | None, str]:
    """The chip's clock through Triton, else through CuPy, and in words how it is read; None with the reasons where it cannot be."""
    if facts.kind not in ("cuda", "rocm"):
        return None, f"the counters of a {facts.kind} device are not read yet"
    reasons = []
    for library, make in (("Triton", _triton_stamper), ("CuPy", _cupy_stamper)):
        try:
            clock = calibrated(make(facts, index))
        except Exception as error:  # compilers and drivers raise types of their own; without a clock the chip is measured all the same
            words = str(error).strip().splitlines()
            reasons.append(f"{library}: {type(error).__name__}{f' ({words[0][:160]})' if words else ''}")
            continue
        if clock is not None:
            return clock, f"read on the chip around each call, through {library}; its timer steps by {clock.tick_ns:.0f} ns"
        reasons.append(f"{library}: the counters do not read like a clock")
    return None, f"cannot be read on the chip ({'; '.join(reasons)})"


def _triton_stamper(facts: DeviceFacts, index: int) -> Stamper:
    from .stamp_triton import TritonStamper

    return TritonStamper(facts, index)


def _cupy_stamper(facts: DeviceFacts, index: int) -> Stamper:
    from .stamp_cupy import CupyStamper

    return CupyStamper(facts, index)
