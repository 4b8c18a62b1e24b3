"""Arrays: the few things that cases need of an array library, for torch, CuPy and NumPy alike."""

from __future__ import annotations

import math
import time
from typing import Any, Protocol

import numpy as np

Array = Any
"""A torch.Tensor, cupy.ndarray or numpy.ndarray: whatever the Arrays at hand makes."""

Output = Any
"""An Array, or a tuple of them where the operation has several outputs (the gradients of attention, the state of Adam)."""


def each(output: Output) -> tuple[Array, ...]:
    """The arrays of an output, one or several."""
    return output if isinstance(output, tuple) else (output,)


class Arrays(Protocol):
    """An array library on one device."""

    name: str

    @property
    def xp(self) -> Any:
        """The library's functions under NumPy's names (``torch``, ``cupy`` or ``numpy``), for arithmetic on what ``wide`` gives."""

    @property
    def float64_speed(self) -> str:
        """How fast what ``wide`` gives is computed with: ``host`` (a CPU), ``fast`` or ``slow`` (a chip with few fp64 units)."""

    def refuses(self, dtype: str) -> str | None:
        """Why this library has no such element type; None if it has."""

    def normal(self, shape: tuple[int, ...], dtype: str, seed: int) -> Array:
        """Standard normal values (int8: uniform over -8..7), the same for the same seed."""

    def integers(self, shape: tuple[int, ...], low: int, high: int, seed: int) -> Array:
        """Uniform int64 values from ``low`` to ``high - 1``, the same for the same seed."""

    def unwritten(self, shape: tuple[int, ...], dtype: str) -> Array:
        """Values that no right result can have, so that a forgotten element shows: NaN; integers: the lowest there is."""

    def refill(self, array: Array) -> None:
        """Overwrite with fresh random values of the kind that ``normal`` makes, in place, cheaply."""

    def wide(self, array: Array) -> Array:
        """The array's exact values as float64, still on the device (on the host where the device has no fp64): checks compute with it.

        A slice is converted alone: go through large arrays in blocks.
        """

    def from_host(self, array: np.ndarray) -> Array:
        """A NumPy array beside what ``wide`` gives, dtype unchanged."""

    def float64(self, array: Array) -> np.ndarray:
        """The array's exact values as a NumPy float64 array on the host."""

    def synchronize(self) -> None:
        """Wait until the device has finished."""


PROBE_SIDE = 2048
"""Of the product that tells how fast a device is in fp64: 0.3 ms on an H100, 70 ms on a T4."""
PROBE_CALLS = 3
"""The first finds its kernel, and a chip that was idle its clock."""
FAST_FLOAT64_FLOPS_PER_S = 2.5e12
"""Between the chips with an fp64 unit for every two of fp32 (P100: 4.7 TFLOP/s) and those with few (RTX 5090: 1.6; B300: 1.2)."""


def float64_speed(arrays: Arrays) -> str:
    """``fast`` or ``slow``, by a product. Measured, for a chip's generation does not tell: the H20 has 1 TFLOP/s where the H100 has 67."""
    a = arrays.wide(arrays.normal((PROBE_SIDE, PROBE_SIDE), "fp32", seed=0))
    best_s = math.inf
    for _ in range(PROBE_CALLS):
        arrays.synchronize()
        begin_s = time.perf_counter()
        a @ a
        arrays.synchronize()
        best_s = min(best_s, time.perf_counter() - begin_s)
    return "fast" if FAST_FLOAT64_FLOPS_PER_S * best_s < 2 * PROBE_SIDE**3 else "slow"


RANDOM_BLOCK_ELEMENTS = 2**21
"""Long enough that pieces of it look unrelated, short enough (8 MB of fp32) to make in some milliseconds."""


def copy_random_pieces(flat: Array, block: Array, rng: np.random.Generator, growing: bool = False) -> None:
    """Fill ``flat`` with pieces of a ready-made random ``block``, each from a random place: the cost of a copy, not of a generator.

    ``growing``: what is filled is copied from in turn, so that pieces grow by half and 2 GB take some 15 of them, not a thousand. That
    is for devices where a copy costs a launch; a CPU would read from memory what it now reads from its cache.
    Works for any library whose slices are views that can be assigned to.
    """
    source, start = block, 0
    while start < len(flat):
        stop = min(start + max(len(source) // 2, 1), len(flat))
        offset = int(rng.integers(0, len(source) - (stop - start) + 1))
        flat[start:stop] = source[offset : offset + stop - start]
        start = stop
        if growing and start > len(block):
            source = flat[:start]
