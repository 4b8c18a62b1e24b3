"""numpy.matmul: the BLAS that NumPy was built with."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from .case import MatmulCase


def refuses(case: MatmulCase, target: Target) -> str | None:
    if target.kind != "cpu":
        return "NumPy computes on the CPU only"
    if case.dtype not in ("fp64", "fp32"):
        return f"NumPy has a BLAS for fp64 and fp32 only, not for {case.dtype}"
    return None


@kernel("matmul", "numpy", "numpy.matmul", refuses)
def matmul(case: MatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    a, b = case.operands(inputs)
    return lambda: np.matmul(a, b, out=output)
