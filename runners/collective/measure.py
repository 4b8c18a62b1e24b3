"""One collective as one rank measures it: exact check, samples in lock step, exact check again, and who was slow.

Not yet run on a GPU.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chipassay.collectives.communicator import Communicator
from chipassay.collectives.groups import words
from chipassay.collectives.pattern import Pattern, patterns
from chipassay.collectives.transport import Opened, Site, transports

from ..devices.cpu import CpuTimer
from ..devices.facts import DeviceFacts, host_hash
from ..devices.gpu_timers import TorchGpuTimer
from ..devices.graphs import CaptureFailed, captured
from ..devices.memory import free_bytes, release_pools
from ..measure_kernel import OUT_OF_MEMORY
from ..plausibility import THROTTLED
from ..timing.columns import time_columns
from ..timing.condition import summarise
from ..timing.engine import Timer
from ..timing.statistics import median
from ..timing.stopping import PreciseMedian
from .buffers import Layout, Pool, slots_for, torch_dtype
from .bursts import TURNS_AT_MOST, Burst, PlainBurst, Sampled, Settled, Together
from .control import Control
from .heartbeat import Heartbeat
from .link import ABOVE_LINK, above_link, link_bytes_per_s, wire_columns
from .overlap import MORE, PRODUCT_FAILED, OverlapBurst, StreamBackground, ThreadBackground, matrix_product
from .request import CollectiveRequest
from .straggler import ONE_SLOW, chip_hash, find_straggler, local_work

COLLECTIVE_METHOD_VERSION = 3
"""Raised whenever a change in this room moves results. 2: a sample was one call of a batch, each timed. 3: a sample is a burst of calls
back to back over their number; small messages are cold too."""
FOOTPRINT_MARGIN = 1.2
"""Room for what a library needs beside its buffers, as for kernels."""
GRAPH_CALLS = 32
"""Calls in one graph: launching it costs the host once, and each call's share of that is small."""
NEVER_OUTLASTED = "what ran beside it ended too early every time: it cannot be queued as fast as it runs"


def make_timer(facts: DeviceFacts, index: int) -> Timer:
    """The clock of this rank's chip."""
    return CpuTimer(facts) if facts.kind == "cpu" else TorchGpuTimer(facts, index)


class Ended(Exception):
    """The measurement ends here, on every rank, with the columns of its row."""

    def __init__(self, status: str, reason: str, **columns: Any) -> None:
        super().__init__(reason)
        self.columns = {**columns, "status": status, "reason": reason[:500]}


@dataclass(frozen=True)
class Case:
    """A request as this rank sees it."""

    request: CollectiveRequest
    pattern: Pattern
    communicator: Communicator | None
    """None: the rank is in no group."""
    layout: Layout
    participants: tuple[int, ...]
    """Ranks of the job that are in a group, in the order of the groups."""
    seed: int

    @property
    def size_bytes(self) -> int:
        return self.layout.elements * self.layout.itemsize

    @property
    def flops(self) -> float:
        beside = self.request.beside or {}
        return 2.0 * beside["m"] * beside["n"] * beside["k"]

    @property
    def product_is_timed(self) -> bool:
        return self.request.beside is not None and self.request.timed == "beside"


@dataclass(frozen=True)
class Turns:
    """The collective, ready to be called."""

    turn: Callable[[], Any] | None
    calls: int
    """In one turn: more than one in a graph. They take the first slots of the pool, one each."""
    pool: Pool | None
    slots: int


