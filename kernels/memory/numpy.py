"""Copy and triad in NumPy, which computes on one thread: the bandwidth of one core."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from .case import TRIAD_SCALAR, CopyCase, TriadCase

CACHED_BYTES = 2**17
"""A piece of each array that stays in a core's second-level cache while both halves of the triad pass over it."""


def copy_refuses(case: CopyCase, target: Target) -> str | None:
    if target.kind != "cpu":
        return "NumPy computes on the CPU only"
    if case.dtype not in ("fp64", "fp32", "fp16", "int8"):
        return f"NumPy has no {case.dtype}"
    return None


@kernel("copy", "numpy", "numpy.copyto", copy_refuses)
def copy(case: CopyCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    (a,) = inputs

    def run() -> Array:
        np.copyto(output, a)
        return output

    return run


def triad_refuses(case: TriadCase, target: Target) -> str | None:
    if target.kind != "cpu":
        return "NumPy computes on the CPU only"
    if case.dtype not in ("fp64", "fp32"):
        return f"NumPy adds at the speed of memory in fp64 and fp32 only, not in {case.dtype}"
    return None


@kernel("triad", "numpy", "numpy.triad.blocked", triad_refuses)
def triad(case: TriadCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    """NumPy has no fused multiply and add: done piece by piece, so that the product never leaves the cache and memory sees three arrays."""
    a, b = inputs
    step = CACHED_BYTES // output.itemsize
    scalar = output.dtype.type(TRIAD_SCALAR)
    pieces = [slice(start, start + step) for start in range(0, case.elements, step)]
    parts = [(a[piece], b[piece], output[piece]) for piece in pieces]

    def run() -> Array:
        for a_part, b_part, c_part in parts:
            np.multiply(b_part, scalar, out=c_part)
            np.add(a_part, c_part, out=c_part)
        return output

    return run
