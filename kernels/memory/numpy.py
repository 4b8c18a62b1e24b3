"""Read, copy, scale and triad in NumPy, which computes on one thread: the bandwidth of one core."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Arrays
from ..kernel import Call, kernel
from .case import SCALAR, CopyCase, ReadCase, ScaleCase, TriadCase
from .refusing import not_numpy, not_numpy_moves

CACHED_BYTES = 2**17
"""A piece of each array that stays in a core's second-level cache while the passes of an operation go over it."""


def pieces(elements: int, itemsize: int) -> list[slice]:
    """Slices of CACHED_BYTES each.

    >>> pieces(elements=3, itemsize=2**16)
    [slice(0, 2, None), slice(2, 3, None)]
    """
    step = max(1, CACHED_BYTES // itemsize)
    return [slice(start, min(start + step, elements)) for start in range(0, elements, step)]


def row_pieces(array: np.ndarray) -> list[slice]:
    """Slices over rows, about CACHED_BYTES each, one row at least.

    >>> row_pieces(np.zeros((3, 2**14)))
    [slice(0, 1, None), slice(1, 2, None), slice(2, 3, None)]
    """
    return pieces(len(array), array.shape[1] * array.itemsize)


@kernel("read", "numpy", "numpy.sum", not_numpy)
def read(case: ReadCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    (a,) = inputs

    def run() -> Array:
        output[0] = np.sum(a)
        return output[:1]

    return run


@kernel("copy", "numpy", "numpy.copyto", not_numpy_moves)
def copy(case: CopyCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    (a,) = inputs

    def run() -> Array:
        np.copyto(output, a)
        return output

    return run


@kernel("scale", "numpy", "numpy.multiply", not_numpy)
def scale(case: ScaleCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    (a,) = inputs
    scalar = output.dtype.type(SCALAR)
    return lambda: np.multiply(a, scalar, out=output)


@kernel("triad", "numpy", "numpy.triad.blocked", not_numpy)
def triad(case: TriadCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    """NumPy has no fused multiply and add: done piece by piece, so that the product never leaves the cache and memory sees three arrays."""
    a, b = inputs
    scalar = output.dtype.type(SCALAR)
    parts = [(a[piece], b[piece], output[piece]) for piece in pieces(case.elements, output.itemsize)]

    def run() -> Array:
        for a_part, b_part, c_part in parts:
            np.multiply(b_part, scalar, out=c_part)
            np.add(a_part, c_part, out=c_part)
        return output

    return run
