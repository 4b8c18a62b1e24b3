"""One collective as one rank measures it: exact check, samples in lock step, exact check again, and who was slow.

Run with two ranks on one H200, never between GPUs.
"""

from __future__ import annotations

import os
import time
from typing import Any

from chipassay.collectives.groups import words
from chipassay.collectives.pattern import patterns
from chipassay.collectives.transport import Ask, Opened, Site, transports

from ..devices.cpu import CpuTimer
from ..devices.facts import DeviceFacts
from ..devices.gpu_timers import TorchGpuTimer
from ..devices.memory import release_pools
from ..plausibility import THROTTLED
from ..timing.columns import time_columns
from ..timing.condition import summarise
from ..timing.engine import Timer
from ..timing.statistics import median
from ..timing.stopping import PreciseMedian
from .bursts import Burst, PlainBurst, Sampled, Settled, Together
from .case import Case, Ended, end_together, words_of
from .control import Control
from .heartbeat import Heartbeat
from .link import ABOVE_LINK, LOGGED, above_link, link_bytes_per_s, nccl_log, wire_columns
from .overlap import MORE, PRODUCT_FAILED, OverlapBurst, StreamBackground, ThreadBackground, matrix_product
from .places import Places
from .ready import Turns, make_ready
from .request import CollectiveRequest
from .straggler import ONE_SLOW, find_straggler, local_work

COLLECTIVE_METHOD_VERSION = 3
"""Raised whenever a change in this room moves results. 2: a sample was one call of a batch, each timed. 3: a sample is a burst of calls
back to back over their number, which begins when all ranks have come; small messages are cold too; parts are whole 16 bytes."""
NEVER_OUTLASTED = "what ran beside it ended too early every time: it cannot be queued as fast as it runs"


def make_timer(facts: DeviceFacts, index: int) -> Timer:
    """The clock of this rank's chip."""
    return CpuTimer(facts) if facts.kind == "cpu" else TorchGpuTimer(facts, index)


