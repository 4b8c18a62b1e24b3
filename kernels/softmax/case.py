"""Softmax of rows: y = exp(x - max(x)) / sum(exp(x - max(x))), sizes, FLOPs, bytes, inputs and check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, Arrays
from ..case import DTYPE_BYTES, UNIT_ROUNDOFF, Case, Check
from ..memory.checking import UNDERFLOW, arithmetic_roundoff, blocks, exponential_error, farthest, larger, sum_error

HIGH_MEAN, HIGH_DEVIATION = 96.0, 8.0


def logits(arrays: Arrays, rows: int, width: int, dtype: str, seed: int) -> Array:
    """Standard normal rows; every other one, the first among them, normal about 96 with deviation 8.

    exp(x) of those overflows fp32 beyond 88.7, so a kernel that does not subtract the maximum yields inf / inf.
    """
    x = arrays.normal((rows, width), dtype, seed)
    x[::2] *= HIGH_DEVIATION
    x[::2] += HIGH_MEAN
    return x


@dataclass(frozen=True, kw_only=True)
class SoftmaxCase(Case):
    """Softmax over each of ``rows`` rows of ``width`` elements.

    FLOPs: 5 an element (maximum, difference, exponential, sum, quotient).

    >>> case = SoftmaxCase(rows=10, width=100, dtype="bf16")
    >>> case.bytes, case.flops
    (4000.0, 5000.0)
    """

    op: ClassVar[str] = "softmax"
    limited_by: ClassVar[str] = "memory"

    rows: int
    width: int

    def __post_init__(self) -> None:
        if min(self.rows, self.width) < 1:
            raise ValueError(f"softmax of {self.rows} rows of {self.width} elements: there must be at least 1 of each")

    @property
    def flops(self) -> float:
        return 5.0 * self.rows * self.width

    @property
    def bytes(self) -> float:
        return float(2 * self.rows * self.width * DTYPE_BYTES[self.dtype])

    @property
    def footprint_bytes(self) -> float:
        return self.bytes

    def make_inputs(self, arrays: Arrays, seed: int) -> tuple[Array, ...]:
        return (logits(arrays, self.rows, self.width, self.dtype, seed),)

    def make_output(self, arrays: Arrays) -> Array:
        return arrays.unwritten((self.rows, self.width), self.dtype)

    def check(self, arrays: Arrays, inputs: tuple[Array, ...], output: Array, seed: int) -> Check:
        """Every element, in units of its limit.

        With U the unit roundoff of the dtype and u that of the arithmetic: an exponential is off by ``exponential_error``, the sum by the
        same and ``sum_error``, the quotient by 3 u (2 ulp of a division by approximation and the rounding), the result by U.
        """
        xp, roundoff, u, worst = arrays.xp, UNIT_ROUNDOFF[self.dtype], arithmetic_roundoff(self.dtype), 0.0
        summing = sum_error(self.dtype, self.width)
        for part in blocks(self.rows, self.width):
            x = arrays.wide(inputs[0][part])
            below = x - xp.amax(x, axis=1, keepdims=True)
            powers = xp.exp(below)
            reference = powers / powers.sum(axis=1, keepdims=True)
            power_error = exponential_error(xp, below, self.dtype)
            sum_off = (reference * power_error).sum(axis=1, keepdims=True) + summing
            limit = reference * (power_error + sum_off + 3 * u + roundoff) + 2 * UNDERFLOW[self.dtype]
            worst = larger(worst, farthest(xp, arrays.wide(output[part]), reference, limit))
        return Check(error=worst, limit=1.0)