class CollectiveMeasurer:
    """One rank's side of the measurements. Every rank must call ``measure`` with the same requests in the same order."""

    def __init__(self, facts: DeviceFacts, timer: Timer, rank: int, ranks: int) -> None:
        """``torch.distributed`` must be initialised with a backend for tensors of the CPU. Every rank makes its own at the same time."""
        import torch

        self.facts, self.timer, self.rank, self.ranks = facts, timer, rank, ranks
        self.torch = torch
        self.device = "cpu" if facts.kind == "cpu" else f"cuda:{torch.cuda.current_device()}"
        self.control = Control(rank, ranks)
        self.heartbeat = Heartbeat(rank, ranks)
        self.opened: dict[str, Opened] = {}
        self.hosts = self.control.texts(host_hash())
        self.chips = self.control.texts(self._chip())

    def measure(self, request: CollectiveRequest) -> dict[str, Any]:
        """The columns of one row, on every rank; rank 0's are written.

        What one rank alone runs into (no memory, a capture that is refused) is told to all and becomes the row's status. What a
        transport raises ends the process: the other ranks may hang in the call, and the parent knows what to do.
        """
        begin_s = time.perf_counter()
        self.heartbeat.beat()
        opened = self._opened(request.transport)
        case = self._case(request, opened.group(request.members))
        columns = self._identity(case, opened)
        try:
            columns |= self._measured(case, opened)
        except Ended as ended:
            columns |= ended.columns
        release_pools()
        return {**columns, "wall_s": time.perf_counter() - begin_s}

    def _case(self, request: CollectiveRequest, communicator: Communicator | None) -> Case:
        pattern, group_size = patterns()[request.op], len(request.members[0])
        rank = 0 if communicator is None else communicator.rank
        elements = pattern.elements(request.size_bytes, torch_dtype(request.dtype).itemsize, group_size)
        layout = Layout(pattern, rank, group_size, elements, request.dtype, request.in_place)
        participants = tuple(itertools.chain.from_iterable(request.members))
        return Case(request, pattern, communicator, layout, participants, request.seed)

    def _identity(self, case: Case, opened: Opened) -> dict[str, Any]:
        request, group_size = case.request, case.layout.ranks
        nodes = len({self.hosts[rank] for rank in case.participants})
        shared = {
            "group_size": group_size,
            "members": None if group_size == self.ranks else words(request.members),
            "chip_count": nodes if self.facts.kind == "cpu" else len({self._place(rank) for rank in case.participants}),
            "node_count": nodes,
            "cache": request.cache,
            "launch": request.launch,
            "threads": self.torch.get_num_threads() if self.facts.kind == "cpu" else None,
            "libraries": ";".join(f"{name}={version}" for name, version in opened.versions().items()),
        }
        if case.product_is_timed:
            return {**shared, "op": "matmul", **(request.beside or {}), "layout": "nn", "backend": "torch", "kernel": "torch.mm"}
        return {
            **shared,
            "op": request.op,
            "dtype": request.dtype,
            "elements": case.layout.elements,
            "size_bytes": case.size_bytes,
            "bytes": case.size_bytes,
            "in_place": request.in_place,
            "backend": transports()[request.transport].backend(self.facts.kind),
            "kernel": f"{request.transport}.{request.op}",
            "data": "exact_integers" if case.pattern.sized else None,
        }

    def _measured(self, case: Case, opened: Opened) -> dict[str, Any]:
        request = case.request
        together = Together(self.control, self.timer, self.heartbeat, len(case.participants))
        turns = self._ready(case)
        columns = self._checked(case, turns, "not timed")
        begin_s = self.timer.now_s()
        rule = PreciseMedian(min_time_s=request.min_time_s, time_cap_s=request.time_cap_s)
        plain = self._burst(case, turns)
        settled = together.settle(plain)
        if request.beside is None:
            timed, sampled = settled, together.sample([plain], [settled.turns], rule)
        else:
            plain, timed, sampled = self._beside(case, plain, settled, together, rule)
        if sampled.stop_reason is None:
            raise Ended("error", NEVER_OUTLASTED)
        measuring_s = self.timer.now_s() - begin_s
        columns |= self._checked(case, turns, "found after the samples, which are not kept")
        columns |= self._times(case, plain, timed, sampled)
        columns |= self._rates(case, columns["time_median_s"], opened)
        flags = [THROTTLED] if columns.get("throttled") else []
        if self._above_link(case, columns):
            flags.append(ABOVE_LINK)
        if not request.checked:
            member = self.rank in case.participants
            work = local_work(case.size_bytes, self.device) if member else None
            found = find_straggler(self.control, self.timer, self.heartbeat, case.participants, work)
            columns |= {
                "straggler_rank": found.rank,
                "straggler_hash": chip_hash(self.hosts[found.rank], self.chips[found.rank]),
                "straggler_ratio": found.ratio,
            }
            if found.slow:
                flags.append(ONE_SLOW)
        return {**columns, "measuring_s": measuring_s, "flags": ";".join(flags) or None, "status": "ok"}

    # What is timed

    def _ready(self, case: Case) -> Turns:
        """Buffers, filled, and the call on them. Raises Ended where a rank has no memory for them or its graph is refused."""
        layout, graph = case.layout, case.request.launch == "graph"
        # Root and the others hold different buffers, but all take as many slots.
        edges = {Layout(case.pattern, rank, layout.ranks, layout.elements, layout.dtype, layout.in_place) for rank in (0, layout.ranks - 1)}
        slot_bytes = max(edge.slot_bytes for edge in edges)
        cache_bytes = int(-max(self.control.each(-self.facts.cache_bytes)))
        slots = slots_for(slot_bytes, cache_bytes, case.request.cache)
        if graph:
            # One slot a call, so that sums in place stay exact; as many as still fit in half of a warm cache.
            slots = max(slots, min(GRAPH_CALLS, cache_bytes // 2 // slot_bytes))
        self._make_sure_of_memory(case, slots)
        pool, problem = None, ""
        if case.communicator is not None:
            try:
                pool = Pool(layout, slots, self.device, case.seed)
            except Exception as error:  # each library has a type of its own for this
                problem = _words(error)
        self._end_if_any(problem, "error")
        calls = min(GRAPH_CALLS, slots) if graph else 1
        turn = None if pool is None or case.communicator is None else _calls(case, case.communicator, pool, calls)
        if graph and turn is not None and pool is not None:
            pool.refill()
            try:
                turn = captured(turn, "torch").launch
            except CaptureFailed as error:
                problem = str(error)
        self._end_if_any(problem, "skipped")
        return Turns(turn, calls, pool, slots)

    def _burst(self, case: Case, turns: Turns) -> PlainBurst:
        """The turns with what must be done before each burst: fresh inputs where sums grew, and a cold cache where slots do not make one.

        Inside a burst sums in place may leave the dtype: infinities take no longer to add.
        """
        pool, layout = turns.pool, case.layout
        slots = turns.calls if case.request.launch == "graph" else turns.slots
        evict = case.request.cache == "cold" and slots * layout.slot_bytes < 2 * self.facts.cache_bytes
        spare = layout.rounds_until_refill * slots
        # The check comes first and leaves used slots behind.
        used = spare

        def prepare(calls: int) -> None:
            nonlocal used
            refill = pool is not None and used + calls > spare
            if pool is not None and refill:
                pool.refill()
                used = 0
            used += calls
            if evict:
                self.timer.evict_cache()
            if refill or evict:
                self._wait()

        at_most = max(1, slots // turns.calls) if evict else TURNS_AT_MOST
        return PlainBurst(
            self.timer,
            turns.turn,
            calls_per_turn=turns.calls,
            turns_at_most=at_most,
            warmup_turns=max(1, slots // turns.calls),
            prepare=prepare,
        )

    def _beside(
        self, case: Case, plain: PlainBurst, settled: Settled, together: Together, rule: PreciseMedian
    ) -> tuple[PlainBurst, Settled, Sampled]:
        """The collective beside the matrix product, or the reverse, in turns with the same thing alone; what was timed, and how."""
        product, problem = None, ""
        if case.communicator is not None:
            try:
                beside = case.request.beside or {}
                product = matrix_product(beside["m"], beside["n"], beside["k"], beside["dtype"], self.device, case.seed)
            except Exception as error:  # torch has several types for what it cannot multiply
                problem = f"{PRODUCT_FAILED}: {_words(error)}"
        self._end_if_any(problem, "skipped")
        products = PlainBurst(self.timer, product)
        settled_product = together.settle(products)
        timed, other, alone, calls_s = plain, product, settled, settled_product.turn_s
        if case.product_is_timed:
            timed, other, alone, calls_s = products, plain.turn, settled_product, settled.turn_s
        background = None
        if other is not None:
            background = ThreadBackground(other) if self.facts.kind == "cpu" else StreamBackground(other)
        # One rank says how many: all make as many calls.
        share = self.control.first(MORE * alone.turn_s / max(calls_s, 1e-9))
        bursts: list[Burst] = [OverlapBurst(timed, background, share), timed]
        return timed, alone, together.sample(bursts, [alone.turns, alone.turns], rule)

    def _checked(self, case: Case, turns: Turns, consequence: str) -> dict[str, Any]:
        """One turn of what is timed on fresh inputs, compared with what must come out. Raises Ended where an element is wrong."""
        if not case.pattern.sized:
            if turns.turn is not None:
                turns.turn()
            self.control.barrier()
            return {}
        wrong = 0
        if turns.pool is not None and turns.turn is not None:
            turns.pool.refill(turns.calls)
            turns.pool.rewind()
            turns.turn()
            wrong = turns.pool.wrong(turns.calls)
        self.heartbeat.beat()
        counts = self.control.each(wrong)
        if any(counts):
            where = ", ".join(f"{int(count)} on rank {rank}" for rank, count in enumerate(counts) if count)
            raise Ended("incorrect", f"wrong elements: {where}; {consequence}", error=sum(counts), error_limit=0.0)
        return {} if case.product_is_timed else {"error": 0.0, "error_limit": 0.0}

    # Columns

    def _times(self, case: Case, timed: PlainBurst, settled: Settled, sampled: Sampled) -> dict[str, Any]:
        taken = sampled.taken[0]
        every_s = self.control.each(median(taken.own_s))
        ranks_s = [every_s[rank] for rank in case.participants]
        return {
            "method_version": COLLECTIVE_METHOD_VERSION,
            "clock_source": self.timer.clock_source,
            "warmup_count": settled.calls,
            "sample_count": len(taken.mean_s),
            "calls_per_sample": settled.turns * timed.calls_per_turn,
            "stop_reason": sampled.stop_reason,
            **time_columns(taken.mean_s),
            "alone_time_s": median(sampled.taken[1].mean_s) if len(sampled.taken) > 1 else None,
            "rank_times_s": tuple(ranks_s),
            "slowest_rank_time_s": max(ranks_s),
            "fastest_rank_time_s": min(ranks_s),
            "median_rank_time_s": median(ranks_s),
            **summarise(sampled.conditions),
        }

    def _rates(self, case: Case, time_s: float, opened: Opened) -> dict[str, Any]:
        if case.product_is_timed:
            return {"flops": case.flops, "rate_flops_per_s": case.flops / time_s}
        backend, ranks = transports()[case.request.transport].backend(self.facts.kind), case.layout.ranks
        if not case.pattern.sized:
            return {}
        algbw = case.size_bytes / time_s
        return {
            "algbw_bytes_per_s": algbw,
            "busbw_bytes_per_s": algbw * case.pattern.bus_factor(ranks),
            **wire_columns(case.request.op, backend, ranks, case.size_bytes, time_s, os.environ, opened.versions()),
        }

    def _above_link(self, case: Case, columns: dict[str, Any]) -> bool:
        if case.product_is_timed:
            return False
        nodes = len({self.hosts[rank] for rank in case.participants})
        link = link_bytes_per_s(self.facts.chip_id, case.layout.ranks, nodes)
        carried = columns.get("wire_bytes_per_s")
        return above_link(case.request.op, case.layout.ranks, case.size_bytes, columns["time_median_s"], carried, link)

    # Site

    def _opened(self, name: str) -> Opened:
        if name not in self.opened:
            site = Site(self.rank, self.ranks, self.facts.kind, self.device, self.control.share)
            self.opened[name] = transports()[name].open(site)
        return self.opened[name]

    def _make_sure_of_memory(self, case: Case, slots: int) -> None:
        """Raises Ended where a rank's memory, or what ranks of one host or chip share, does not hold their buffers."""
        needed = 0.0 if case.communicator is None else FOOTPRINT_MARGIN * case.layout.bytes(slots)
        if case.communicator is not None and self.facts.kind == "cpu":
            # gloo and MPI receive into a buffer of their own before they add up.
            needed += case.size_bytes
        release_pools()
        free = free_bytes(self.facts)
        needs, frees = self.control.each(needed), self.control.each(-1.0 if free is None else free)
        for rank, own in enumerate(needs):
            shared = sum(need for other, need in enumerate(needs) if self._place(other) == self._place(rank))
            if own and 0 <= frees[rank] < shared:
                together = "" if shared == own else f", {shared / 1e9:.3g} GB with the ranks beside it"
                raise Ended("out_of_memory", f"rank {rank} needs {own / 1e9:.3g} GB{together}; {frees[rank] / 1e9:.3g} GB are free")

    def _place(self, rank: int) -> tuple[str, str]:
        """What ranks share memory in: a chip, or the host of CPU ranks."""
        return self.hosts[rank], "" if self.facts.kind == "cpu" else self.chips[rank]

    def _chip(self) -> str:
        """Which chip of its host this rank drives."""
        if self.facts.kind == "cpu":
            return f"rank {self.rank}"
        properties = self.torch.cuda.get_device_properties(self.device)
        # Older torch knows no uuid.
        return str(getattr(properties, "uuid", self.device))

    def _wait(self) -> None:
        if self.facts.kind != "cpu":
            self.torch.cuda.synchronize()

    def _end_if_any(self, problem: str, status: str) -> None:
        """Raises Ended on all ranks where one has a problem."""
        problems = {rank: text for rank, text in enumerate(self.control.texts(problem)) if text}
        if problems:
            rank, text = next(iter(problems.items()))
            no_memory = any(part in text.lower() for part in ("memoryerror", *OUT_OF_MEMORY))
            raise Ended("out_of_memory" if no_memory else status, f"rank {rank}: {text}")


def _calls(case: Case, communicator: Communicator, pool: Pool, count: int) -> Callable[[], None]:
    """So many calls, each on the next slot."""
    call, elements, next_pair = case.pattern.call, case.layout.elements, pool.next_pair

    def once() -> None:
        send, receive = next_pair()
        call(communicator, send, receive, elements)

    def several() -> None:
        for _ in range(count):
            once()

    return once if count == 1 else several


def _words(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:400]
