"""Copy and triad as raw CUDA kernels of 16-byte accesses, through CuPy. Not yet run on a GPU."""

from __future__ import annotations

from typing import Any

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from .case import TRIAD_SCALAR, CopyCase, TriadCase

THREADS = 256

SOURCE = r"""
struct alignas(16) Pack { T x[16 / sizeof(T)]; };

// Each thread moves 16 bytes; the threads after the last whole pack move the remaining elements one by one.
extern "C" __global__ void copy(const T* a, T* c, size_t elements) {
    const size_t width = 16 / sizeof(T), packs = elements / width;
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < packs) {
        ((Pack*)c)[i] = ((const Pack*)a)[i];
    } else if (packs * width + (i - packs) < elements) {
        const size_t rest = packs * width + (i - packs);
        c[rest] = a[rest];
    }
}

extern "C" __global__ void triad(const T* a, const T* b, T* c, T scalar, size_t elements) {
    const size_t width = 16 / sizeof(T), packs = elements / width;
    const size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < packs) {
        const Pack x = ((const Pack*)a)[i], y = ((const Pack*)b)[i];
        Pack z;
        for (int j = 0; j < (int)width; ++j) z.x[j] = x.x[j] + scalar * y.x[j];
        ((Pack*)c)[i] = z;
    } else if (packs * width + (i - packs) < elements) {
        const size_t rest = packs * width + (i - packs);
        c[rest] = a[rest] + scalar * b[rest];
    }
}
"""

STORAGE = {"fp64": "unsigned long long", "fp32": "unsigned int", "fp16": "unsigned short", "int8": "unsigned char"}
"""C types that hold an element without looking at it: a copy needs no arithmetic."""

ARITHMETIC = {"fp64": "double", "fp32": "float"}


def launch_size(elements: int, itemsize: int) -> tuple[tuple[int], tuple[int]]:
    """Grid and block: a thread for each 16 bytes and one for each element left over.

    >>> launch_size(4 * 256 + 3, itemsize=4)
    ((2,), (256,))
    """
    width = 16 // itemsize
    threads = elements // width + elements % width
    return (-(-threads // THREADS),), (THREADS,)


def _function(name: str, c_type: str) -> Any:
    import cupy

    return cupy.RawModule(code=f"typedef {c_type} T;\n{SOURCE}").get_function(name)


def _not_here(target: Target) -> str | None:
    return None if target.kind in ("cuda", "rocm") else "CuPy computes on CUDA and ROCm devices only"


def copy_refuses(case: CopyCase, target: Target) -> str | None:
    return _not_here(target) or (None if case.dtype in STORAGE else f"CuPy has no {case.dtype} here; use the torch backend")


@kernel("copy", "cupy", "cupy.copy.16byte", copy_refuses)
def copy(case: CopyCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import numpy as np

    function, (grid, block) = _function("copy", STORAGE[case.dtype]), launch_size(case.elements, output.itemsize)
    arguments = (inputs[0], output, np.uint64(case.elements))

    def run() -> Array:
        function(grid, block, arguments)
        return output

    return run


def triad_refuses(case: TriadCase, target: Target) -> str | None:
    return _not_here(target) or (None if case.dtype in ARITHMETIC else f"this triad adds in fp64 and fp32, not in {case.dtype}")


@kernel("triad", "cupy", "cupy.triad.16byte", triad_refuses)
def triad(case: TriadCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import numpy as np

    function, (grid, block) = _function("triad", ARITHMETIC[case.dtype]), launch_size(case.elements, output.itemsize)
    arguments = (*inputs, output, output.dtype.type(TRIAD_SCALAR), np.uint64(case.elements))

    def run() -> Array:
        function(grid, block, arguments)
        return output

    return run
