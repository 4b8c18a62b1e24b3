"""One kernel on one case, from nothing to the columns of a row: may it run, is it right, how long does it take."""

from __future__ import annotations

import contextlib
import gc
import math
import sys
import time
from collections.abc import Mapping
from typing import Any

from chipassay.kernels.arrays import Arrays
from chipassay.kernels.backends import BACKENDS, library_versions, make_arrays, why_not
from chipassay.kernels.case import Case
from chipassay.kernels.kernel import Kernel, cases, kernels

from .devices.discover import Device
from .devices.host import free_memory_bytes
from .timing.columns import result_columns
from .timing.engine import measure
from .timing.statistics import median
from .timing.stopping import PreciseMedian

HOPELESS = 20.0
"""An emulated dtype this many times slower than fp32 in a probe is not measured: it would eat the budget to say so again."""
PROBE_EDGE = 256
"""Edge of the probe's square matmul: under 50 ms even at 1 GFLOP/s."""
PROBE_CALLS = 5
FEWEST_CALLS = 5
"""Check, warm-up and the fewest samples: an emulated case that cannot make these within its cap is not begun."""
FOOTPRINT_MARGIN = 1.2
"""Inputs and output, with room for the library's workspace."""
WARMUP_SHARE = 0.2
"""Warm-up takes at most this share of a case's time cap."""


def release_pools() -> None:
    """Give back what the libraries' memory pools hold unused: each counts what the other keeps as taken."""
    # On a chip that no longer answers this raises too; whether it answers is asked next.
    with contextlib.suppress(Exception):
        torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
        if torch is not None and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
        if cupy is not None:
            cupy.get_default_memory_pool().free_all_blocks()


