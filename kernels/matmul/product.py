"""What every matrix product shares: its sides, layout, element types, and the shapes of A and B in memory."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import Any, ClassVar

from ..arrays import Array
from ..case import DTYPE_BYTES, Case

LAYOUTS = ("nn", "nt", "tn")

OUTPUT_DTYPE = {"int8": "int32", "tf32": "fp32", "fp8_e4m3": "bf16", "fp8_e5m2": "bf16"}
"""What comes out where it is not what goes in: int8 products are summed, and kept, in int32; a layer in fp8 passes bf16 on."""

OUTPUT_BYTES = {**DTYPE_BYTES, "int32": 4}

FLOAT8 = ("fp8_e4m3", "fp8_e5m2")


FP16_ACCUM = "fp16_accum"
"""math_mode of fp16 whose sums may be kept in fp16, as HGEMM does: what a P100 computes at twice fp32's rate."""


def refuses_fp16_sums(case: Any) -> str | None:
    """Why a kernel that sums fp16 in fp32 does not do the case: its row would promise less than it does.

    Other dtypes and operations have no such mode.
    """
    if case.math_mode == FP16_ACCUM:
        return "this kernel sums fp16 in fp32; with math_mode fp16_accum there are torch.mm on CUDA and cupy.matmul.half2"
    return None


@dataclass(frozen=True, kw_only=True)
class Product(Case, ABC):
    """C (m x n) = A (m x k) times B (k x n). ``layout``: how A and B lie in memory, row by row as written (n) or transposed (t).

    Of a linear layer with the weight W (outputs x inputs), Y = X W' is ``nt``, the data gradient dX = dY W is ``nn`` and the weight
    gradient dW = dY' X is ``tn``.
    """

    limited_by: ClassVar[str] = "compute"

    m: int
    n: int
    k: int
    layout: str = "nn"

    def _check_sides(self) -> None:
        if min(self.m, self.n, self.k) < 1:
            raise ValueError(f"{self.op} of m={self.m}, n={self.n}, k={self.k}: each must be at least 1")
        if self.layout not in LAYOUTS:
            raise ValueError(f"{self.op} layout {self.layout!r}: use one of {', '.join(LAYOUTS)}")
        self._set_math_mode()
        if self.math_mode == "fast_accum" and self.dtype not in FLOAT8:
            raise ValueError(f"{self.op} of {self.dtype} with math_mode 'fast_accum': only fp8 has it; leave math_mode out")
        if self.math_mode == FP16_ACCUM and (self.op, self.dtype) != ("matmul", "fp16"):
            raise ValueError(f"{self.op} of {self.dtype} with math_mode {FP16_ACCUM!r}: only matmul of fp16 has it; leave math_mode out")

    def input_dtypes(self) -> tuple[str, str]:
        """Element types of A and B."""
        return self.dtype, self.dtype

    @property
    def output_dtype(self) -> str:
        """Element type of C."""
        return OUTPUT_DTYPE.get(self.dtype, self.dtype)

    @property
    def a_shape(self) -> tuple[int, int]:
        """A as it lies in memory."""
        return (self.k, self.m) if self.layout[0] == "t" else (self.m, self.k)

    @property
    def b_shape(self) -> tuple[int, int]:
        """B as it lies in memory."""
        return (self.n, self.k) if self.layout[1] == "t" else (self.k, self.n)

    def matrix_bytes(self) -> tuple[int, int, int]:
        """Bytes of A, B and C."""
        a, b = (DTYPE_BYTES[dtype] for dtype in self.input_dtypes())
        return self.m * self.k * a, self.k * self.n * b, self.m * self.n * OUTPUT_BYTES[self.output_dtype]

    def operands(self, inputs: tuple[Array, ...]) -> tuple[Array, Array]:
        """A (..., m, k) and B (..., k, n) as views of the inputs."""
        a, b = inputs[:2]
        return (a.swapaxes(-1, -2) if self.layout[0] == "t" else a), (b.swapaxes(-1, -2) if self.layout[1] == "t" else b)
