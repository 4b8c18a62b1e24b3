"""Cross-entropy in NumPy, on one thread: some rows at a time, so that all passes but the first read the cache."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Arrays
from ..kernel import Call, kernel
from ..memory.numpy import row_pieces
from ..memory.refusing import not_numpy
from .case import CrossEntropyCase


@kernel("cross_entropy", "numpy", "numpy.cross_entropy.blocked", not_numpy)
def cross_entropy(case: CrossEntropyCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    x, targets = inputs
    parts = [(x[rows], targets[rows], output[rows], np.arange(rows.stop - rows.start)) for rows in row_pieces(x)]

    def run() -> Array:
        for x_part, target, out, index in parts:
            below = x_part - x_part.max(axis=1, keepdims=True)
            if case.backward:
                np.exp(below, out=out)
                out /= out.sum(axis=1, keepdims=True)
                out[index, target] -= 1
            else:
                picked = below[index, target]
                np.exp(below, out=below)
                np.subtract(np.log(below.sum(axis=1)), picked, out=out)
        return output

    return run
