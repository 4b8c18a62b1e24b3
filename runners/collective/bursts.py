"""Samples that all ranks take together: a burst of calls back to back from a barrier, over their number, and the mean over ranks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..timing.condition import Condition
from ..timing.engine import CONDITION_EVERY_S, Timer
from ..timing.stopping import StoppingRule
from .control import Control
from .heartbeat import Heartbeat

BURST_S = 2e-3
"""A burst lasts about so long, or one call. Ranks come out of a control message up to hundreds of microseconds apart, out of the
transport's own barrier, which follows, a few: less than 1 % of it. nccl-tests' default is 20 calls, whatever they take."""
NEARLY = 0.7
"""A burst that lasts this share of BURST_S is long enough."""
GROWTH_AT_MOST = 4
"""The first calls are slow and would make bursts too short: turns grow step by step."""
TURNS_AT_MOST = 4096
STEPS_AT_MOST = 16
WARMUP_CALLS = 3
"""The first call pays for connections and lazy initialisation, the second often for allocation."""
LOOKS_AT_LEAST = 2
"""One look at how long a burst takes may have been interrupted."""
LATE_AT_MOST = 12
"""So often in a row what runs beside may end too early; its number grows each time by half, a hundredfold in all."""


@dataclass(frozen=True)
class Ran:
    """One burst on one rank."""

    time_s: float
    outlasted: bool = True
    """What ran beside it was still running when it ended, or nothing ran beside it."""


class Burst(Protocol):
    """What a rank runs between two control messages. A turn is one call, or one replay of a graph of calls."""

    calls_per_turn: int
    turns_at_most: int
    warmup_turns: int
    """So many use each buffer once: transports keep what they make for a buffer at its first call."""

    def prepare(self, turns: int) -> None:
        """Make inputs and cache ready for ``run`` with so many turns, and wait until they are."""

    def run(self, turns: int) -> Ran:
        """Make the turns; seconds by this rank's timer, 0 where the rank has none."""

    def again(self, turns: int) -> None:
        """On some rank what ran beside ended too early: make more of it from now on."""


class PlainBurst:
    """Turns with nothing beside them."""

    def __init__(
        self,
        timer: Timer,
        turn: Callable[[], Any] | None,
        *,
        calls_per_turn: int = 1,
        turns_at_most: int = TURNS_AT_MOST,
        warmup_turns: int = 1,
        prepare: Callable[[int], None] | None = None,
        align: Callable[[], None] | None = None,
    ) -> None:
        """``turn``: None on a rank that has nothing to do; ``prepare``: told how many calls come; ``align``: brings the ranks of the
        group together by the transport itself right before a burst."""
        self.timer, self.turn, self.calls_per_turn, self.turns_at_most = timer, turn, calls_per_turn, turns_at_most
        self.warmup_turns, self._prepare, self._align = warmup_turns, prepare, align

    def prepare(self, turns: int) -> None:
        if self._prepare is not None and self.turn is not None:
            self._prepare(turns * self.calls_per_turn)

    def align(self) -> None:
        """Bring the ranks together: right before the burst, outside its time."""
        if self._align is not None:
            self._align()

    def run(self, turns: int) -> Ran:
        if self.turn is None:
            return Ran(0.0)
        self.align()
        return Ran(self.timer.time_burst(self.turn, turns).time_s)

    def again(self, turns: int) -> None:
        pass


@dataclass(frozen=True)
class Settled:
    """How a burst is to be run from now on."""

    turns: int
    turn_s: float
    """One turn, the mean over ranks, in the fastest burst."""
    calls: int
    """Made so far."""


@dataclass
class Taken:
    """Times of one call, of each burst that counts: the mean over ranks, and this rank's own."""

    mean_s: list[float] = field(default_factory=list)
    own_s: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Sampled:
    """What was taken of each burst, in turns."""

    taken: tuple[Taken, ...]
    stop_reason: str | None
    """None: what ran beside never outlasted the burst, and there are too few samples."""
    conditions: tuple[Condition, ...]


@dataclass(frozen=True)
class Together:
    """What all ranks of the job need to take samples in lock step."""

    control: Control
    timer: Timer
    heartbeat: Heartbeat
    participants: int
    """Ranks that are in a group, over which means are taken."""

    def settle(self, burst: Burst) -> Settled:
        """Warm up, and find how many turns make a burst of BURST_S. The same answer on every rank."""
        burst.prepare(burst.warmup_turns)
        burst.run(burst.warmup_turns)
        turns, calls, fastest_s = 1, burst.warmup_turns * burst.calls_per_turn, math.inf
        for look in range(1, STEPS_AT_MOST + 1):
            burst.prepare(turns)
            self.control.barrier()
            ran = burst.run(turns)
            self.heartbeat.beat()
            turn_s = self.control.sums([ran.time_s])[0] / self.participants / turns
            # The fastest so far: an interruption would make all later bursts too short.
            fastest_s = min(fastest_s, turn_s)
            calls += turns * burst.calls_per_turn
            before, turns = turns, int(self.control.first(_next(turns, fastest_s, burst.turns_at_most)))
            if turns == before and calls >= WARMUP_CALLS and look >= LOOKS_AT_LEAST:
                break
        return Settled(turns, fastest_s, calls)

    def sample(self, bursts: Sequence[Burst], turns: Sequence[int], rule: StoppingRule) -> Sampled:
        """Run the bursts in turns until rank 0's rule has enough of the first. One message a burst: its sum over ranks says what the
        burst took, releases the next, and tells all to stop once rank 0 has had enough, one burst later than it knew.
        """
        control, timer = self.control, self.timer
        taken = tuple(Taken() for _ in bursts)
        conditions, last_look_s = [timer.condition()], timer.now_s()
        reason: str | None = None
        late_in_a_row = [0] * len(bursts)
        bursts[0].prepare(turns[0])
        control.barrier()
        rule.start(timer.now_s())
        while True:
            for index, burst in enumerate(bursts):
                ran = burst.run(turns[index])
                self.heartbeat.beat()
                following = (index + 1) % len(bursts)
                bursts[following].prepare(turns[following])
                # Only rank 0's row is written; the others wait for it in the message.
                if control.rank == 0 and timer.now_s() - last_look_s >= CONDITION_EVERY_S:
                    conditions.append(timer.condition())
                    last_look_s = timer.now_s()
                own_s = ran.time_s / (turns[index] * burst.calls_per_turn)
                # Rank 0 decides alone: the others' clocks differ.
                stop = 1.0 if reason and control.rank == 0 else 0.0
                total_s, late, stopped = control.sums([own_s, 0.0 if ran.outlasted else 1.0, stop])
                if late:
                    burst.again(turns[index])
                    late_in_a_row[index] += 1
                else:
                    late_in_a_row[index] = 0
                    taken[index].mean_s.append(total_s / self.participants)
                    taken[index].own_s.append(own_s)
                    if index == 0:
                        rule.add(taken[0].mean_s[-1], timer.now_s())
                        reason = reason or rule.finished()
                if (stopped and all(each.mean_s for each in taken)) or late_in_a_row[index] > LATE_AT_MOST:
                    conditions.append(timer.condition())
                    # Only rank 0's row is written, and only its rule was asked in time.
                    return Sampled(taken, (reason or "") if stopped else None, tuple(conditions))


def _next(turns: int, turn_s: float, at_most: int) -> int:
    """How many turns the next burst has: as many if they are long enough."""
    if turns * turn_s >= NEARLY * BURST_S:
        return turns
    return max(1, min(at_most, GROWTH_AT_MOST * turns, math.ceil(BURST_S / max(turn_s, 1e-9))))
