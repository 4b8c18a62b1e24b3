"""One kernel on one case, from nothing to the columns of a row: may it run, is it right, how long does it take."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chipassay.kernels.arrays import Arrays
from chipassay.kernels.backends import BACKENDS, library_versions, make_arrays, why_not
from chipassay.kernels.case import Case
from chipassay.kernels.kernel import Call, Kernel, Refused, cases, kernels

from .devices.discover import Device
from .devices.graphs import refuses_graph
from .devices.memory import free_bytes, release_pools
from .emulation import EmulationProbe
from .plausibility import THROTTLED_LATER, WRONG_BEFORE, flags, roofline_fraction
from .right_call import right_call
from .timing.columns import result_columns
from .timing.engine import measure
from .timing.statistics import median
from .timing.steady import energy_of_call, sustain
from .timing.stopping import PreciseMedian

FOOTPRINT_MARGIN = 1.2
"""Inputs and output, with room for the library's workspace."""
WARMUP_SHARE = 0.2
"""Warm-up takes at most this share of a case's time cap."""
ENERGY_SHARE = 0.3
"""Share of the cap for the energy of a call, on the first visit, where the chip counts energy."""
ENERGY_AT_LEAST_S = 0.4
"""Less than this does not hold two steps of the counter: then it is not begun."""


@dataclass(frozen=True)
class Wish:
    """How one case is to be measured."""

    cache: str
    launch: str
    seed: int
    min_time_s: float
    time_cap_s: float
    checked: bool = False
    """The same kernel was found correct on the same inputs earlier in this run."""
    sustain_s: float = 0.0
    """Then run calls back to back for so long, to see what heat and power leave of the rate."""


