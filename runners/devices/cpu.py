"""The CPU as the chip under test: the fallback where there is no GPU, measured with the host clock."""

from __future__ import annotations

import itertools
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from chipassay.results.cpus import CpuCore, find_cpu

from ..timing.condition import Condition
from ..timing.engine import Timed
from ..timing.statistics import median
from .facts import DeviceFacts, slug
from .host import last_level_cache_bytes, memory_bytes, native_dtypes, processor, usable_cores

CHAIN_LENGTHS = (4_000, 12_000)
"""Double additions in the two clock chains; the difference of their times is free of the call's own cost. Both stay near the core."""
CHAIN_REPEATS = 20
"""The fastest of these is taken for each length: an interrupted chain is slower, never faster."""
CHAIN_GROUPS = 3
"""The median of so many such readings is the clock: one where only the short chain was interrupted would read too high. 1 ms in all."""
SETTLING_GROUPS = 150
"""For the clock that the peak is derived from: some 50 ms of work lets an idle core reach its highest clock first."""


def find_core() -> CpuCore | None:
    """The catalogue's entry for this CPU's microarchitecture, None if it is not listed."""
    cpu = processor()
    if cpu.family is None or cpu.model is None:
        return None
    return find_cpu(cpu.vendor, cpu.family, cpu.model, cpu.flags)


def cpu_facts() -> DeviceFacts:
    """What this CPU is, with its peak derived from cores x operations per cycle x measured clock where all are known."""
    cpu, core, cores = processor(), find_core(), usable_cores()
    clock_hz = chain_clock_hz(core, SETTLING_GROUPS)
    notes = []
    if core is None:
        notes.append(f"this CPU ({cpu.name}) is not in the catalogue: its peak is unknown")
    elif clock_hz is None:
        notes.append("the CPU's clock cannot be measured (its addition latency is unknown, or torch is missing): its peak is unknown")
    return DeviceFacts(
        kind="cpu",
        name=f"{cpu.name} ({core.microarchitecture})" if core else cpu.name,
        chip_id=f"cpu-{slug(core.microarchitecture if core else cpu.name)}-{cores}c",
        count=1,
        memory_bytes=memory_bytes(),
        cache_bytes=last_level_cache_bytes(),
        driver=f"{platform.system()} {platform.release()}",
        threads=cores,
        native_dtypes=native_dtypes(cpu.flags),
        peak_flops_per_s=core.peaks(cores, clock_hz) if core and clock_hz else {},
        peak_clock_hz=clock_hz,
        clock="read between samples, by a chain of additions" if clock_hz else "cannot be read on this CPU",
        fabric="shared-memory",
        notes=tuple(notes),
    )


def chain_clock_hz(core: CpuCore | None, groups: int = CHAIN_GROUPS) -> float | None:
    """Clock of one core now: each term of a running sum waits for the one before, so a term takes the adder's latency.

    None where the latency is not in the catalogue or torch, whose cumulative sum keeps the chain in a register, is missing.
    """
    if core is None or core.fp_add_latency_cycles is None:
        return None
    try:
        import torch
    except (ImportError, OSError):
        return None
    short, long = (torch.ones(length, dtype=torch.float64) for length in CHAIN_LENGTHS)
    out = torch.empty_like(long)

    def fastest_s(values: Any) -> float:
        times_s = []
        for _ in range(CHAIN_REPEATS):
            begin_s = time.perf_counter()
            torch.cumsum(values, 0, out=out[: len(values)])
            times_s.append(time.perf_counter() - begin_s)
        return min(times_s)

    differences_s = [fastest_s(long) - fastest_s(short) for _ in range(groups)]
    cycles = (CHAIN_LENGTHS[1] - CHAIN_LENGTHS[0]) * core.fp_add_latency_cycles
    return cycles / max(median(differences_s), 1e-9)


class CpuTimer:
    """Times calls on the CPU. The call is synchronous, so the host clock around it is the device's too."""

    clock_source = "host"

    def __init__(self, facts: DeviceFacts) -> None:
        self._core = find_core()
        # Twice the last-level cache, so that a cache that keeps part of the old lines under its policy is emptied too.
        self._eviction = np.zeros(2 * facts.cache_bytes // 8, dtype=np.float64)

    def now_s(self) -> float:
        return time.perf_counter()

    def start(self) -> None:
        pass

    def time_call(self, call: Callable[[], Any], queue: bool = True) -> Timed:
        begin = time.perf_counter_ns()
        call()
        return Timed((time.perf_counter_ns() - begin) * 1e-9)

    def time_each(self, call: Callable[[], Any], count: int) -> list[float]:
        marks = [time.perf_counter_ns()]
        for _ in range(count):
            call()
            marks.append(time.perf_counter_ns())
        return [(end - begin) * 1e-9 for begin, end in itertools.pairwise(marks)]

    def time_burst(self, call: Callable[[], Any], count: int, meanwhile: Callable[[], Any] | None = None) -> Timed:
        begin = time.perf_counter_ns()
        for _ in range(count):
            call()
        timed = Timed((time.perf_counter_ns() - begin) * 1e-9)
        if meanwhile is not None:
            meanwhile()
        return timed

    def evict_cache(self) -> None:
        # Read and write every line: a store alone may bypass the cache.
        np.add(self._eviction, 1.0, out=self._eviction)

    def condition(self) -> Condition:
        clock_hz = chain_clock_hz(self._core)
        return Condition(clock_hz=clock_hz, clock_method=None if clock_hz is None else "chain")

    def energy_j(self) -> float | None:
        return None
