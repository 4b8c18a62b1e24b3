"""AdamW: one step in place, with its FLOPs, bytes, inputs and check.

Loshchilov and Hutter, "Decoupled weight decay regularization" (arXiv 1711.05101), algorithm 2, in the form that PyTorch documents:
m = b1 m + (1 - b1) g, v = b2 v + (1 - b2) g^2, p = p (1 - lr wd) - lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, Arrays, Output
from ..case import DTYPE_BYTES, UNIT_ROUNDOFF, Check
from ..memory.case import StreamCase
from ..memory.checking import UNDERFLOW, arithmetic_dtype, arithmetic_roundoff, blocks, farthest, larger

BETA1, BETA2, EPSILON, WEIGHT_DECAY = 0.9, 0.95, 1e-8, 0.1
"""As GPT-3 was trained (Brown et al., arXiv 2005.14165, appendix B), and most language models since."""
LEARNING_RATE = 0.1
"""Hundreds of times the usual, so that a step, its bias correction and its weight decay are all larger than a rounding to bf16."""
STEP = 2
"""The number of the step. Early, so that bias correction matters: 1 - b1^2 = 0.19, 1 - b2^2 = 0.0975."""

DECAY = 1 - LEARNING_RATE * WEIGHT_DECAY
STEP_SIZE = LEARNING_RATE / (1 - BETA1**STEP)
ROOT_FACTOR = 1 / math.sqrt(1 - BETA2**STEP)


@dataclass(frozen=True, kw_only=True)
class AdamCase(StreamCase):
    """One step for ``elements`` parameters. Parameters and gradients are of the dtype, both moments fp32 (fp64 for fp64).

    Bytes: parameter, gradient and moments read, parameter and moments written. FLOPs: 14 an element (m 3, v 4, decay 1, root 1, bias
    correction 1, epsilon 1, quotient 1, step size 1, difference 1).

    A kernel's ``prepare`` calls ``begin``, which copies parameters and moments into the output; each call makes one step of it in place.
    The check expects one step since: a state that was not stepped, or stepped twice, is wrong.

    >>> fp32, bf16 = (AdamCase(elements=1000, dtype=dtype) for dtype in ("fp32", "bf16"))
    >>> fp32.bytes, bf16.bytes, fp32.flops
    (28000.0, 22000.0, 14000.0)
    """

    op: ClassVar[str] = "adam"

    @property
    def flops(self) -> float:
        return 14.0 * self.elements

    @property
    def _moment_bytes(self) -> int:
        return DTYPE_BYTES[arithmetic_dtype(self.dtype)]

    @property
    def bytes(self) -> float:
        return float(self.elements * (3 * DTYPE_BYTES[self.dtype] + 4 * self._moment_bytes))

    @property
    def footprint_bytes(self) -> float:
        """The inputs stay beside the state, for the check."""
        return float(self.elements * (3 * DTYPE_BYTES[self.dtype] + 4 * self._moment_bytes))

    def make_inputs(self, arrays: Arrays, seed: int) -> tuple[Array, ...]:
        """Parameters, gradients and both moments. Some parameters have never had a gradient: there 0 / (0 + eps) must be 0."""
        state = arithmetic_dtype(self.dtype)
        p, g = (arrays.normal((self.elements,), self.dtype, 4 * seed + i) for i in range(2))
        m, v = (arrays.normal((self.elements,), state, 4 * seed + 2 + i) for i in range(2))
        m *= 0.25
        v *= v
        for array in (g, m, v):
            array[::64] *= 0
        return p, g, m, v

    def make_output(self, arrays: Arrays) -> Output:
        state = arithmetic_dtype(self.dtype)
        return tuple(arrays.unwritten((self.elements,), dtype) for dtype in (self.dtype, state, state))

    def begin(self, inputs: tuple[Array, ...], output: Output) -> None:
        """Copy parameters and moments into the output, where the step is made."""
        p, _, m, v = inputs
        for kept, start in zip(output, (p, m, v), strict=True):
            kept[:] = start

    def refresh(self, arrays: Arrays, output: Output) -> None:
        """The next step starts from what the last one left: moments settle at the gradients, weight decay bounds the parameters."""

    def check(self, arrays: Arrays, inputs: tuple[Array, ...], output: Output, seed: int) -> Check:
        """Every element of p, m and v, in units of its limit.

        With u the unit roundoff of the moments' arithmetic and U that of the dtype. m: b1 and 1 - b1, two products, a sum, or a
        difference, a product and a sum: below 5 u (|m| + |g|). v alike: 5 u (v + g^2). The step s is off by 8 u |s| of its own (constants,
        product, quotient and root by approximation, 2 ulp each: CUDA C++ Programming Guide, table of single-precision functions), by
        the error of m through lr m / sqrt(v), and by half the relative error of v; p by 4 u |p| and the rounding U |p|.
        """
        xp, roundoff, u, worst = arrays.xp, UNIT_ROUNDOFF[self.dtype], arithmetic_roundoff(self.dtype), 0.0
        tiny = 2 * UNDERFLOW[arithmetic_dtype(self.dtype)]
        for part in blocks(self.elements):
            p, g, m, v = (arrays.wide(array[part]) for array in inputs)
            found_p, found_m, found_v = (arrays.wide(array[part]) for array in output)
            new_m, new_v = BETA1 * m + (1 - BETA1) * g, BETA2 * v + (1 - BETA2) * g * g
            m_error, v_error = 5 * u * (xp.abs(m) + xp.abs(g)) + tiny, 5 * u * (v + g * g) + tiny
            worst = larger(worst, farthest(xp, found_m, new_m, m_error))
            worst = larger(worst, farthest(xp, found_v, new_v, v_error))
            root = xp.sqrt(new_v) * ROOT_FACTOR + EPSILON
            step = STEP_SIZE * new_m / root
            new_p = DECAY * p - step
            step_error = xp.abs(step) * (8 * u + 0.5 * v_error / (new_v + tiny)) + STEP_SIZE * m_error / root
            limit = step_error + 4 * u * xp.abs(p) + roundoff * xp.abs(new_p) + 2 * UNDERFLOW[self.dtype]
            worst = larger(worst, farthest(xp, found_p, new_p, limit))
        return Check(error=worst, limit=1.0)
