"""The batched matmul case: many products of one shape, such as the scores of all heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, Arrays
from ..case import Check
from .check import Allowed, Operand, check_products
from .product import FLOAT8, Product


@dataclass(frozen=True, kw_only=True)
class BatchedMatmulCase(Product):
    """C_g (m x n) = A_g (m x k) times B_g (k x n) for each of ``groups`` pairs, stacked: (groups, m, k), (groups, k, n), (groups, m, n).

    2 groups m n k FLOPs.

    >>> case = BatchedMatmulCase(groups=10, m=2, n=3, k=4, dtype="bf16")
    >>> case.flops, case.bytes
    (480.0, 520.0)
    """

    op: ClassVar[str] = "batched_matmul"

    groups: int

    def __post_init__(self) -> None:
        self._check_sides()
        if self.groups < 1:
            raise ValueError(f"batched_matmul of groups={self.groups}: it must be at least 1")
        if self.dtype in FLOAT8:
            raise ValueError(f"batched_matmul of {self.dtype}: no library multiplies batches with scales; use matmul")

    @property
    def flops(self) -> float:
        return 2.0 * self.groups * self.m * self.n * self.k

    @property
    def bytes(self) -> float:
        return float(self.groups * sum(self.matrix_bytes()))

    @property
    def footprint_bytes(self) -> float:
        return self.bytes

    def make_inputs(self, arrays: Arrays, seed: int) -> tuple[Array, ...]:
        """All A and all B as they lie in memory: each matrix transposed where the layout says so."""
        shapes = ((self.groups, *self.a_shape), (self.groups, *self.b_shape))
        return arrays.normal(shapes[0], self.dtype, 2 * seed), arrays.normal(shapes[1], self.dtype, 2 * seed + 1)

    def make_output(self, arrays: Arrays) -> Array:
        return arrays.unwritten((self.groups, self.m, self.n), self.output_dtype)

    def check(self, arrays: Arrays, inputs: tuple[Array, ...], output: Array, seed: int) -> Check:
        """Every element takes part; see ``matmul/check.py`` for what is caught."""
        a, b = self.operands(inputs)
        stacks = Operand(arrays, a), Operand(arrays, b), Operand(arrays, output)
        return check_products(arrays, [stacks], Allowed.of(self.dtype, self.output_dtype, self.k), seed)
