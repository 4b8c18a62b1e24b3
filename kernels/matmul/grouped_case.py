"""The grouped matmul case: a mixture of experts, where each expert multiplies the rows that were sent to it by its own weight."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..arrays import Array, Arrays
from ..case import Check
from .check import Allowed, Operand, check_products
from .product import FLOAT8, Product

SPLITS = ("even", "uneven")
OFFSET_BYTES = 4
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, kw_only=True)
class GroupedMatmulCase(Product):
    """C (m x n): the rows of A (m x k), sorted by expert, times the weight (k x n) of their expert among B (groups, k, n).

    ``split`` shares the m rows among the experts. ``even``: as equal as whole numbers allow. ``uneven``: in proportion to 1, 1/2, 1/3,
    ... and none for the last (Zipf's law: a choice, not a measurement), dealt out in a fixed mixed order, so that an expert with no rows
    and neighbours of very different size are always there. 2 m n k FLOPs in all, whatever the split; only the weights of experts that
    have rows must move.

    >>> case = GroupedMatmulCase(groups=4, m=22, n=3, k=4, split="uneven", dtype="bf16")
    >>> case.row_counts()
    (4, 12, 0, 6)
    >>> case.flops, case.bytes
    (528.0, 396.0)
    """

    op: ClassVar[str] = "grouped_matmul"

    groups: int
    split: str = "even"

    def __post_init__(self) -> None:
        self._check_sides()
        if self.layout[0] != "n":
            raise ValueError(f"grouped_matmul layout {self.layout!r}: use nn or nt, for A's rows belong to experts")
        if self.groups < 1:
            raise ValueError(f"grouped_matmul of groups={self.groups}: it must be at least 1")
        if self.split not in SPLITS:
            raise ValueError(f"grouped_matmul split {self.split!r}: use one of {', '.join(SPLITS)}")
        if self.dtype in FLOAT8:
            raise ValueError(f"grouped_matmul of {self.dtype}: scales for each expert are not there yet; use matmul")

    def row_counts(self) -> tuple[int, ...]:
        """How many rows each expert has, in the order of the experts; they sum to m."""
        if self.split == "even" or self.groups == 1:
            return tuple(self.m // self.groups + (expert < self.m % self.groups) for expert in range(self.groups))
        order = sorted(range(self.groups), key=lambda expert: (expert + 1) * GOLDEN % 1)
        shares = [1 / (1 + rank) for rank in range(self.groups - 1)]
        ends = [int(self.m * part / sum(shares)) for part in itertools.accumulate(shares)]
        ends = [*ends[:-1], self.m, self.m]
        counts = dict(zip(order, (end - start for start, end in zip([0, *ends], ends, strict=False)), strict=True))
        return tuple(counts[expert] for expert in range(self.groups))

    def offsets(self) -> tuple[int, ...]:
        """Where the rows of each expert end: expert e has the rows from offsets[e - 1] (0 for the first) up to offsets[e]."""
        return tuple(itertools.accumulate(self.row_counts()))

    def expert_rows(self) -> list[tuple[int, slice]]:
        """The experts that have rows, each with its rows of A and C."""
        ends = self.offsets()
        starts = (0, *ends[:-1])
        return [(expert, slice(start, end)) for expert, (start, end) in enumerate(zip(starts, ends, strict=True)) if end > start]

    @property
    def flops(self) -> float:
        return 2.0 * self.m * self.n * self.k

    @property
    def bytes(self) -> float:
        a, b, c = self.matrix_bytes()
        return float(a + b * sum(count > 0 for count in self.row_counts()) + c + OFFSET_BYTES * self.groups)

    @property
    def footprint_bytes(self) -> float:
        a, b, c = self.matrix_bytes()
        return float(a + b * self.groups + c + OFFSET_BYTES * self.groups)

    def make_inputs(self, arrays: Arrays, seed: int) -> tuple[Array, ...]:
        """A, all B as they lie in memory (transposed where the layout says so), and the offsets: int32, shape (groups,)."""
        a = arrays.normal(self.a_shape, self.dtype, 2 * seed)
        b = arrays.normal((self.groups, *self.b_shape), self.dtype, 2 * seed + 1)
        return a, b, arrays.from_host(np.array(self.offsets(), dtype=np.int32))

    def make_output(self, arrays: Arrays) -> Array:
        return arrays.unwritten((self.m, self.n), self.output_dtype)

    def check(self, arrays: Arrays, inputs: tuple[Array, ...], output: Array, seed: int) -> Check:
        """Every element takes part; see ``matmul/check.py`` for what is caught."""
        a, b = self.operands(inputs)
        experts = [
            (Operand(arrays, a[None, rows]), Operand(arrays, b[expert : expert + 1]), Operand(arrays, output[None, rows]))
            for expert, rows in self.expert_rows()
        ]
        return check_products(arrays, experts, Allowed.of(self.dtype, self.output_dtype, self.k), seed)
