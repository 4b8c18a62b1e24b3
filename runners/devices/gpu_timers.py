"""How calls are timed on a GPU: by events on the chip. Through torch, or CuPy where torch is missing.

One sample: [evict] stamp, hold the stream, start event, the call, end event, stamp, wait. Everything is queued while the stream is
held, so between the two events the chip does nothing but the call. Run on an H200 through torch; the timer
through CuPy alone has not, it is written against CuPy's documented interfaces.
"""

from __future__ import annotations

import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from ..timing.condition import Condition
from ..timing.engine import Timed
from .clock import ChipClock
from .facts import DeviceFacts
from .hold import Hold
from .nvml import Nvml


class GpuTimer(ABC):
    """What timing by events has in common, whichever library makes them."""

    clock_source = "device"

    def __init__(self, hold: Callable[[int], None] | None, nvml: Nvml | None, clock: ChipClock | None) -> None:
        """``hold``: queues a kernel of so many cycles; ``nvml``: tells the chip's state; ``clock``: read around calls."""
        self._hold = None if hold is None else Hold(hold)
        self._clock = clock
        self._nvml = nvml

    @abstractmethod
    def _record(self) -> Any:
        """A new event, recorded now."""

    @abstractmethod
    def _passed(self, event: Any) -> bool:
        """Whether the chip has come to the event."""

    @abstractmethod
    def _between_s(self, start: Any, end: Any) -> float:
        """Seconds from one event to the other, both passed."""

    @abstractmethod
    def _wait(self) -> None:
        """Wait until the chip has done everything."""

    @abstractmethod
    def evict_cache(self) -> None:
        """Overwrite twice the last-level cache."""

    def now_s(self) -> float:
        return time.perf_counter()

    def start(self) -> None:
        if self._hold is not None:
            self._hold.forget()

    def time_call(self, call: Callable[[], Any], queue: bool = True) -> Timed:
        hold = self._hold if queue else None
        if self._clock is not None:
            self._clock.before()
        if hold is not None:
            hold.begin()
        held_from_s = time.perf_counter()
        start = self._record()
        call()
        end = self._record()
        queueing_s = time.perf_counter() - held_from_s
        queued = not self._passed(start)
        if hold is not None:
            hold.learn(queueing_s, queued)
        if self._clock is not None:
            self._clock.after()
        self._wait()
        return Timed(self._between_s(start, end), self._clock_hz(), queued or not queue)

    def time_each(self, call: Callable[[], Any], count: int) -> list[float]:
        marks = [self._record()]
        for _ in range(count):
            call()
            marks.append(self._record())
        self._wait()
        return [self._between_s(begin, end) for begin, end in itertools.pairwise(marks)]

    def time_burst(self, call: Callable[[], Any], count: int, meanwhile: Callable[[], Any] | None = None) -> Timed:
        if self._clock is not None:
            self._clock.before()
        start = self._record()
        for _ in range(count):
            call()
        end = self._record()
        if self._clock is not None:
            self._clock.after()
        if meanwhile is not None:
            meanwhile()
        self._wait()
        return Timed(self._between_s(start, end), self._clock_hz())

    def _clock_hz(self) -> float | None:
        return None if self._clock is None else self._clock.read()

    def condition(self) -> Condition:
        return Condition() if self._nvml is None else self._nvml.condition()

    def energy_j(self) -> float | None:
        return None if self._nvml is None else self._nvml.energy_j()


class TorchGpuTimer(GpuTimer):
    """Times calls on a GPU that torch drives (``cuda``, ``rocm``, ``xpu``, ``mps``, ``npu``).

    Only ``cuda`` and ``rocm`` can be held; elsewhere the time of a call of several kernels may hold what issuing them costs, and says so.
    """

    def __init__(self, facts: DeviceFacts, index: int = 0, clock: ChipClock | None = None) -> None:
        import torch

        name = "cuda" if facts.kind == "rocm" else facts.kind
        self._module = getattr(torch, name)
        device = f"{name}:{index}" if name != "mps" else name
        self._eviction = torch.empty(2 * facts.cache_bytes, dtype=torch.uint8, device=device)
        nvml = None
        if facts.kind == "cuda":
            uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None)
            nvml = Nvml.open(None if uuid is None else str(uuid))
        super().__init__(getattr(torch.cuda, "_sleep", None) if name == "cuda" else None, nvml, clock)

    def _record(self) -> Any:
        event = self._module.Event(enable_timing=True)
        event.record()
        return event

    def _passed(self, event: Any) -> bool:
        return bool(event.query())

    def _between_s(self, start: Any, end: Any) -> float:
        return float(start.elapsed_time(end)) * 1e-3

    def _wait(self) -> None:
        self._module.synchronize()

    def evict_cache(self) -> None:
        self._eviction.zero_()


class CupyGpuTimer(GpuTimer):
    """Times calls on a GPU that only CuPy drives (old chips that new torch no longer supports)."""

    def __init__(self, facts: DeviceFacts, index: int = 0, clock: ChipClock | None = None) -> None:
        import cupy

        self._cupy = cupy
        cupy.cuda.Device(index).use()
        self._eviction = cupy.empty(2 * facts.cache_bytes, dtype=cupy.uint8)
        super().__init__(_cupy_hold(), Nvml.open(self._uuid(index)) if facts.kind == "cuda" else None, clock)

    def _uuid(self, index: int) -> str | None:
        raw = self._cupy.cuda.runtime.getDeviceProperties(index).get("uuid")
        if raw is None:
            return None
        digits = bytes(raw).hex()
        return f"GPU-{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    def _record(self) -> Any:
        event = self._cupy.cuda.Event()
        event.record()
        return event

    def _passed(self, event: Any) -> bool:
        return bool(event.done)

    def _between_s(self, start: Any, end: Any) -> float:
        return float(self._cupy.cuda.get_elapsed_time(start, end)) * 1e-3

    def _wait(self) -> None:
        self._cupy.cuda.Device().synchronize()

    def evict_cache(self) -> None:
        self._eviction.fill(0)


def _cupy_hold() -> Callable[[int], None] | None:
    from .stamp_cupy import cupy_hold

    try:
        hold: Callable[[int], None] = cupy_hold()
        hold(1)
    except Exception:  # a compiler that is missing or raises its own types: calls are then timed without a hold, and say so
        return None
    return hold
