"""Softmax in NumPy, on one thread: some rows at a time, so that all passes but the first read the cache."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Arrays
from ..kernel import Call, kernel
from ..memory.numpy import row_pieces
from ..memory.refusing import not_numpy
from .case import SoftmaxCase


@kernel("softmax", "numpy", "numpy.softmax.blocked", not_numpy)
def softmax(case: SoftmaxCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    (x,) = inputs
    parts = [(x[rows], output[rows]) for rows in row_pieces(x)]

    def run() -> Array:
        for x_part, y_part in parts:
            np.subtract(x_part, x_part.max(axis=1, keepdims=True), out=y_part)
            np.exp(y_part, out=y_part)
            y_part /= y_part.sum(axis=1, keepdims=True)
        return output

    return run
