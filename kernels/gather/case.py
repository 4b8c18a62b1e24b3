"""Embedding gather: sizes, bytes, inputs and check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, Arrays
from ..case import DTYPE_BYTES, Case, Check
from ..memory.checking import blocks

ID_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class GatherCase(Case):
    """out[i] = table[ids[i]] for ``rows`` int64 ids, drawn alike from ``table_rows`` rows of ``width`` elements.

    Bytes: each id read, its row read and written. Rows that are asked for twice may come from a cache: a table much larger than the
    batch keeps that rare.

    >>> case = GatherCase(rows=10, table_rows=1000, width=100, dtype="bf16")
    >>> case.bytes, case.flops, case.footprint_bytes
    (4080.0, 0.0, 202080.0)
    """

    op: ClassVar[str] = "gather"
    limited_by: ClassVar[str] = "memory"

    rows: int
    table_rows: int
    width: int

    def __post_init__(self) -> None:
        if min(self.rows, self.table_rows, self.width) < 1:
            raise ValueError(
                f"gather of {self.rows} rows from {self.table_rows} rows of {self.width} elements: there must be at least 1 of each"
            )

    @property
    def flops(self) -> float:
        return 0.0

    @property
    def bytes(self) -> float:
        return float(self.rows * (2 * self.width * DTYPE_BYTES[self.dtype] + ID_BYTES))

    @property
    def footprint_bytes(self) -> float:
        return float((self.rows + self.table_rows) * self.width * DTYPE_BYTES[self.dtype] + self.rows * ID_BYTES)

    def make_inputs(self, arrays: Arrays, seed: int) -> tuple[Array, ...]:
        """Table and ids."""
        table = arrays.normal((self.table_rows, self.width), self.dtype, 2 * seed)
        return table, arrays.integers((self.rows,), 0, self.table_rows, 2 * seed + 1)

    def make_output(self, arrays: Arrays) -> Array:
        return arrays.unwritten((self.rows, self.width), self.dtype)

    def check(self, arrays: Arrays, inputs: tuple[Array, ...], output: Array, seed: int) -> Check:
        """The error is the number of elements that differ; none may."""
        table, ids = inputs
        differ = 0.0
        for part in blocks(self.rows, self.width):
            differ += float(arrays.xp.count_nonzero(arrays.wide(table[ids[part]]) != arrays.wide(output[part])))
        return Check(error=differ, limit=0.0)
