"""numpy.matmul on stacks of matrices: a BLAS call for each."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Arrays
from ..kernel import Call, kernel
from .batched_case import BatchedMatmulCase
from .numpy import refuses


@kernel("batched_matmul", "numpy", "numpy.matmul", refuses)
def matmul(case: BatchedMatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    a, b = case.operands(inputs)
    return lambda: np.matmul(a, b, out=output)
