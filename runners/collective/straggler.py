"""Which rank is slow: collectives in lock step make all ranks wait for it alike, so each is given the same work to do alone.

The work reads and writes as many bytes as the collective does, on the same chip, on all ranks at the same moment, and needs no other
rank: what takes longer there is the rank's own (a chip that is hot or shared, a host that another job uses), not the network's.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..timing.engine import Timer
from ..timing.statistics import median, percentile
from .control import Control
from .heartbeat import Heartbeat

WORK_S = 6e-3
"""One repetition: two of a scheduler's slices of some 3 ms (Linux, base_slice_ns), so that a rank that shares its core is seen to."""
GROWTH_AT_MOST = 8
STEPS_AT_MOST = 12
REPETITIONS = 7
WORK_BYTES = (4096, 32 * 2**20)
"""Fewer bytes would time the call, more add seconds and say nothing new."""
SLOW_RATIO = 1.1
"""Above this share of the others a rank holds the group up by more than the differences people compare chips for."""
ONE_SLOW = "one rank is slow"


@dataclass(frozen=True)
class Straggler:
    """The rank whose own work takes longest."""

    rank: int
    """Of the job."""
    ratio: float
    """Its median time over the median of all."""
    slow: bool
    """By more than SLOW_RATIO, noise left aside."""


def chip_hash(host: str, chip: str) -> str:
    """Which chip in which machine, without their names: 12 hex digits.

    >>> chip_hash("a", "b") == chip_hash("a", "b") != chip_hash("a", "c")
    True
    """
    return hashlib.sha256(f"{host}/{chip}".encode()).hexdigest()[:12]


def local_work(size_bytes: int, device: str) -> Callable[[], Any]:
    """A call that reads and writes about so many bytes on the rank's own chip."""
    import torch

    low, high = WORK_BYTES
    source = torch.ones(min(max(size_bytes, low), high) // 4, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return lambda: torch.add(source, 1.0, out=target)


def find_straggler(
    control: Control, timer: Timer, heartbeat: Heartbeat, members: Sequence[int], work: Callable[[], Any] | None
) -> Straggler:
    """The straggler among the ranks in ``members``; the same answer on every rank. ``work``: None on a rank that is not among them."""

    def timed_s(calls: int) -> float:
        heartbeat.beat()
        return 0.0 if work is None else timer.time_burst(work, calls).time_s

    calls, call_s = 1, math.inf
    for _ in range(STEPS_AT_MOST):
        # By the fastest rank and look: one that is held up must not make the work short.
        control.barrier()
        each_s = control.each(timed_s(calls))
        call_s = min(call_s, max(min(each_s[rank] for rank in members), 1e-9) / calls)
        before, calls = calls, int(control.first(min(GROWTH_AT_MOST * calls, math.ceil(WORK_S / call_s))))
        if calls <= before:
            break
    # No message in between: waiting for one would let a rank that is held up rest, and begin each repetition when it may run.
    control.barrier()
    ordered = sorted(timed_s(calls) for _ in range(REPETITIONS))
    quartiles = [control.each(percentile(ordered, fraction)) for fraction in (0.25, 0.5, 0.75)]
    return judged(*([each[rank] for rank in members] for each in quartiles), members=members)


def judged(low_s: Sequence[float], middle_s: Sequence[float], high_s: Sequence[float], *, members: Sequence[int]) -> Straggler:
    """The straggler by the quartiles of each member's times. It is slow where three quarters of its times are above SLOW_RATIO times
    what three quarters of the others' are below.

    >>> judged([1, 1, 2], [1, 1, 2.5], [1.1, 1.1, 3], members=(4, 5, 6))
    Straggler(rank=6, ratio=2.5, slow=True)
    >>> judged([1, 1, 1], [1, 1, 2.5], [2, 2, 3], members=(4, 5, 6)).slow
    False
    """
    worst = max(range(len(members)), key=lambda index: middle_s[index])
    ratio = middle_s[worst] / median(middle_s)
    others = [high_s[index] for index in range(len(members)) if index != worst]
    slow = bool(others) and ratio > SLOW_RATIO and low_s[worst] > SLOW_RATIO * median(others)
    return Straggler(members[worst], ratio, slow)
