"""A collective made ready to be timed: buffers, the call on them or a graph of calls, what comes before each burst, and the exact check.

Run with two ranks on one H200, never between GPUs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chipassay.collectives.communicator import Communicator

from ..devices.facts import DeviceFacts
from ..devices.graphs import CaptureFailed, captured
from ..timing.engine import Timer
from .buffers import Layout, Pool, slots_for
from .bursts import TURNS_AT_MOST, PlainBurst
from .case import Case, Ended, end_together, words_of
from .control import Control
from .places import Places

FOOTPRINT_MARGIN = 1.2
"""Room for what a library needs beside its buffers, as for kernels."""
GRAPH_CALLS = 128
"""Calls in one graph, at most. Some 10 us pass between a barrier and the first call of a burst, and a cold burst may be one replay: of
so many calls of 8 us each that is 1 %."""


@dataclass(frozen=True)
class Turns:
    """The collective, ready to be called."""

    case: Case
    turn: Callable[[], Any] | None
    """One call, or one replay of a graph; None on a rank that is in no group."""
    calls: int
    """In one turn: more than one in a graph, which then has every slot of the pool once."""
    pool: Pool | None
    slots: int
    """Of the pool, which turns go through."""

    def check(self, control: Control, consequence: str) -> dict[str, Any]:
        """One turn of what is timed on fresh inputs, compared with what must come out; the columns of the error.

        Raises Ended where an element is wrong on any rank, with ``consequence`` after the counts.
        """
        if self.turn is None or self.pool is None:
            wrong = 0
        elif not self.case.pattern.sized:
            self.turn()
            wrong = 0
        else:
            self.pool.refill(self.calls)
            self.pool.rewind()
            self.turn()
            wrong = self.pool.wrong(self.calls)
        counts = control.each(wrong)
        if any(counts):
            where = ", ".join(f"{int(count)} on rank {rank}" for rank, count in enumerate(counts) if count)
            raise Ended("incorrect", f"wrong elements: {where}; {consequence}", error=sum(counts), error_limit=0.0)
        return {"error": 0.0, "error_limit": 0.0} if self.case.pattern.sized and not self.case.product_is_timed else {}

    def burst(self, facts: DeviceFacts, timer: Timer, wait: Callable[[], None]) -> PlainBurst:
        """The turns with what must be done before each burst: fresh inputs where sums grew, and a cold cache where slots do not make one.

        ``wait``: until the chip has done what was queued. Inside a burst sums in place may leave the dtype: infinities take no longer
        to add.
        """
        layout, pool = self.case.layout, self.pool
        evict = self.case.request.cache == "cold" and self.slots * layout.slot_bytes < 2 * facts.cache_bytes
        spare = layout.rounds_until_refill * self.slots
        # The check comes first and leaves used slots behind.
        used = spare

        def prepare(calls: int) -> None:
            nonlocal used
            refill = used + calls > spare
            if pool is not None and refill:
                pool.refill()
                used = 0
            used += calls
            if evict:
                timer.evict_cache()
            if refill or evict:
                wait()

        in_all = max(1, self.slots // self.calls)
        return PlainBurst(
            timer,
            self.turn,
            calls_per_turn=self.calls,
            turns_at_most=in_all if evict else TURNS_AT_MOST,
            warmup_turns=in_all,
            prepare=prepare,
            align=None if self.case.communicator is None else self.case.communicator.barrier,
        )


def make_ready(case: Case, control: Control, places: Places, facts: DeviceFacts, device: str) -> Turns:
    """Buffers, filled, and the call on them. Raises Ended where a rank has no memory for them or its graph is refused."""
    layout, graph = case.layout, case.request.launch == "graph"
    # Root and the others hold different buffers, but all take as many slots.
    edges = {Layout(case.pattern, rank, layout.ranks, layout.elements, layout.dtype, layout.in_place) for rank in (0, layout.ranks - 1)}
    slot_bytes = max(edge.slot_bytes for edge in edges)
    cache_bytes = int(min(control.each(facts.cache_bytes)))
    slots = slots_for(slot_bytes, cache_bytes, case.request.cache)
    if graph:
        # One slot a call, so that sums in place stay exact; as many as still fit in half of a warm cache. No slot more: wherever the
        # calls of warming up have left the turns, the graph then holds each slot once, those that are checked among them.
        slots = min(GRAPH_CALLS, max(slots, cache_bytes // 2 // slot_bytes))
    calls = slots if graph else 1
    needed_bytes = 0.0 if case.communicator is None else FOOTPRINT_MARGIN * layout.bytes(slots)
    if case.communicator is not None and facts.kind == "cpu":
        # gloo and MPI receive into a buffer of their own before they add up.
        needed_bytes += case.size_bytes
    places.make_sure_of_memory(needed_bytes)
    pool, problem = None, ""
    if case.communicator is not None:
        try:
            pool = Pool(layout, slots, device, case.request.seed)
        except Exception as error:  # each library has a type of its own for this
            problem = words_of(error)
    end_together(control, problem, "error")
    turn = None if pool is None or case.communicator is None else _calls(case, case.communicator, pool, calls)
    if graph and turn is not None and pool is not None:
        pool.refill()
        try:
            turn = captured(turn, "torch").launch
        except CaptureFailed as error:
            problem = str(error)
    end_together(control, problem, "skipped")
    return Turns(case, turn, calls, pool, slots)


def _calls(case: Case, communicator: Communicator, pool: Pool, count: int) -> Callable[[], None]:
    """So many calls, each on the next slot."""
    call, elements, next_pair = case.pattern.call, case.layout.elements, pool.next_pair
    if count == 1 and len(pool.send) == 1:
        # Nothing to turn to: what the loop costs a call of microseconds is then the library's alone.
        return functools.partial(call, communicator, *next_pair(), elements)

    def once() -> None:
        send, receive = next_pair()
        call(communicator, send, receive, elements)

    def several() -> None:
        for _ in range(count):
            once()

    return once if count == 1 else several
