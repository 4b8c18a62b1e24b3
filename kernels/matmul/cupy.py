"""cupy.matmul: cuBLAS or rocBLAS without torch. Run on an H200.

cuBLAS sums fp16 in fp32 (CUBLAS_COMPUTE_32F, the only type that CuPy asks for), fp32 in fp32 unless TF32 is asked for: by the environment
variable CUPY_TF32, or as here by CuPy's compute type, which is set for each case so that no row means another arithmetic than it says.
"""

from __future__ import annotations

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from .batched_case import BatchedMatmulCase
from .case import MatmulCase
from .product import refuses_fp16_sums

DTYPES = ("fp64", "fp32", "tf32", "fp16")


def refuses(case: MatmulCase, target: Target) -> str | None:
    if target.kind not in ("cuda", "rocm"):
        return "CuPy computes on CUDA and ROCm devices only"
    if case.dtype not in DTYPES:
        return f"cupy.matmul calls a BLAS for {', '.join(DTYPES)} only, not for {case.dtype}; use the torch backend"
    if case.dtype == "tf32" and (target.kind != "cuda" or (target.compute_capability or (8, 0)) < (8, 0)):
        return "TF32 is arithmetic of NVIDIA tensor cores from compute capability 8.0 on"
    return refuses_fp16_sums(case)


def refuses_batched(case: BatchedMatmulCase, target: Target) -> str | None:
    if case.dtype not in ("fp64", "fp32", "fp16"):
        return f"cupy.matmul multiplies batches of fp64, fp32 and fp16 with a BLAS, not of {case.dtype}; use the torch backend"
    if case.layout != "nn":
        return "cupy.matmul copies transposed batches before it multiplies them; use the torch backend"
    if case.dtype == "fp16" and (target.kind == "rocm" or (target.compute_capability or (7, 0)) < (7, 0)):
        return "cupy.matmul copies batches of fp16 to fp32 before it multiplies them where there are no tensor cores; use fp32"
    return None if target.kind in ("cuda", "rocm") else "CuPy computes on CUDA and ROCm devices only"


def set_compute_type(dtype: str) -> None:
    """TF32 for tf32 and nothing but IEEE fp32 for fp32, whatever the environment says."""
    import cupy
    import numpy as np

    linalg = cupy._core._routines_linalg
    linalg.set_compute_type(np.float32, linalg.COMPUTE_TYPE_TF32 if dtype == "tf32" else linalg.COMPUTE_TYPE_DEFAULT)


@kernel("matmul", "cupy", "cupy.matmul", refuses)
def matmul(case: MatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import cupy

    set_compute_type(case.dtype)
    a, b = case.operands(inputs)
    return lambda: cupy.matmul(a, b, out=output)


@kernel("batched_matmul", "cupy", "cupy.matmul", refuses_batched)
def batched_matmul(case: BatchedMatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import cupy

    a, b = inputs
    return lambda: cupy.matmul(a, b, out=output)
