"""Emulated dtypes on a CPU: a probe tells whether measuring them would only eat the budget."""

from __future__ import annotations

from collections.abc import Callable

from chipassay.kernels.arrays import Arrays
from chipassay.kernels.backends import why_not
from chipassay.kernels.case import Case
from chipassay.kernels.kernel import cases, kernels

from .devices.facts import DeviceFacts
from .timing.engine import Timer

HOPELESS = 20.0
"""An emulated dtype this many times slower than fp32 in a probe is not measured: it would eat the budget to say so again."""
PROBE_EDGE = 256
"""Edge of the probe's square matmul: under 50 ms even at 1 GFLOP/s."""
PROBE_CALLS = 5
FEWEST_CALLS = 5
"""Check, warm-up and the fewest samples: an emulated case that cannot make these within its cap is not begun."""

CHECKED_S = 0.5
"""Calls that fit into so much are made even where the cap is less: a suite with a low one wants to know whether they are right."""


class EmulationProbe:
    """Says which cases are hopeless on this device; remembers what was probed."""

    def __init__(self, facts: DeviceFacts, timer: Timer, arrays: Callable[[], Arrays]) -> None:
        """``arrays``: makes torch's arrays, which may be missing."""
        self._facts, self._timer, self._arrays = facts, timer, arrays
        self._rates: dict[str, float | None] = {}

    def refuses(self, case: Case, time_cap_s: float) -> str | None:
        """Why an emulated dtype is not worth measuring on this CPU; None if it is, or if it is native."""
        facts = self._facts
        if facts.kind != "cpu" or case.limited_by != "compute" or (facts.native_dtypes is not None and case.dtype in facts.native_dtypes):
            return None
        rate, fp32_rate = self._rate(case.dtype), self._rate("fp32")
        if rate is None or fp32_rate is None:
            return None
        if fp32_rate / rate > HOPELESS:
            return f"{case.dtype} is only emulated on this CPU: {fp32_rate / rate:.0f} times slower than fp32 in a probe"
        call_s = case.flops / rate
        if call_s * FEWEST_CALLS > max(time_cap_s, CHECKED_S):
            slow = f"one call would take about {call_s:.2g} s at the {rate / 1e9:.2g} GFLOP/s of a probe"
            return f"{case.dtype} is only emulated on this CPU: {slow}"
        return None

    def _rate(self, dtype: str) -> float | None:
        if dtype not in self._rates:
            try:
                self._rates[dtype] = self._probe(dtype)
            except Exception:  # what a library raises for a dtype it cannot do; its kernels will say so in their own rows
                self._rates[dtype] = None
        return self._rates[dtype]

    def _probe(self, dtype: str) -> float | None:
        """FLOP/s of a small matmul in ``dtype``; None where torch cannot do it."""
        case = cases()["matmul"](dtype=dtype, m=PROBE_EDGE, n=PROBE_EDGE, k=PROBE_EDGE)  # type: ignore[call-arg]
        target = self._facts.target
        able = [k for k in kernels("matmul", "torch") if why_not("torch", target) is None and k.refuses(case, target) is None]
        if not able or self._arrays().refuses(dtype):
            return None
        arrays = self._arrays()
        call = able[0].prepare(case, arrays, case.make_inputs(arrays, 0), case.make_output(arrays))
        return case.flops / min(self._timer.time_call(call).time_s for _ in range(PROBE_CALLS))
