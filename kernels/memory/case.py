"""Copy and triad: two of the STREAM operations, with their bytes, inputs and checks.

Bytes are counted as STREAM does (McCalpin, "Memory bandwidth and machine balance in current high performance computers", 1995):
what the program reads plus what it writes. A cache that reads a line before it overwrites it moves more; that is the chip's affair.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..arrays import Array, Arrays
from ..case import DTYPE_BYTES, UNIT_ROUNDOFF, Case, Check
from ..rounding import HALF_SMALLEST

TRIAD_SCALAR = 0.4
"""As in BabelStream (``startScalar`` in its Stream.h)."""

BLOCK_ELEMENTS = 2**22
"""Elements held as float64 at a time: 32 MB."""


@dataclass(frozen=True, kw_only=True)
class _StreamCase(Case):
    """One-dimensional arrays of ``elements`` each; ``arrays_moved`` of them are read or written."""

    limited_by: ClassVar[str] = "memory"
    arrays_moved: ClassVar[int]

    elements: int

    def __post_init__(self) -> None:
        if self.elements < 1:
            raise ValueError(f"{self.op} of {self.elements} elements: there must be at least 1")

    @property
    def bytes(self) -> float:
        return float(self.arrays_moved * self.elements * DTYPE_BYTES[self.dtype])

    @property
    def footprint_bytes(self) -> float:
        return self.bytes

    def make_inputs(self, arrays: Arrays, seed: int) -> tuple[Array, ...]:
        inputs = self.arrays_moved - 1
        return tuple(arrays.normal((self.elements,), self.dtype, inputs * seed + i) for i in range(inputs))

    def make_output(self, arrays: Arrays) -> Array:
        return arrays.unwritten((self.elements,), self.dtype)

    def _blocks(self, arrays: Arrays, *whole: Array) -> Iterator[tuple[np.ndarray, ...]]:
        for start in range(0, self.elements, BLOCK_ELEMENTS):
            yield tuple(arrays.float64(array[start : start + BLOCK_ELEMENTS]) for array in whole)


@dataclass(frozen=True, kw_only=True)
class CopyCase(_StreamCase):
    """c = a. One read, one write, no arithmetic.

    >>> CopyCase(elements=1000, dtype="fp32").bytes
    8000.0
    """

    op: ClassVar[str] = "copy"
    arrays_moved: ClassVar[int] = 2

    @property
    def flops(self) -> float:
        return 0.0

    def check(self, arrays: Arrays, inputs: tuple[Array, ...], output: Array, seed: int) -> Check:
        """The error is the number of elements that differ; none may."""
        differ = sum(np.count_nonzero(a != c) for a, c in self._blocks(arrays, inputs[0], output))
        return Check(error=float(differ), limit=0.0)


@dataclass(frozen=True, kw_only=True)
class TriadCase(_StreamCase):
    """c = a + s b with s = 0.4. Two reads, one write, a multiplication and an addition for each element.

    >>> case = TriadCase(elements=1000, dtype="fp32")
    >>> case.bytes, case.flops
    (12000.0, 2000.0)
    """

    op: ClassVar[str] = "triad"
    arrays_moved: ClassVar[int] = 3

    @property
    def flops(self) -> float:
        return 2.0 * self.elements

    def check(self, arrays: Arrays, inputs: tuple[Array, ...], output: Array, seed: int) -> Check:
        """Every element, in units of its limit u (3 |s b| + 2 |c|).

        Rounding s, the product and the sum to the dtype costs one u each of what they are (Higham, Accuracy and Stability, eq. 2.4);
        the rest is for their products and for a fused multiply-add, which rounds less.
        """
        roundoff, worst = UNIT_ROUNDOFF[self.dtype], 0.0
        for a, b, c in self._blocks(arrays, *inputs, output):
            scaled = TRIAD_SCALAR * b
            reference = a + scaled
            limit = roundoff * (3 * np.abs(scaled) + 2 * np.abs(reference)) + 2 * HALF_SMALLEST.get(self.dtype, 0.0)
            with np.errstate(invalid="ignore"):
                worst = float(np.maximum(worst, np.max(np.abs(c - reference) / limit)))
        return Check(error=worst, limit=1.0)
