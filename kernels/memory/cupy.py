"""Read, copy, scale and triad in our CUDA C++ (``stream.cu``) of 16-byte accesses, through CuPy. Run on an H200."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Arrays
from ..case import DTYPE_BYTES, Case
from ..cuda.program import Program, multiprocessors
from ..kernel import Call, Target, kernel
from .case import PARTIAL_SUMS, SCALAR, CopyCase, ReadCase, ScaleCase, StreamCase, TriadCase

THREADS = 256
LOADS = 4
"""16-byte loads under way in each thread: with 2048 threads 128 KB on a multiprocessor, and no chip needs more than 60 KB to cover its
latency (Little's law: a B200's 8 TB/s over 148 multiprocessors times a microsecond is 54 KB)."""
BLOCKS_PER_MULTIPROCESSOR = 64
"""Some 8 to 16 times as many as are at work at once: those that come last leave little of the chip idle, whatever fits at once."""

STORAGE = {
    "fp64": "double",
    "fp32": "float",
    "tf32": "float",
    "fp16": "unsigned short",
    "bf16": "unsigned short",
    "int8": "signed char",
}
"""C types of the elements."""

ARITHMETIC = ("fp64", "fp32", "fp16", "bf16")


def program(op: str, dtype: str) -> Program:
    """The CUDA program for an operation in a dtype."""
    bits_of = dtype.upper() if STORAGE[dtype] == "unsigned short" else 0
    defines = (("T", STORAGE[dtype]), ("BITS_OF", bits_of), ("THREADS", THREADS), ("LOADS", LOADS))
    shared_bytes = THREADS * max(4, DTYPE_BYTES[dtype]) if op == "read" else 0
    return Program(op, ("memory/stream.cu",), defines, THREADS, shared_bytes)


def blocks(elements: int, itemsize: int, multiprocessors: int) -> int:
    """How many: enough to cover the array once, but so few for each multiprocessor that a block has more than one turn to make.

    >>> blocks(4 * 4 * 256 * 3 + 1, itemsize=4, multiprocessors=132), blocks(2**30, itemsize=4, multiprocessors=132)
    (3, 8192)
    """
    covering = -(-(elements * itemsize // 16) // (THREADS * LOADS))
    return max(1, min(covering, multiprocessors * BLOCKS_PER_MULTIPROCESSOR, PARTIAL_SUMS))


def _elsewhere(target: Target) -> str | None:
    return None if target.kind in ("cuda", "rocm") else "CuPy computes on CUDA and ROCm devices only"


def refuses_copy(case: CopyCase, target: Target) -> str | None:
    return _elsewhere(target) or (None if case.dtype in STORAGE else f"no CUDA kernel here for {case.dtype}; use the torch backend")


def refuses_arithmetic(case: Case, target: Target) -> str | None:
    reason = None if case.dtype in ARITHMETIC else f"this kernel computes in {', '.join(ARITHMETIC)}, not in {case.dtype}"
    return _elsewhere(target) or reason


def refuses_read(case: ReadCase, target: Target) -> str | None:
    if case.dtype == "bf16":
        return "CuPy has no bf16 to make the integers of this case in; use fp16, which is read alike"
    return refuses_arithmetic(case, target)


def launcher(case: StreamCase, before: tuple[object, ...], output: Array) -> Call:
    """The call that runs the program of the case's operation; ``before``: its arguments up to the number of elements."""
    launch, count = program(case.op, case.dtype).load(), blocks(case.elements, DTYPE_BYTES[case.dtype], multiprocessors())
    arguments, result = (*before, np.uint64(case.elements)), output[:count] if case.op == "read" else output

    def run() -> Array:
        launch(count, arguments)
        return result

    return run


def scalar(dtype: str) -> np.floating:
    """The factor, of the type that the kernel computes in."""
    return np.float64(SCALAR) if dtype == "fp64" else np.float32(SCALAR)


@kernel("read", "cupy", "cupy.read.16byte", refuses_read)
def read(case: ReadCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    return launcher(case, (*inputs, output), output)


@kernel("copy", "cupy", "cupy.copy.16byte", refuses_copy)
def copy(case: CopyCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    return launcher(case, (*inputs, output), output)


@kernel("scale", "cupy", "cupy.scale.16byte", refuses_arithmetic)
def scale(case: ScaleCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    return launcher(case, (*inputs, output, scalar(case.dtype)), output)


@kernel("triad", "cupy", "cupy.triad.16byte", refuses_arithmetic)
def triad(case: TriadCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    return launcher(case, (*inputs, output, scalar(case.dtype)), output)
