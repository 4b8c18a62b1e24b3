"""Copy and triad in our CUDA C++ (``stream.cu``) of 16-byte accesses, through CuPy. Not yet run on a GPU."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Arrays
from ..cuda.program import Program, multiprocessors
from ..kernel import Call, Target, kernel
from .case import TRIAD_SCALAR, CopyCase, TriadCase

THREADS = 256
LOADS = 4
"""16-byte loads under way in each thread: with 2048 threads 128 KB on a multiprocessor, and no chip needs more than 40 KB to cover its
latency (Little's law: an H100's 3.35 TB/s over 132 multiprocessors times a microsecond is 25 KB)."""
BLOCKS_PER_MULTIPROCESSOR = 8
"""2048 threads, the most that fit from sm_60 to sm_100 except sm_75, sm_86 and sm_89, where the surplus waits."""

STORAGE = {"fp64": "double", "fp32": "float", "fp16": "unsigned short", "bf16": "unsigned short", "int8": "signed char"}
"""C types of the elements."""

ARITHMETIC = ("fp64", "fp32", "fp16")


def program(op: str, dtype: str) -> Program:
    """The CUDA program for an operation in a dtype."""
    defines = (("T", STORAGE[dtype]), ("FP16", int(dtype == "fp16")), ("THREADS", THREADS), ("LOADS", LOADS))
    return Program(op, ("memory/stream.cu",), defines, THREADS)


def blocks(elements: int, itemsize: int, multiprocessors: int) -> int:
    """How many: enough to cover the array once, and no more than are at work at the same time.

    >>> blocks(4 * 4 * 256 * 3 + 1, itemsize=4, multiprocessors=132), blocks(2**30, itemsize=4, multiprocessors=132)
    (3, 1056)
    """
    covering = -(-(elements * itemsize // 16) // (THREADS * LOADS))
    return max(1, min(covering, multiprocessors * BLOCKS_PER_MULTIPROCESSOR))


def refuses_copy(case: CopyCase, target: Target) -> str | None:
    if target.kind not in ("cuda", "rocm"):
        return "CuPy computes on CUDA and ROCm devices only"
    return None if case.dtype in STORAGE else f"no CUDA kernel here for {case.dtype}; use the torch backend"


def refuses_arithmetic(case: TriadCase, target: Target) -> str | None:
    if target.kind not in ("cuda", "rocm"):
        return "CuPy computes on CUDA and ROCm devices only"
    return None if case.dtype in ARITHMETIC else f"this kernel computes in {', '.join(ARITHMETIC)}, not in {case.dtype}"


def launcher(op: str, dtype: str, elements: int, arrays_and_scalar: tuple[object, ...], output: Array) -> Call:
    """The call that runs a program of ``stream.cu``."""
    launch = program(op, dtype).load()
    count, arguments = blocks(elements, output.itemsize, multiprocessors()), (*arrays_and_scalar, np.uint64(elements))

    def run() -> Array:
        launch(count, arguments)
        return output

    return run


def scalar(value: float, dtype: str) -> np.floating:
    """A number of the type that the kernel computes in; rounded to the elements' dtype, as the other backends do."""
    return np.float64(value) if dtype == "fp64" else np.float32(np.float16(value) if dtype == "fp16" else value)


@kernel("copy", "cupy", "cupy.copy.16byte", refuses_copy)
def copy(case: CopyCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    return launcher("copy", case.dtype, case.elements, (*inputs, output), output)


@kernel("triad", "cupy", "cupy.triad.16byte", refuses_arithmetic)
def triad(case: TriadCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    return launcher("triad", case.dtype, case.elements, (*inputs, output, scalar(TRIAD_SCALAR, case.dtype)), output)
