"""One collective at one size over the ranks of a process group: exact check first, then samples in lock step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from chipassay.collectives.pattern import Pattern, patterns
from chipassay.collectives.pieces import TILE_ELEMENTS, Piece, tile
from chipassay.collectives.transport import Site, transports

from ..devices.cpu import CpuTimer
from ..devices.facts import DeviceFacts
from ..devices.gpu_timers import TorchGpuTimer
from ..devices.host import free_memory_bytes
from ..timing.columns import time_columns
from ..timing.condition import Condition, summarise
from ..timing.engine import METHOD_VERSION, Timer
from ..timing.statistics import median
from ..timing.stopping import PreciseMedian
from .request import CollectiveRequest

BATCH_S = 20e-3
"""Calls follow each other for about so long between two control messages. One call alone would measure the barrier's skew."""
CALLS_AT_MOST = 200
WARMUP_CALLS = 4
REFILL_AFTER_ROTATIONS = 4
"""Sums grow with each in-place call; fresh data after so many rounds keeps every dtype finite."""
FOOTPRINT_MARGIN = 2.5
"""The transport's own buffers come on top of ours."""


def make_timer(facts: DeviceFacts, index: int) -> Timer:
    """The clock of this rank's chip."""
    return CpuTimer(facts) if facts.kind == "cpu" else TorchGpuTimer(facts, index)


@dataclass(frozen=True)
class Taken:
    """Times of calls that all ranks made together: each call's mean over the ranks, and this rank's own."""

    mean_s: tuple[float, ...]
    own_s: tuple[float, ...]
    stop_reason: str
    conditions: list[Condition]


def pieces(row: Any, tile: Any) -> Iterator[tuple[Any, Any]]:
    """A row of elements in pieces, each with the part of the repeating tile that belongs to it: no second buffer as large is needed."""
    for begin in range(0, row.numel(), tile.numel()):
        piece = row[begin : begin + tile.numel()]
        yield piece, tile[: piece.numel()]


def fill(buffer: Any, tile: Any) -> None:
    """Write the repeating tile into every row of the buffer."""
    if tile.numel() == buffer.shape[1]:
        buffer.copy_(tile.expand_as(buffer))
        return
    for row in buffer:
        for piece, part in pieces(row, tile):
            piece.copy_(part)


def mismatches(row: Any, tile: Any) -> int:
    """How many elements of the row differ from the repeating tile."""
    return sum(int((piece != part).sum().item()) for piece, part in pieces(row, tile))


class Turns:
    """Calls the collective on the slots of a large buffer in turn, so that no cache keeps the data of the last call."""

    def __init__(self, pattern: Pattern, group: Any, distributed: Any, timer: Timer, buffer: Any, tile: Any, torch: Any) -> None:
        self._pattern, self._group, self._distributed, self._timer, self._torch = pattern, group, distributed, timer, torch
        self._buffer, self._tile = buffer, tile
        self._slots = buffer.shape[0]
        self._next = 0
        # The check has already summed slot 0 once.
        self._since_refill = self._slots

    @property
    def calls_between_refills(self) -> int:
        """The most calls of one batch: sums grow with each."""
        return REFILL_AFTER_ROTATIONS * self._slots

    def times_s(self, calls: int) -> list[float]:
        """Seconds of each of ``calls`` calls, back to back from a barrier, as training issues them."""
        if self._since_refill + calls > REFILL_AFTER_ROTATIONS * self._slots:
            fill(self._buffer, self._tile)
            if self._buffer.is_cuda:
                # The barrier is the host's: a rank whose queue is still full would come late to the first call.
                self._torch.cuda.synchronize()
            self._since_refill = 0
        self._since_refill += calls
        self._distributed.barrier()
        return self._timer.time_each(self._call, calls)

    def _call(self) -> None:
        row = self._buffer[self._next]
        self._pattern.call(self._group, row, row, row.numel())
        self._next = (self._next + 1) % self._slots


