"""cupy.matmul: cuBLAS or rocBLAS without torch. Not yet run on a GPU."""

from __future__ import annotations

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from .case import MatmulCase


def refuses(case: MatmulCase, target: Target) -> str | None:
    if target.kind not in ("cuda", "rocm"):
        return "CuPy computes on CUDA and ROCm devices only"
    if case.dtype not in ("fp64", "fp32", "fp16"):
        return f"cupy.matmul calls a BLAS for fp64, fp32 and fp16 only, not for {case.dtype}; use the torch backend"
    return None


@kernel("matmul", "cupy", "cupy.matmul", refuses)
def matmul(case: MatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import cupy

    a, b = case.operands(inputs)
    return lambda: cupy.matmul(a, b, out=output)
