"""The matmul case: shape, layout, scales, FLOPs, bytes and inputs of C = A B."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..arrays import Array, Arrays
from ..case import Check
from .check import Allowed, check_product
from .product import FLOAT8, FP16_ACCUM, Product

SCALINGS = ("per_tensor", "row_wise")
SCALE_SEED = 2**33
"""Keeps the random numbers of the scales apart from those of A and B."""


@dataclass(frozen=True, kw_only=True)
class MatmulCase(Product):
    """C (m x n) = A (m x k) times B (k x n), in fp8 with scales.

    2 m n k FLOPs: a multiplication and an addition for each term, as BLAS benchmarks have always counted; scales are not counted.

    In fp8 C = (A scale_a) (B scale_b) in bf16, with ``scaling`` ``per_tensor`` (the default: one fp32 scale for all of A and one for all
    of B) or ``row_wise`` (one for each row of A and each column of B). ``fp8_e4m3`` is e4m3 times e4m3, the forward pass.
    ``fp8_e5m2`` is a gradient in e5m2 (A) times weights or activations in e4m3 (B), as in the backward pass (Micikevicius et al., "FP8
    formats for deep learning", arXiv 2209.05433, section 3.1); e5m2 times e5m2 is not in cuBLASLt's table of fp8 types.
    By default fp8 sums move to fp32 again and again; ``math_mode`` ``fast_accum`` lets Ada and Hopper keep them in the tensor core,
    which is faster and keeps about 14 bits (``kernels/rounding.py``). Training uses both: the recipes of
    NVIDIA's Transformer Engine are fast in the forward pass and split the sums in both gradients.
    fp16 is summed in fp32, or with ``math_mode`` ``fp16_accum`` in fp16, as HGEMM does: what a P100 computes at twice fp32's rate.

    >>> case = MatmulCase(m=2, n=3, k=4, dtype="bf16")
    >>> case.flops, case.bytes
    (48.0, 52.0)
    >>> MatmulCase(m=2, n=3, k=4, dtype="fp8_e5m2").input_dtypes()
    ('fp8_e5m2', 'fp8_e4m3')
    """

    op: ClassVar[str] = "matmul"

    scaling: str | None = None

    def __post_init__(self) -> None:
        self._check_sides()
        if self.dtype in FLOAT8 and self.scaling is None:
            object.__setattr__(self, "scaling", "per_tensor")
        if self.dtype in FLOAT8 and self.scaling not in SCALINGS:
            raise ValueError(f"matmul scaling {self.scaling!r}: use one of {', '.join(SCALINGS)}")
        if self.dtype not in FLOAT8 and self.scaling is not None:
            raise ValueError(f"matmul of {self.dtype} with scaling {self.scaling!r}: only fp8 has scales; leave scaling out")
        if self.dtype in FLOAT8 and self.math_mode not in (None, "fast_accum"):
            raise ValueError(f"matmul of {self.dtype} with math_mode {self.math_mode!r}: use 'fast_accum' or leave it out")

    def input_dtypes(self) -> tuple[str, str]:
        return self.dtype, "fp8_e4m3" if self.dtype in FLOAT8 else self.dtype

    def scale_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
        """Shapes of the scales of A and B: (1,) each, or (m, 1) and (1, n)."""
        if self.scaling is None:
            return None
        return ((1,), (1,)) if self.scaling == "per_tensor" else ((self.m, 1), (1, self.n))

    @property
    def flops(self) -> float:
        return 2.0 * self.m * self.n * self.k

    @property
    def bytes(self) -> float:
        scales = 0 if self.scaling is None else 2 if self.scaling == "per_tensor" else self.m + self.n
        return float(sum(self.matrix_bytes()) + 4 * scales)

    @property
    def footprint_bytes(self) -> float:
        return self.bytes

    def make_inputs(self, arrays: Arrays, seed: int) -> tuple[Array, ...]:
        """A and B as they lie in memory (transposed where the layout says so); in fp8 also scale_a and scale_b, from 0.5 to 1.5."""
        a_dtype, b_dtype = self.input_dtypes()
        matrices = arrays.normal(self.a_shape, a_dtype, 2 * seed), arrays.normal(self.b_shape, b_dtype, 2 * seed + 1)
        shapes = self.scale_shapes()
        if shapes is None:
            return matrices
        normals = (arrays.normal(shape, "fp32", SCALE_SEED + 2 * seed + i) for i, shape in enumerate(shapes))
        return (*matrices, *(arrays.xp.clip(normal, -2.0, 2.0) * 0.25 + 1.0 for normal in normals))

    def scales(self, inputs: tuple[Array, ...]) -> tuple[Array, Array] | None:
        """scale_a and scale_b, fp32; None where the dtype has none."""
        return None if self.scaling is None else (inputs[2], inputs[3])

    def make_output(self, arrays: Arrays) -> Array:
        return arrays.unwritten((self.m, self.n), self.output_dtype)

    def check(self, arrays: Arrays, inputs: tuple[Array, ...], output: Array, seed: int) -> Check:
        """Every element takes part; see ``matmul/check.py`` for what is caught."""
        a, b = self.operands(inputs)
        fast = self.math_mode in ("fast_accum", FP16_ACCUM)
        allowed = Allowed.of(self.dtype, self.output_dtype, self.k, scaled=self.scaling is not None, fast=fast)
        return check_product(arrays, a, b, output, allowed, seed, self.scales(inputs))