class CollectiveMeasurer:
    """One rank's side of the measurements. Every rank must call ``measure`` with the same arguments."""

    def __init__(self, facts: DeviceFacts, timer: Timer, rank: int, ranks: int) -> None:
        import torch
        import torch.distributed as distributed

        self.facts, self.timer, self.rank, self.ranks = facts, timer, rank, ranks
        self.torch, self.distributed = torch, distributed
        self.opened: dict[str, Any] = {}
        self.device = "cpu" if facts.kind == "cpu" else f"cuda:{torch.cuda.current_device()}"
        self.dtypes = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "fp64": torch.float64}

    def measure(self, request: CollectiveRequest) -> dict[str, Any]:
        """The columns of one row, on every rank; rank 0's are written. The exact check is made at every visit (``checked``
        or not): it costs one call.
        """
        begin_s = time.perf_counter()
        pattern = patterns()[request.op]
        dtype, cache, seed = request.dtype, request.cache, request.seed
        itemsize = self.dtypes[dtype].itemsize
        elements = pattern.elements(request.size_bytes, itemsize, self.ranks)
        transport = transports()[request.transport]
        if request.transport not in self.opened:
            self.opened[request.transport] = transport.open(Site(self.rank, self.ranks, self.facts.kind, self.device, self._share))
        opened = self.opened[request.transport]
        group = opened.group(request.members)
        columns: dict[str, Any] = {
            "op": request.op,
            "dtype": dtype,
            "elements": elements,
            "size_bytes": elements * itemsize,
            "bytes": elements * itemsize,
            "group_size": self.ranks,
            "chip_count": 1 if self.facts.kind == "cpu" else self.ranks,
            "in_place": True,
            "backend": transport.backend(self.facts.kind),
            "kernel": f"{transport.name}.{request.op}",
            "cache": cache,
            "launch": request.launch,
            "data": "exact_integers",
            "threads": self.torch.get_num_threads() if self.facts.kind == "cpu" else None,
            "libraries": ";".join(f"{name}={version}" for name, version in opened.versions().items()),
        }
        slots = max(1, min(4096, 2 * self.facts.cache_bytes // (elements * itemsize))) if cache == "cold" else 1
        needed = FOOTPRINT_MARGIN * slots * elements * itemsize
        if self._lowest(self._free_bytes()) < needed * (self.ranks if self.facts.kind == "cpu" else 1):
            return {**columns, "status": "out_of_memory", "reason": f"needs {needed / 1e9:.3g} GB on each rank"}
        columns |= self._measure(pattern, group, dtype, elements, slots, seed, request.min_time_s, request.time_cap_s)
        return {**columns, "wall_s": time.perf_counter() - begin_s}

    def _measure(
        self, pattern: Pattern, group: Any, dtype: str, elements: int, slots: int, seed: int, min_time_s: float, time_cap_s: float
    ) -> dict[str, Any]:
        (piece,) = pattern.sends(self.rank, self.ranks, elements)
        tile = self._tile(piece, dtype, seed)
        buffer = self.torch.empty((slots, elements), dtype=tile.dtype, device=self.device)
        fill(buffer, tile)
        pattern.call(group, buffer[0], buffer[0], elements)
        (piece,) = pattern.receives(self.rank, self.ranks, elements)
        wrong = int(self._sum(float(mismatches(buffer[0], self._tile(piece, dtype, seed)))))
        if wrong:
            return {
                "status": "incorrect",
                "error": float(wrong),
                "error_limit": 0.0,
                "reason": f"{wrong} wrong elements over {self.ranks} ranks; not timed",
            }
        begin_s = time.perf_counter()
        turns = Turns(pattern, group, self.distributed, self.timer, buffer, tile, self.torch)
        taken = self._sample(turns, self._batch(turns), PreciseMedian(min_time_s=min_time_s, time_cap_s=time_cap_s))
        own_s, time_s = median(taken.own_s), median(taken.mean_s)
        size_bytes = elements * tile.element_size()
        return {
            "error": 0.0,
            "error_limit": 0.0,
            "method_version": METHOD_VERSION,
            "clock_source": self.timer.clock_source,
            "warmup_count": WARMUP_CALLS + 1,
            "sample_count": len(taken.mean_s),
            "stop_reason": taken.stop_reason,
            **time_columns(taken.mean_s),
            "slowest_rank_time_s": self._highest(own_s),
            "fastest_rank_time_s": self._lowest(own_s),
            "algbw_bytes_per_s": size_bytes / time_s,
            "busbw_bytes_per_s": size_bytes / time_s * pattern.bus_factor(self.ranks),
            "measuring_s": time.perf_counter() - begin_s,
            **summarise(taken.conditions),
            "status": "ok",
        }

    def _batch(self, turns: Turns) -> int:
        """How many calls to make between two control messages: enough that these cost little, few enough to stop in time."""
        estimate_s = self._highest(median(turns.times_s(WARMUP_CALLS)))
        return int(min(CALLS_AT_MOST, turns.calls_between_refills, max(1, BATCH_S // max(estimate_s, 1e-9))))

    def _sample(self, turns: Turns, batch: int, rule: PreciseMedian) -> Taken:
        """Sample until rank 0's rule is satisfied; all ranks stop together."""
        mean_s: list[float] = []
        own_s: list[float] = []
        conditions = [self.timer.condition()]
        rule.start(self.timer.now_s())
        while True:
            times_s = turns.times_s(batch)
            own_s += times_s
            means_s = self._means(times_s)
            mean_s += means_s
            reason = None
            for time_s in means_s:
                rule.add(time_s, self.timer.now_s())
                reason = reason or rule.finished()
            # Rank 0 decides alone: the others' clocks differ.
            if self._highest(1.0 if reason and self.rank == 0 else 0.0) > 0:
                conditions.append(self.timer.condition())
                return Taken(tuple(mean_s), tuple(own_s), reason or "", conditions)

    def _tile(self, piece: Piece, dtype: str, seed: int) -> Any:
        """Exact data on this rank's device."""
        values = tile(piece, self.ranks, dtype, seed, min(piece.count, TILE_ELEMENTS))
        return self.torch.from_numpy(values).to(self.dtypes[dtype]).to(self.device)

    def _share(self, message: bytes | None, members: Sequence[int]) -> bytes:
        raise NotImplementedError

    def _reduced(self, value: float, how: Any) -> float:
        holder = self.torch.tensor([value], dtype=self.torch.float64)
        self.distributed.all_reduce(holder, op=how)
        return float(holder.item())

    def _means(self, values: list[float]) -> list[float]:
        holder = self.torch.tensor(values, dtype=self.torch.float64)
        self.distributed.all_reduce(holder)
        return [float(total) / self.ranks for total in holder]

    def _highest(self, value: float) -> float:
        return self._reduced(value, self.distributed.ReduceOp.MAX)

    def _lowest(self, value: float) -> float:
        return self._reduced(value, self.distributed.ReduceOp.MIN)

    def _sum(self, value: float) -> float:
        return self._reduced(value, self.distributed.ReduceOp.SUM)

    def _free_bytes(self) -> float:
        return free_memory_bytes() if self.facts.kind == "cpu" else float(self.torch.cuda.mem_get_info()[0])
