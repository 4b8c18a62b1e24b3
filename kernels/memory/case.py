"""Read, copy, scale and triad: how fast memory streams, with bytes, inputs and checks.

Copy, scale and triad are operations of STREAM (McCalpin, "Memory bandwidth and machine balance in current high performance computers",
1995), and bytes are counted as there: what the program reads plus what it writes. A cache that reads a line before it overwrites it
moves more; that is the chip's affair. Read is what a decoder does with its weights: everything comes in, next to nothing goes out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, Arrays
from ..case import DTYPE_BYTES, UNIT_ROUNDOFF, Case, Check
from ..rounding import HALF_SMALLEST
from .checking import arithmetic_dtype, blocks, farthest, larger

SCALAR = 0.4
"""The factor of scale and triad, as in BabelStream (``startScalar`` in its Stream.h)."""

PARTIAL_SUMS = 8192
"""Most sums that a read may leave: 62 for each multiprocessor of an H100, and no more than 32 kB."""


@dataclass(frozen=True, kw_only=True)
class StreamCase(Case):
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


@dataclass(frozen=True, kw_only=True)
class ReadCase(StreamCase):
    """The sum of an array. One read, an addition for each element; the few sums that are written are not counted.

    The input holds odd integers from -15 to 15, all equally likely. Every sum of some of them, in whatever order, is an integer of about
    9.2 sqrt(elements): below 2^24, so exact in fp32, by six standard deviations for 9e10 elements. The check needs no tolerance and sees
    one forgotten element, for none is zero.

    The output has room for 8192 sums in fp32 (fp64: in fp64). A kernel returns those it wrote (a slice of the buffer, one or more): the
    check adds them up. They must not be of the dtype read: sums in fp16 or bf16 are not exact.

    >>> case = ReadCase(elements=1000, dtype="bf16")
    >>> case.bytes, case.flops
    (2000.0, 1000.0)
    """

    op: ClassVar[str] = "read"
    arrays_moved: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dtype not in ("fp64", "fp32", "tf32", "fp16", "bf16", "fp8_e4m3", "int8"):
            raise ValueError(f"read of {self.dtype}: its data, odd integers up to 15, do not fit the format; read another dtype")

    @property
    def data(self) -> str:
        return "odd_integers"

    @property
    def flops(self) -> float:
        return float(self.elements)

    def make_inputs(self, arrays: Arrays, seed: int) -> tuple[Array, ...]:
        values = arrays.unwritten((self.elements,), self.dtype)
        for part in blocks(self.elements):
            eighths = arrays.normal((part.stop - part.start,), "int8", seed + part.start)  # uniform over -8..7
            values[part] = eighths * 2 + 1
        return (values,)

    def make_output(self, arrays: Arrays) -> Array:
        return arrays.unwritten((PARTIAL_SUMS,), arithmetic_dtype(self.dtype))

    def check(self, arrays: Arrays, inputs: tuple[Array, ...], output: Array, seed: int) -> Check:
        """The error is the distance of the sum of sums from the exact sum; there may be none."""
        exact = sum(float(arrays.wide(inputs[0][part]).sum()) for part in blocks(self.elements))
        return Check(error=abs(float(arrays.wide(output).sum()) - exact), limit=0.0)


@dataclass(frozen=True, kw_only=True)
class CopyCase(StreamCase):
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
        a, c = inputs[0], output
        differ = sum(float(arrays.xp.count_nonzero(arrays.wide(a[part]) != arrays.wide(c[part]))) for part in blocks(self.elements))
        return Check(error=differ, limit=0.0)


@dataclass(frozen=True, kw_only=True)
class ScaleCase(StreamCase):
    """c = s a with s = 0.4. One read, one write, a multiplication for each element.

    >>> case = ScaleCase(elements=1000, dtype="fp32")
    >>> case.bytes, case.flops
    (8000.0, 1000.0)
    """

    op: ClassVar[str] = "scale"
    arrays_moved: ClassVar[int] = 2

    @property
    def flops(self) -> float:
        return float(self.elements)

    def check(self, arrays: Arrays, inputs: tuple[Array, ...], output: Array, seed: int) -> Check:
        """Every element, in units of its limit 3 u |s a|: s and the product are rounded (Higham, Accuracy and Stability, eq. 2.4), the
        third is for the product of the two errors and for the reference in float64."""
        xp, worst = arrays.xp, 0.0
        for part in blocks(self.elements):
            reference = SCALAR * arrays.wide(inputs[0][part])
            limit = 3 * UNIT_ROUNDOFF[self.dtype] * xp.abs(reference) + _smallest(self.dtype)
            worst = larger(worst, farthest(xp, arrays.wide(output[part]), reference, limit))
        return Check(error=worst, limit=1.0)


@dataclass(frozen=True, kw_only=True)
class TriadCase(StreamCase):
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
        xp, roundoff, worst = arrays.xp, UNIT_ROUNDOFF[self.dtype], 0.0
        for part in blocks(self.elements):
            a, b = (arrays.wide(array[part]) for array in inputs)
            scaled = SCALAR * b
            reference = a + scaled
            limit = roundoff * (3 * xp.abs(scaled) + 2 * xp.abs(reference)) + _smallest(self.dtype)
            worst = larger(worst, farthest(xp, arrays.wide(output[part]), reference, limit))
        return Check(error=worst, limit=1.0)


def _smallest(dtype: str) -> float:
    """What fp16 may lose near zero, and above zero for all, so that a right zero is not 0 / 0."""
    return 2 * HALF_SMALLEST.get(dtype, 2.0**-127)
