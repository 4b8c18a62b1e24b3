"""RMSNorm and LayerNorm: sizes, FLOPs, bytes and inputs. A row is a token, its width the hidden size of a model.

Forward, with d = x for RMSNorm (Zhang and Sennrich, arXiv 1910.07467) and d = x - mean(x) for LayerNorm (Ba et al., arXiv 1607.06450):
n = d / sqrt(mean(d^2) + eps), y = n w (+ b). The variance is the biased one, divided by width.

Backward, with g = dy w: dx = (g - n mean(g n)) / sqrt(mean(d^2) + eps), for LayerNorm less the mean of g in the bracket;
dw = sum over rows of dy n, db = sum over rows of dy. What the forward pass leaves (the mean and the root, up to 8 bytes a row) may be at
hand: it belongs to ``prepare`` and is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, Arrays, Output, each
from ..case import DTYPE_BYTES, Case, Check
from .check import check_backward, check_forward

EPSILON = 1e-5
"""PyTorch's default for LayerNorm, and what Llama 2 and 3 use (``norm_eps``)."""

SMALL_ROWS = 2.0**-8
"""Every other row, the first among them, is scaled by this: its mean square of 1.5e-5 is near epsilon, so that a forgotten or wrong
epsilon shows in every dtype."""


@dataclass(frozen=True, kw_only=True)
class _NormCase(Case):
    """``rows`` rows of ``width`` elements; weight (and bias) of ``width`` elements in the same dtype."""

    limited_by: ClassVar[str] = "memory"
    centred: ClassVar[bool]
    flops_forward: ClassVar[int]
    flops_backward: ClassVar[int]

    rows: int
    width: int
    direction: str = "forward"

    def __post_init__(self) -> None:
        if min(self.rows, self.width) < 1:
            raise ValueError(f"{self.op} of {self.rows} rows of {self.width} elements: there must be at least 1 of each")
        if self.direction not in ("forward", "backward"):
            raise ValueError(f"{self.op} direction {self.direction!r}: it is 'forward' or 'backward'")

    @property
    def backward(self) -> bool:
        return self.direction == "backward"

    @property
    def flops(self) -> float:
        return float((self.flops_backward if self.backward else self.flops_forward) * self.rows * self.width)

    @property
    def bytes(self) -> float:
        large, small = (3, 3 if self.centred else 2) if self.backward else (2, 2 if self.centred else 1)
        return float((large * self.rows + small) * self.width * DTYPE_BYTES[self.dtype])

    @property
    def footprint_bytes(self) -> float:
        return self.bytes

    def make_inputs(self, arrays: Arrays, seed: int) -> tuple[Array, ...]:
        """Forward x, w (and b); backward x, w and dy. Rows of LayerNorm have mean 1 in units of their deviation."""
        x = arrays.normal((self.rows, self.width), self.dtype, 4 * seed)
        if self.centred:
            x += 1.0
        x[::2] *= SMALL_ROWS
        weight = arrays.normal((self.width,), self.dtype, 4 * seed + 1)
        if self.backward:
            return x, weight, arrays.normal((self.rows, self.width), self.dtype, 4 * seed + 2)
        return (x, weight, arrays.normal((self.width,), self.dtype, 4 * seed + 3)) if self.centred else (x, weight)

    def make_output(self, arrays: Arrays) -> Output:
        """Forward y; backward dx, dw (and db)."""
        whole = arrays.unwritten((self.rows, self.width), self.dtype)
        if not self.backward:
            return whole
        return (whole, *(arrays.unwritten((self.width,), self.dtype) for _ in range(2 if self.centred else 1)))

    def check(self, arrays: Arrays, inputs: tuple[Array, ...], output: Output, seed: int) -> Check:
        """Every element against float64; see ``norm/check.py``."""
        check = check_backward if self.backward else check_forward
        return check(arrays, inputs, each(output), centred=self.centred, epsilon=EPSILON, dtype=self.dtype)


@dataclass(frozen=True, kw_only=True)
class RmsNormCase(_NormCase):
    """RMSNorm. FLOPs an element: forward 4 (square, sum, times the root, times w), backward 9 (n, g, g n and its sum, n times the mean,
    difference, times the root, dy n and its sum).

    >>> case = RmsNormCase(rows=10, width=100, dtype="bf16")
    >>> case.bytes, case.flops
    (4200.0, 4000.0)
    """

    op: ClassVar[str] = "rms_norm"
    centred: ClassVar[bool] = False
    flops_forward: ClassVar[int] = 4
    flops_backward: ClassVar[int] = 9


@dataclass(frozen=True, kw_only=True)
class LayerNormCase(_NormCase):
    """LayerNorm. FLOPs an element: forward 7 (sum, difference, square, sum, times the root, times w, plus b), backward 13 (as RMSNorm, and
    x - mean, the sum of g, its difference, the sum of dy).

    >>> case = LayerNormCase(rows=10, width=100, dtype="bf16", direction="backward")
    >>> case.bytes, case.flops
    (6600.0, 13000.0)
    """

    op: ClassVar[str] = "layer_norm"
    centred: ClassVar[bool] = True
    flops_forward: ClassVar[int] = 7
    flops_backward: ClassVar[int] = 13
