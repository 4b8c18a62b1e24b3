"""The matmul case: shape, layout, FLOPs, bytes and inputs of C = A B."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, Arrays
from ..case import DTYPE_BYTES, Case, Check
from .check import check_product

LAYOUTS = ("nn", "nt", "tn")

OUTPUT_DTYPE = {"int8": "int32", "tf32": "fp32"}
"""What comes out where it is not what goes in: int8 products are summed, and kept, in int32."""

OUTPUT_BYTES = {"int32": 4, **DTYPE_BYTES}


@dataclass(frozen=True, kw_only=True)
class MatmulCase(Case):
    """C (m x n) = A (m x k) times B (k x n). ``layout``: how A and B lie in memory, row by row as written (n) or transposed (t).

    2 m n k FLOPs: a multiplication and an addition for each term, as BLAS benchmarks have always counted.

    >>> case = MatmulCase(m=2, n=3, k=4, dtype="bf16")
    >>> case.flops, case.bytes
    (48.0, 52.0)
    """

    op: ClassVar[str] = "matmul"
    limited_by: ClassVar[str] = "compute"

    m: int
    n: int
    k: int
    layout: str = "nn"

    def __post_init__(self) -> None:
        if min(self.m, self.n, self.k) < 1:
            raise ValueError(f"matmul of m={self.m}, n={self.n}, k={self.k}: each must be at least 1")
        if self.layout not in LAYOUTS:
            raise ValueError(f"matmul layout {self.layout!r}: use one of {', '.join(LAYOUTS)}")
        self._set_math_mode()

    @property
    def output_dtype(self) -> str:
        """Element type of C."""
        return OUTPUT_DTYPE.get(self.dtype, self.dtype)

    @property
    def flops(self) -> float:
        return 2.0 * self.m * self.n * self.k

    @property
    def bytes(self) -> float:
        inputs = (self.m * self.k + self.k * self.n) * DTYPE_BYTES[self.dtype]
        return float(inputs + self.m * self.n * OUTPUT_BYTES[self.output_dtype])

    @property
    def footprint_bytes(self) -> float:
        return self.bytes

    def make_inputs(self, arrays: Arrays, seed: int) -> tuple[Array, ...]:
        """A and B as they lie in memory: transposed where the layout says so."""
        a_shape = (self.k, self.m) if self.layout[0] == "t" else (self.m, self.k)
        b_shape = (self.n, self.k) if self.layout[1] == "t" else (self.k, self.n)
        return arrays.normal(a_shape, self.dtype, 2 * seed), arrays.normal(b_shape, self.dtype, 2 * seed + 1)

    def operands(self, inputs: tuple[Array, ...]) -> tuple[Array, Array]:
        """A (m x k) and B (k x n) as views of the inputs."""
        a, b = inputs
        return (a.T if self.layout[0] == "t" else a), (b.T if self.layout[1] == "t" else b)

    def make_output(self, arrays: Arrays) -> Array:
        return arrays.unwritten((self.m, self.n), self.output_dtype)

    def check(self, arrays: Arrays, inputs: tuple[Array, ...], output: Array, seed: int) -> Check:
        """Every element takes part; see ``matmul/check.py`` for what is caught."""
        a, b = self.operands(inputs)
        return check_product(arrays, a, b, output, dtype=self.dtype, output_dtype=self.output_dtype, seed=seed)