class KernelMeasurer:
    """Measures kernels on one device; remembers what was probed."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._arrays: dict[str, Arrays] = {}
        self._emulation = EmulationProbe(device.facts, device.timer, lambda: self._arrays_for("torch"))

    def backend_reasons(self) -> dict[str, str | None]:
        """Backend -> why it cannot run here, None if it can."""
        return {backend: why_not(backend, self.device.facts.target) for backend in BACKENDS}

    def runnable(self, *, op: str, case: Mapping[str, Any], backend: str, cache: str, launch: str = "stream") -> dict[str, Any]:
        """Which kernels of the backend can run the case: ``kernels`` holds (name, None) for each, or one (name, reason) if none can.

        A kernel that refuses says nothing of the chip while another one of the same backend does the case.
        """
        facts = self.device.facts
        try:
            made = cases()[op](**case)
        except (TypeError, ValueError) as error:
            return {"invalid": f"{op} {dict(case)}: {error}"}
        launch = self._launch(launch)
        no_graph = refuses_graph(facts.kind, backend) if launch == "graph" else None
        found = {k.name: why_not(backend, facts.target) or k.refuses(made, facts.target) or no_graph for k in kernels(op, backend)}
        able = [(name, None) for name, reason in found.items() if reason is None]
        # Of several refusals the first is told, one by a kernel that only lacks graphs before others; its kernel names the row.
        unable = sorted(((name, reason) for name, reason in found.items() if reason is not None), key=lambda pair: pair[1] != no_graph)
        return {"kernels": able or unable[:1], "columns": made.columns(), "launch": launch}

    def _launch(self, wanted: str) -> str:
        """``stream`` on a CPU is the call itself."""
        return "call" if wanted == "stream" and self.device.facts.kind == "cpu" else wanted

    def measure(
        self, *, op: str, case: Mapping[str, Any], backend: str, kernel: str, cache: str, launch: str = "stream", **wish: Any
    ) -> dict[str, Any]:
        """The columns of one row; ``wish``: the other fields of ``Wish``.

        Never raises for what a kernel may do: failures become the row's status and reason.
        """
        begin_s = time.perf_counter()
        made = cases()[op](**case)
        chosen = next(k for k in kernels(op, backend) if k.name == kernel)
        facts = self.device.facts
        wanted = Wish(cache=cache, launch=self._launch(launch), **wish)
        columns: dict[str, Any] = {
            **made.columns(),
            "backend": backend,
            "kernel": kernel,
            "cache": cache,
            "launch": wanted.launch,
            "threads": facts.threads,
            "native": None if facts.native_dtypes is None else made.dtype in facts.native_dtypes,
            "flops": made.flops,
            "bytes": made.bytes,
        }
        try:
            columns |= self._measure(made, chosen, wanted, columns)
        except Exception as error:  # a library may raise anything; the row says what, and the run goes on
            columns |= _failure(error)
        gc.collect()
        release_pools()
        return {**columns, "wall_s": time.perf_counter() - begin_s}

    def compile(self, *, op: str, case: Mapping[str, Any], backend: str, kernel: str) -> None:
        """Prepare the case and call it once, so that what it compiles is on disk. What fails here fails again where a row tells it."""
        with contextlib.suppress(Exception):
            made, arrays = cases()[op](**case), self._arrays_for(backend)
            chosen = next(k for k in kernels(op, backend) if k.name == kernel)
            chosen.prepare(made, arrays, made.make_inputs(arrays, 0), made.make_output(arrays))()
            arrays.synchronize()
        gc.collect()
        release_pools()

    def _measure(self, case: Case, kernel: Kernel, wish: Wish, known: Mapping[str, Any]) -> dict[str, Any]:
        reason = self._refuses(case, kernel, wish)
        if reason is not None:
            return {"status": "skipped", "reason": reason}
        arrays = self._arrays_for(kernel.backend)
        free = free_bytes(self.device.facts)
        if free is not None and case.footprint_bytes * FOOTPRINT_MARGIN > free:
            return {
                "status": "out_of_memory",
                "reason": f"needs {case.footprint_bytes / 1e9:.3g} GB, {free / 1e9:.3g} GB are free",
            }
        versions = ";".join(f"{name}={version}" for name, version in library_versions(kernel.backend).items())
        # Tuning happens here: it is in wall_s, not in measuring_s.
        found = right_call(case, kernel, arrays, seed=wish.seed, graph=wish.launch == "graph", checked=wish.checked)
        columns: dict[str, Any] = {"libraries": versions, "data": case.data, **found.columns}
        if "status" in columns:
            return columns
        columns |= self._timed(case, found.call, wish, lambda: case.refresh(arrays, found.output), {**known, **columns})
        if found.wrong:
            columns["flags"] = ";".join(filter(None, (columns["flags"], WRONG_BEFORE)))
        return {**columns, "status": "ok"}

    def _refuses(self, case: Case, kernel: Kernel, wish: Wish) -> str | None:
        facts = self.device.facts
        return (
            why_not(kernel.backend, facts.target)
            or (refuses_graph(facts.kind, kernel.backend) if wish.launch == "graph" else None)
            or kernel.refuses(case, facts.target)
            or self._emulation.refuses(case, wish.time_cap_s)
            or self._arrays_for(kernel.backend).refuses(case.dtype)
        )

    def _timed(self, case: Case, call: Call, wish: Wish, refresh: Callable[[], None], known: Mapping[str, Any]) -> dict[str, Any]:
        """Samples, rates, doubts; on the first visit the energy of a call and the sustained figures too."""
        facts, timer = self.device.facts, self.device.timer
        energy_cap_s = 0.0 if wish.checked or timer.energy_j() is None else ENERGY_SHARE * wish.time_cap_s
        if energy_cap_s < ENERGY_AT_LEAST_S:
            energy_cap_s = 0.0
        samples = measure(
            call,
            timer,
            PreciseMedian(min_time_s=wish.min_time_s, time_cap_s=(1 - WARMUP_SHARE) * wish.time_cap_s - energy_cap_s),
            cache=wish.cache,
            before_sample=refresh,
            warmup_cap_s=WARMUP_SHARE * wish.time_cap_s,
            # What issuing costs the host is what such a case measures, but for a graph: nothing is queued ahead for it.
            queue=case.limited_by != "overhead" or wish.launch == "graph",
        )
        time_s = median(samples.times_s)
        columns = {**known, **result_columns(samples), **self._rates(case, time_s)}
        columns["roofline_fraction"] = roofline_fraction(facts, case.limited_by, columns)
        columns["flags"] = flags(facts, case.limited_by, columns, samples.unqueued_count / len(samples.times_s))
        begin_s = timer.now_s()
        if energy_cap_s:
            columns["energy_j"] = energy_of_call(call, timer, time_s, energy_cap_s)
        if wish.sustain_s and not wish.checked:
            sustained = sustain(call, timer, wish.sustain_s, time_s)
            columns |= sustained.columns()
            if columns.get("energy_j") is None and sustained.power_w is not None:
                columns["energy_j"] = sustained.power_w * sustained.time_s
            if sustained.throttled and not columns["throttled"]:
                columns["flags"] = ";".join(filter(None, (columns["flags"], THROTTLED_LATER)))
        columns["measuring_s"] += timer.now_s() - begin_s
        return columns

    def _rates(self, case: Case, time_s: float) -> dict[str, Any]:
        facts = self.device.facts
        rate = case.flops / time_s if case.flops else None
        bandwidth = case.bytes / time_s if case.bytes else None
        # A case limited by neither (a launch, a transfer over the link) has no peak among the chip's.
        achieved, peak = {
            "compute": (rate, facts.peak_flops_per_s.get(case.dtype)),
            "memory": (bandwidth, facts.peak_bandwidth_bytes_per_s),
        }.get(case.limited_by, (None, None))
        known = peak is not None and achieved is not None
        return {
            "rate_flops_per_s": rate,
            "bandwidth_bytes_per_s": bandwidth,
            "peak_fraction": achieved / peak.value if known and peak and achieved else None,
            "peak_evidence": peak.evidence.level if known and peak else None,
        }

    def _arrays_for(self, backend: str) -> Arrays:
        if backend not in self._arrays:
            self._arrays[backend] = make_arrays(backend, self.device.array_device)
        return self._arrays[backend]

    def device_lost(self) -> str | None:
        """What the device says to a trivial request if it no longer works; None while it does."""
        if self.device.facts.kind == "cpu":
            return None
        backend = "torch" if why_not("torch", self.device.facts.target) is None else "cupy"
        try:
            arrays = self._arrays_for(backend)
            arrays.normal((8,), "fp32", 0)
            arrays.synchronize()
        except Exception as error:  # whatever it raises, the chip no longer answers
            return f"{type(error).__name__}: {(str(error).strip().splitlines() or ['no message'])[0]}"
        return None


OUT_OF_MEMORY = ("out of memory", "outofmemory", "allocate memory", "memory allocation", "alloc_failed")
"""How the libraries say it: torch's own allocator and the driver, CuPy's pool, the CPU's allocator, the CUDA runtime, cuBLAS."""


def _failure(error: Exception) -> dict[str, Any]:
    if isinstance(error, Refused):
        return {"status": "skipped", "reason": " ".join(str(error).split())[:500]}
    # On one line: CUDA's messages have several, and the reason stands in a cell of a table.
    words = " ".join(f"{type(error).__name__}: {error}".split())
    out_of_memory = isinstance(error, MemoryError) or any(part in words.lower() for part in OUT_OF_MEMORY)
    return {"status": "out_of_memory" if out_of_memory else "error", "reason": words[:500]}
