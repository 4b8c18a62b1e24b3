"""The stamp kernel and the one that holds the stream, in CUDA C++ through CuPy, from sm_60 on. Run on an H200."""

from __future__ import annotations

from typing import Any

import numpy as np

from .facts import DeviceFacts

THREADS = 32

SOURCE = r"""
// mine[0..2] = multiprocessor, its cycle counter, the chip's nanosecond timer (PTX ISA, "Special Registers").
extern "C" __global__ void stamp(long long* out) {
    unsigned int unit;
    long long cycles, nanoseconds;
    asm volatile("mov.u32 %0, %%smid;\n\tmov.u64 %1, %%clock64;\n\tmov.u64 %2, %%globaltimer;"
                 : "=r"(unit), "=l"(cycles), "=l"(nanoseconds));
    if (threadIdx.x == 0) {
        long long* mine = out + 3 * (long long)blockIdx.x;
        mine[0] = unit;
        mine[1] = cycles;
        mine[2] = nanoseconds;
    }
}

// Keeps the stream busy with one thread while the host queues what comes after.
extern "C" __global__ void hold(long long cycles) {
    const long long begin = clock64();
    while (clock64() - begin < cycles) {
    }
}
"""


def _module() -> Any:
    import cupy

    return cupy.RawModule(code=SOURCE)


class CupyStamper:
    """Stamps on CuPy's current stream of one NVIDIA device."""

    library = "cupy"

    def __init__(self, facts: DeviceFacts, index: int = 0) -> None:
        import cupy

        if facts.kind != "cuda":
            raise NotImplementedError("the counters are read in PTX, which AMD chips do not run")
        self._cupy = cupy
        self._programs = int(cupy.cuda.runtime.getDeviceProperties(index)["multiProcessorCount"])
        self._buffers = cupy.zeros((2, self._programs, 3), dtype=cupy.int64)
        self._kernel = _module().get_function("stamp")

    def stamp(self, which: int) -> None:
        self._kernel((self._programs,), (THREADS,), (self._buffers[which],))

    def fetch(self) -> np.ndarray:
        return self._cupy.asnumpy(self._buffers)


def cupy_hold() -> Any:
    """A function of cycles that keeps CuPy's current stream busy for so long."""
    kernel = _module().get_function("hold")
    return lambda cycles: kernel((1,), (1,), (np.int64(cycles),))