class CollectiveMeasurer:
    """One rank's side of the measurements. Every rank must call ``measure`` with the same requests in the same order."""

    def __init__(self, facts: DeviceFacts, timer: Timer, rank: int, ranks: int, timeout_s: float | None = None) -> None:
        """``torch.distributed`` must be initialised with a backend for tensors of the CPU. Every rank makes its own at the same time.

        ``timeout_s``: how long a rank waits for the others in a group made later, where the transport can tell; None: as it does.
        """
        import torch

        self.facts, self.timer, self.rank, self.ranks, self.torch = facts, timer, rank, ranks, torch
        self.timeout_s = timeout_s
        self.device = "cpu" if facts.kind == "cpu" else f"cuda:{torch.cuda.current_device()}"
        self.control = Control(rank, ranks)
        self.heartbeat = Heartbeat(rank, ranks)
        self.places = Places(self.control, facts, self.device)
        self.opened: dict[str, Opened] = {}

    def measure(self, request: CollectiveRequest) -> dict[str, Any]:
        """The columns of one row, on every rank; rank 0's are written.

        The exact check is made at every visit, the work that finds a straggler at the first (``checked`` is false).
        What one rank alone runs into (no memory, no library, a capture that is refused) is told to all and becomes the row's status. What
        a transport raises once it is open ends the process: the other ranks may hang in the call, and the parent knows what to do.
        """
        begin_s = time.perf_counter()
        self.heartbeat.beat()
        release_pools()
        columns: dict[str, Any] = {}
        try:
            opened = self._opened(request)
            case = Case.of(request, opened.group(request.members))
            columns = self._identity(case, opened)
            columns |= self._measured(case, opened)
        except Ended as ended:
            columns |= ended.columns
        release_pools()
        return {**columns, "wall_s": time.perf_counter() - begin_s}

    def close(self) -> None:
        """Give the transports back, on every rank at the same time, before torch.distributed ends."""
        for opened in self.opened.values():
            opened.close()
        self.opened.clear()

    def _measured(self, case: Case, opened: Opened) -> dict[str, Any]:
        request = case.request
        together = Together(self.control, self.timer, self.heartbeat, len(case.participants))
        turns = make_ready(case, self.control, self.places, self.facts, self.device)
        self.heartbeat.beat()
        columns = turns.check(self.control, "not timed")
        begin_s = self.timer.now_s()
        rule = PreciseMedian(min_time_s=request.min_time_s, time_cap_s=request.time_cap_s)
        plain = turns.burst(self.facts, self.timer, self._wait)
        settled = together.settle(plain)
        if request.beside is None:
            sampled = together.sample([plain], [settled.turns], rule)
        else:
            plain, settled, sampled = self._beside(turns, plain, settled, together, rule)
        if sampled.stop_reason is None:
            raise Ended("error", NEVER_OUTLASTED)
        measuring_s = self.timer.now_s() - begin_s
        self.heartbeat.beat()
        columns |= turns.check(self.control, "found after the samples, which are not kept")
        columns |= self._times(case, plain, settled, sampled)
        columns |= self._rates(case, columns["time_median_s"], opened)
        flags = [THROTTLED] if columns.get("throttled") else []
        if self._above_link(case, columns):
            flags.append(ABOVE_LINK)
        if opened.versions().get("nccl") and nccl_log(os.environ) is not None:
            flags.append(LOGGED)
        if not request.checked:
            work = local_work(case.size_bytes, self.device) if self.rank in case.participants else None
            found = find_straggler(self.control, self.timer, self.heartbeat, case.participants, work)
            columns |= {
                "straggler_rank": found.rank,
                "straggler_hash": self.places.hash_of(found.rank),
                "straggler_ratio": found.ratio,
            }
            if found.slow:
                flags.append(ONE_SLOW)
        return {**columns, "measuring_s": measuring_s, "flags": ";".join(flags) or None, "status": "ok"}

    def _beside(
        self, turns: Turns, plain: PlainBurst, settled: Settled, together: Together, rule: PreciseMedian
    ) -> tuple[PlainBurst, Settled, Sampled]:
        """The collective beside the matrix product, or the reverse, in turns with the same thing alone; what was timed, and how."""
        case, product, problem = turns.case, None, ""
        if case.communicator is not None:
            try:
                beside = case.request.beside or {}
                product = matrix_product(beside["m"], beside["n"], beside["k"], beside["dtype"], self.device, case.request.seed)
            except Exception as error:  # torch has several types for what it cannot multiply
                problem = f"{PRODUCT_FAILED}: {words_of(error)}"
        end_together(self.control, problem, "skipped")
        products = PlainBurst(self.timer, product, align=plain.align)
        settled_product = together.settle(products)
        timed, other, alone, other_s = plain, product, settled, settled_product.turn_s
        if case.product_is_timed:
            timed, other, alone, other_s = products, plain.turn, settled_product, settled.turn_s
        background = None
        if other is not None:
            background = ThreadBackground(other) if self.facts.kind == "cpu" else StreamBackground(other)
        # One rank says how many: all make as many calls.
        share = self.control.first(MORE * alone.turn_s / max(other_s, 1e-9))
        bursts: list[Burst] = [OverlapBurst(timed, background, share), timed]
        # On another stream libraries make another workspace, in the first call there.
        bursts[0].prepare(1)
        bursts[0].run(1)
        return timed, alone, together.sample(bursts, [alone.turns, alone.turns], rule)

    def _identity(self, case: Case, opened: Opened) -> dict[str, Any]:
        request, group_size = case.request, case.layout.ranks
        shared = {
            "group_size": group_size,
            "members": None if group_size == self.ranks else words(request.members),
            "chip_count": self.places.chips(case.participants),
            "node_count": self.places.nodes(case.participants),
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
        if not case.pattern.sized:
            return {}
        backend, ranks = transports()[case.request.transport].backend(self.facts.kind), case.layout.ranks
        algbw = case.size_bytes / time_s
        return {
            "algbw_bytes_per_s": algbw,
            "busbw_bytes_per_s": algbw * case.pattern.bus_factor(ranks),
            **wire_columns(case.request.op, backend, ranks, case.size_bytes, time_s, os.environ, opened.versions()),
        }

    def _above_link(self, case: Case, columns: dict[str, Any]) -> bool:
        if case.product_is_timed:
            return False
        link = link_bytes_per_s(self.facts.chip_id, case.layout.ranks, self.places.nodes(case.participants))
        carried = columns.get("wire_bytes_per_s")
        return above_link(case.request.op, case.layout.ranks, case.size_bytes, columns["time_median_s"], carried, link)

    def _opened(self, request: CollectiveRequest) -> Opened:
        """The transport, ready. Raises Ended where its library is not there after all on some rank, or this chip lacks what is asked."""
        transport, reduces = transports()[request.transport], patterns()[request.op].reduces
        ask = Ask(request.op, reduces, request.dtype, request.in_place, request.launch, self.facts.kind, self.facts.compute_capability)
        problem = transport.lacks(ask) or ""
        if not problem and transport.name not in self.opened:
            site = Site(self.rank, self.ranks, self.facts.kind, self.device, self.control.share, self.timeout_s)
            try:
                self.opened[transport.name] = transport.open(site)
            except (ImportError, OSError, RuntimeError) as error:
                problem = words_of(error)
        end_together(self.control, problem, "skipped")
        return self.opened[transport.name]

    def _wait(self) -> None:
        if self.facts.kind != "cpu":
            self.torch.cuda.synchronize()
