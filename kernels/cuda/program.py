"""A CUDA program: source files, what is defined before them, its threads and shared memory; compiled by NVRTC through CuPy.

No CUDA toolkit is needed: the sources include no header (``intrinsics.cu`` says why). Run on an H200.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KERNELS = Path(__file__).parent.parent

INTRINSICS = "cuda/intrinsics.cu"

OPTIONS = ("--std=c++14",)
"""The newest C++ that NVRTC 11.8 to 13 and hiprtc all compile."""

OPT_IN_SHARED_BYTES = 48 * 1024
"""More dynamic shared memory than this a kernel has to ask for (CUDA C++ Programming Guide, table of technical specifications)."""

Launch = Callable[[int, Sequence[Any]], None]
"""(blocks, arguments) -> runs the program; the arguments are arrays and NumPy scalars of the C types."""


@dataclass(frozen=True)
class Program:
    """One ``__global__`` function in one compiled variant."""

    function: str
    files: tuple[str, ...]
    """Below ``kernels/``, in order; ``intrinsics.cu`` goes before them."""
    defines: tuple[tuple[str, int | str], ...]
    threads: int
    """In a block."""
    shared_bytes: int = 0
    """Dynamic shared memory of a block."""

    @property
    def text(self) -> str:
        """The source as the compiler gets it."""
        defines = "".join(f"#define {name} {value}\n" for name, value in self.defines)
        return defines + "".join((KERNELS / file).read_text(encoding="utf-8") for file in (INTRINSICS, *self.files))

    def load(self) -> Launch:
        """Compile for the current device. Raises what CuPy raises where that fails."""
        import cupy

        function = cupy.RawModule(code=self.text, options=OPTIONS).get_function(self.function)
        if self.shared_bytes > OPT_IN_SHARED_BYTES:
            function.max_dynamic_shared_size_bytes = self.shared_bytes

        def launch(blocks: int, arguments: Sequence[Any]) -> None:
            function((blocks,), (self.threads,), tuple(arguments), shared_mem=self.shared_bytes)

        return launch


def multiprocessors() -> int:
    """How many the current device has."""
    import cupy

    return int(cupy.cuda.Device().attributes["MultiProcessorCount"])


def capability() -> tuple[int, int]:
    """The compute capability of the current device."""
    import cupy

    digits = cupy.cuda.Device().compute_capability
    return int(digits[:-1]), int(digits[-1])


def fastest(candidates: Sequence[Mapping[str, int]], run: Callable[[Mapping[str, int]], object], repeats: int = 5) -> Mapping[str, int]:
    """The candidate whose ``run`` takes least time, each compiled by a first run, then timed ``repeats`` times by the device's events.

    For a handful of candidates, on chips for which there is no Triton and so no ``tuning.py``. One that does not run is left out;
    raises what the last one raised if none runs.
    """
    import cupy

    if len(candidates) == 1:
        return candidates[0]
    times: list[float] = []
    failure: Exception | None = None
    for candidate in candidates:
        best = float("inf")
        try:
            run(candidate)
            for _ in range(repeats):
                start, stop = cupy.cuda.Event(), cupy.cuda.Event()
                start.record()
                run(candidate)
                stop.record()
                stop.synchronize()
                best = min(best, cupy.cuda.get_elapsed_time(start, stop))
        except Exception as error:  # what a compiler or a launch raises is its own; a candidate that fails is no candidate
            failure = error
        times.append(best)
    if min(times) == float("inf") and failure is not None:
        raise failure
    return candidates[times.index(min(times))]
