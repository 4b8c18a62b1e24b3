"""Cross-entropy over large vocabularies, forward and backward: sizes, FLOPs, bytes, inputs and check.

Forward: loss = log(sum(exp(x))) - x[target] of each row, in fp32 (fp64 for fp64). Backward, of the sum of all losses: dx = softmax(x), less
1 at the target, in the dtype of the logits. What the forward pass leaves (log-sum-exp, or all log-probabilities where a library keeps
those) may be at hand: it belongs to ``prepare`` and is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..arrays import Array, Arrays
from ..case import DTYPE_BYTES, UNIT_ROUNDOFF, Case, Check
from ..memory.checking import (
    UNDERFLOW,
    arithmetic_dtype,
    arithmetic_roundoff,
    blocks,
    exponential_error,
    farthest,
    larger,
    sum_error,
)
from ..softmax.case import logits

TARGET_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class CrossEntropyCase(Case):
    """``rows`` tokens over a vocabulary of ``width``; targets are int64.

    FLOPs an element: forward 4 (maximum, difference, exponential, sum), backward 2 (difference, exponential).

    >>> case = CrossEntropyCase(rows=10, width=100, dtype="bf16")
    >>> case.bytes, case.flops
    (2120.0, 4000.0)
    """

    op: ClassVar[str] = "cross_entropy"
    limited_by: ClassVar[str] = "memory"

    rows: int
    width: int
    direction: str = "forward"

    def __post_init__(self) -> None:
        if min(self.rows, self.width) < 1:
            raise ValueError(f"cross_entropy of {self.rows} rows of {self.width} logits: there must be at least 1 of each")
        if self.direction not in ("forward", "backward"):
            raise ValueError(f"cross_entropy direction {self.direction!r}: it is 'forward' or 'backward'")

    @property
    def backward(self) -> bool:
        return self.direction == "backward"

    @property
    def flops(self) -> float:
        return (2.0 if self.backward else 4.0) * self.rows * self.width

    @property
    def bytes(self) -> float:
        logits_bytes = self.rows * self.width * DTYPE_BYTES[self.dtype]
        if self.backward:
            return float(2 * logits_bytes + self.rows * TARGET_BYTES)
        return float(logits_bytes + self.rows * (TARGET_BYTES + DTYPE_BYTES[arithmetic_dtype(self.dtype)]))

    @property
    def footprint_bytes(self) -> float:
        return self.bytes

    def make_inputs(self, arrays: Arrays, seed: int) -> tuple[Array, ...]:
        """Logits and targets."""
        targets = arrays.integers((self.rows,), 0, self.width, 2 * seed + 1)
        return logits(arrays, self.rows, self.width, self.dtype, 2 * seed), targets

    def make_output(self, arrays: Arrays) -> Array:
        """Forward the losses, backward the gradient of the logits."""
        if self.backward:
            return arrays.unwritten((self.rows, self.width), self.dtype)
        return arrays.unwritten((self.rows,), arithmetic_dtype(self.dtype))

    def check(self, arrays: Arrays, inputs: tuple[Array, ...], output: Array, seed: int) -> Check:
        """Every loss, or every element of the gradient, in units of its limit.

        With u the unit roundoff of the arithmetic and U that of the dtype: the sum of exponentials is off by ``exponential_error`` and
        ``sum_error``, which are absolute errors of its logarithm; the logarithm, the maximum that is added and the target that is
        taken off cost 2 u of their sizes each. In the gradient an exponential of x - log-sum-exp has its own error and that of the
        latter; the 1 that is taken off costs u, the result U.
        """
        xp, roundoff, u, worst = arrays.xp, UNIT_ROUNDOFF[self.dtype], arithmetic_roundoff(self.dtype), 0.0
        summing = sum_error(self.dtype, self.width)
        x, targets = inputs
        column = arrays.from_host(np.arange(self.width, dtype=np.float64))[None, :]
        for part in blocks(self.rows, self.width):
            values = arrays.wide(x[part])
            top = xp.amax(values, axis=1, keepdims=True)
            powers = xp.exp(values - top)
            total = powers.sum(axis=1, keepdims=True)
            shares = powers / total
            log_total = xp.log(total)
            sum_off = (shares * exponential_error(xp, values - top, self.dtype)).sum(axis=1, keepdims=True) + summing
            whole_off = sum_off + 2 * u * (xp.abs(log_total) + xp.abs(top) + 1)
            at_target = xp.where(arrays.wide(targets[part])[:, None] == column, 1.0, 0.0)
            if self.backward:
                reference = shares - at_target
                share_off = exponential_error(xp, values - top - log_total, self.dtype) + whole_off
                limit = shares * share_off + u * at_target + roundoff * xp.abs(reference) + 2 * UNDERFLOW[self.dtype]
                found = arrays.wide(output[part])
            else:
                taken = (at_target * values).sum(axis=1)
                reference = log_total[:, 0] + top[:, 0] - taken
                limit = whole_off[:, 0] + 2 * u * (xp.abs(taken) + xp.abs(reference))
                found = arrays.wide(output[part])
            worst = larger(worst, farthest(xp, found, reference, limit))
        return Check(error=worst, limit=1.0)
