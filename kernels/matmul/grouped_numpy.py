"""A loop of numpy.matmul, one for each expert that has rows."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Arrays
from ..kernel import Call, kernel
from .grouped_case import GroupedMatmulCase
from .numpy import refuses


@kernel("grouped_matmul", "numpy", "numpy.matmul.loop", refuses)
def loop(case: GroupedMatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    a, b = case.operands(inputs)
    experts = [(a[rows], b[expert], output[rows]) for expert, rows in case.expert_rows()]

    def run() -> Array:
        for rows, weight, result in experts:
            np.matmul(rows, weight, out=result)
        return output

    return run
