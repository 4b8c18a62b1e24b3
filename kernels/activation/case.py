"""GELU and SwiGLU, forward: FLOPs, bytes, inputs and checks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, Arrays
from ..case import UNIT_ROUNDOFF, Check
from ..memory.case import StreamCase
from ..memory.checking import UNDERFLOW, arithmetic_roundoff, blocks, exponential_error, farthest, larger

GELU_FACTOR = math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715
"""Hendrycks and Gimpel, "Gaussian error linear units" (arXiv 1606.08415), section 2."""


@dataclass(frozen=True, kw_only=True)
class GeluCase(StreamCase):
    """y = x / 2 (1 + tanh(z)), z = sqrt(2 / pi) (x + 0.044715 x^3): the approximation by tanh that GPT-2 and Megatron compute, not erf.

    FLOPs: 9 an element (three products and a sum for x + 0.044715 x^3, a product, tanh, a sum, two products).

    >>> case = GeluCase(elements=1000, dtype="bf16")
    >>> case.bytes, case.flops
    (4000.0, 9000.0)
    """

    op: ClassVar[str] = "gelu"
    arrays_moved: ClassVar[int] = 2

    @property
    def flops(self) -> float:
        return 9.0 * self.elements

    def check(self, arrays: Arrays, inputs: tuple[Array, ...], output: Array, seed: int) -> Check:
        """Every element, in units of its limit.

        With tanh: 1 + tanh(z) is off by 4 u (2 ulp of tanhf in CUDA's tables, and the sum), so y by 4 u |x|; the argument z by 4 u |z|,
        which moves y by x sech^2(z) / 2 times that. As x / (1 + exp(-2 z)), which is the same: by ``exponential_error`` of |y| at most.
        Either way the products round by 4 u |y| and the result by U |y|.
        """
        xp, roundoff, u, worst = arrays.xp, UNIT_ROUNDOFF[self.dtype], arithmetic_roundoff(self.dtype), 0.0
        for part in blocks(self.elements):
            x = arrays.wide(inputs[0][part])
            z = GELU_FACTOR * (x + GELU_CUBIC * x * x * x)
            reference = x / (1 + xp.exp(-2 * z))  # the same, without the cancellation of 1 + tanh(z) near -1
            relative = exponential_error(xp, 2 * z, self.dtype) + 4 * u + roundoff
            limit = xp.abs(reference) * relative + 4 * u * xp.abs(x) * (1 + xp.abs(z) / xp.cosh(z) ** 2) + 2 * UNDERFLOW[self.dtype]
            worst = larger(worst, farthest(xp, arrays.wide(output[part]), reference, limit))
        return Check(error=worst, limit=1.0)


@dataclass(frozen=True, kw_only=True)
class SwigluCase(StreamCase):
    """c = a / (1 + exp(-a)) b: SiLU of the gate a times b (Shazeer, "GLU variants improve transformer", arXiv 2002.05202), each an array.

    FLOPs: 4 an element (exponential, sum, quotient, product).

    >>> case = SwigluCase(elements=1000, dtype="bf16")
    >>> case.bytes, case.flops
    (6000.0, 4000.0)
    """

    op: ClassVar[str] = "swiglu"
    arrays_moved: ClassVar[int] = 3

    @property
    def flops(self) -> float:
        return 4.0 * self.elements

    def check(self, arrays: Arrays, inputs: tuple[Array, ...], output: Array, seed: int) -> Check:
        """Every element, in units of its limit: ``exponential_error`` and 6 u (sum, quotient, product) of |c|, and 2 U of |c|, once for
        SiLU where it is rounded to the dtype on the way (two kernels one after the other, as in eager code) and once for the result."""
        xp, roundoff, u, worst = arrays.xp, UNIT_ROUNDOFF[self.dtype], arithmetic_roundoff(self.dtype), 0.0
        for part in blocks(self.elements):
            a, b = (arrays.wide(array[part]) for array in inputs)
            reference = a / (1 + xp.exp(-a)) * b
            relative = exponential_error(xp, a, self.dtype) + 6 * u + 2.01 * roundoff  # 0.01: the product of two errors
            limit = xp.abs(reference) * relative + UNDERFLOW[self.dtype] * (2 + xp.abs(b))
            worst = larger(worst, farthest(xp, arrays.wide(output[part]), reference, limit))
        return Check(error=worst, limit=1.0)