class KernelMeasurer:
    """Measures kernels on one device; remembers what was probed."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self._probed: dict[str, float | None] = {}
        self._arrays: dict[str, Arrays] = {}

    def backend_reasons(self) -> dict[str, str | None]:
        """Backend -> why it cannot run here, None if it can."""
        return {backend: why_not(backend, self.device.facts.target) for backend in BACKENDS}

    def runnable(self, *, op: str, case: Mapping[str, Any], backend: str, cache: str) -> dict[str, Any]:
        """Which kernels of the backend can run the case: ``kernels`` holds (name, None) for each, or one (name, reason) if none can.

        A kernel that refuses says nothing of the chip while another one of the same backend does the case.
        """
        target = self.device.facts.target
        try:
            made = cases()[op](**case)
        except (TypeError, ValueError) as error:
            return {"invalid": f"{op} {dict(case)}: {error}"}
        reasons = {k.name: why_not(backend, target) or k.refuses(made, target) for k in kernels(op, backend)}
        able = [(name, None) for name, reason in reasons.items() if reason is None]
        # Of several refusals the first is told; its kernel names the row.
        unable = [(name, reason) for name, reason in reasons.items() if reason is not None][:1]
        return {"kernels": able or unable, "columns": made.columns(), "launch": self._launch}

    @property
    def _launch(self) -> str:
        return "call" if self.device.facts.kind == "cpu" else "stream"

    def measure(
        self,
        *,
        op: str,
        case: Mapping[str, Any],
        backend: str,
        kernel: str,
        cache: str,
        seed: int,
        min_time_s: float,
        time_cap_s: float,
        checked: bool = False,
    ) -> dict[str, Any]:
        """The columns of one row. ``checked``: the same kernel was found correct on the same inputs earlier in this run.

        Never raises for what a kernel may do: failures become the row's status and reason.
        """
        begin_s = time.perf_counter()
        made = cases()[op](**case)
        chosen = next(k for k in kernels(op, backend) if k.name == kernel)
        facts = self.device.facts
        columns: dict[str, Any] = {
            **made.columns(),
            "backend": backend,
            "kernel": kernel,
            "cache": cache,
            "launch": self._launch,
            "threads": facts.threads,
            "native": None if facts.native_dtypes is None else made.dtype in facts.native_dtypes,
            "flops": made.flops,
            "bytes": made.bytes,
        }
        try:
            columns |= self._measure(made, chosen, cache, seed, min_time_s, time_cap_s, checked)
        except Exception as error:  # a library may raise anything; the row says what, and the run goes on
            columns |= _failure(error)
        gc.collect()
        release_pools()
        return {**columns, "wall_s": time.perf_counter() - begin_s}

    def _measure(
        self, case: Case, kernel: Kernel, cache: str, seed: int, min_time_s: float, time_cap_s: float, checked: bool
    ) -> dict[str, Any]:
        facts = self.device.facts
        reason = why_not(kernel.backend, facts.target) or kernel.refuses(case, facts.target) or self._hopeless(case, time_cap_s)
        if reason is not None:
            return {"status": "skipped", "reason": reason}
        arrays = self._arrays_for(kernel.backend)
        reason = arrays.refuses(case.dtype)
        if reason is not None:
            return {"status": "skipped", "reason": reason}
        free = self._free_bytes()
        if free is not None and case.footprint_bytes * FOOTPRINT_MARGIN > free:
            return {
                "status": "out_of_memory",
                "reason": f"needs {case.footprint_bytes / 1e9:.3g} GB, {free / 1e9:.3g} GB are free",
            }
        versions = ";".join(f"{name}={version}" for name, version in library_versions(kernel.backend).items())
        inputs, output = case.make_inputs(arrays, seed), case.make_output(arrays)
        call = kernel.prepare(case, arrays, inputs, output)
        columns: dict[str, Any] = {"libraries": versions, "data": "normal"}
        # Tuned kernels say with which choices they run.
        columns["config"] = getattr(call, "config", None)
        if not checked:
            check = case.check(arrays, inputs, call(), seed)
            # NaN in the output is an error without bound.
            error = math.inf if math.isnan(check.error) else check.error
            columns |= {"error": error, "error_limit": check.limit}
            if not check.passed:
                return {**columns, "status": "incorrect", "reason": f"error {error:.3g} above its limit {check.limit:.3g}; not timed"}
        samples = measure(
            call,
            self.device.timer,
            PreciseMedian(min_time_s=min_time_s, time_cap_s=(1 - WARMUP_SHARE) * time_cap_s),
            cache=cache,
            before_sample=lambda: case.refresh(arrays, output),
            warmup_cap_s=WARMUP_SHARE * time_cap_s,
        )
        return {**columns, **result_columns(samples), **self._rates(case, median(samples.times_s)), "status": "ok"}

    def _rates(self, case: Case, time_s: float) -> dict[str, Any]:
        facts = self.device.facts
        rate = case.flops / time_s if case.flops else None
        bandwidth = case.bytes / time_s
        if case.limited_by == "compute":
            achieved, peak = rate, facts.peak_flops_per_s.get(case.dtype)
        else:
            achieved, peak = bandwidth, facts.peak_bandwidth_bytes_per_s
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

    def _free_bytes(self) -> float | None:
        kind = self.device.facts.kind
        if kind == "cpu":
            return free_memory_bytes()
        if kind in ("cuda", "rocm") and why_not("torch", self.device.facts.target) is None:
            import torch

            return float(torch.cuda.mem_get_info()[0])
        if kind in ("cuda", "rocm"):
            import cupy

            return float(cupy.cuda.runtime.memGetInfo()[0])
        return None

    def _hopeless(self, case: Case, time_cap_s: float) -> str | None:
        """Why an emulated dtype is not worth measuring on this CPU; None if it is, or if it is native."""
        facts = self.device.facts
        if facts.kind != "cpu" or case.limited_by != "compute" or (facts.native_dtypes is not None and case.dtype in facts.native_dtypes):
            return None
        for dtype in (case.dtype, "fp32"):
            if dtype not in self._probed:
                self._probed[dtype] = self._probe(dtype)
        rate, fp32_rate = self._probed[case.dtype], self._probed["fp32"]
        if rate is None or fp32_rate is None:
            return None
        if fp32_rate / rate > HOPELESS:
            return f"{case.dtype} is only emulated on this CPU: {fp32_rate / rate:.0f} times slower than fp32 in a probe"
        call_s = case.flops / rate
        if call_s * FEWEST_CALLS > time_cap_s:
            slow = f"one call would take about {call_s:.2g} s at the {rate / 1e9:.2g} GFLOP/s of a probe"
            return f"{case.dtype} is only emulated on this CPU: {slow}"
        return None

    def _probe(self, dtype: str) -> float | None:
        """FLOP/s of a small matmul in ``dtype``; None where torch cannot do it."""
        case = cases()["matmul"](dtype=dtype, m=PROBE_EDGE, n=PROBE_EDGE, k=PROBE_EDGE)  # type: ignore[call-arg]
        target = self.device.facts.target
        able = [k for k in kernels("matmul", "torch") if why_not("torch", target) is None and k.refuses(case, target) is None]
        if not able or self._arrays_for("torch").refuses(dtype):
            return None
        arrays = self._arrays_for("torch")
        call = able[0].prepare(case, arrays, case.make_inputs(arrays, 0), case.make_output(arrays))
        return case.flops / min(self.device.timer.time_call(call) for _ in range(PROBE_CALLS))

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
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        return None


def _failure(error: Exception) -> dict[str, Any]:
    words = f"{type(error).__name__}: {error}"
    out_of_memory = isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "allocate memory" in str(error)
    return {"status": "out_of_memory" if out_of_memory else "error", "reason": words[:500]}
