"""AdamW in NumPy, on one thread: piece by piece, so that intermediate values stay in the cache."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Arrays, Output
from ..kernel import Call, kernel
from ..memory.numpy import pieces
from ..memory.refusing import not_numpy
from .case import BETA1, BETA2, DECAY, EPSILON, ROOT_FACTOR, STEP_SIZE, AdamCase


@kernel("adam", "numpy", "numpy.adamw.blocked", not_numpy)
def adam(case: AdamCase, arrays: Arrays, inputs: tuple[Array, ...], output: Output) -> Call:
    case.begin(inputs, output)
    parts = [tuple(array[piece] for array in (*output, inputs[1])) for piece in pieces(case.elements, inputs[0].itemsize)]
    beta1, rest1, beta2, rest2, decay, root_factor, step_size, epsilon = (
        inputs[0].dtype.type(x) for x in (BETA1, 1 - BETA1, BETA2, 1 - BETA2, DECAY, ROOT_FACTOR, STEP_SIZE, EPSILON)
    )
    work = np.empty_like(parts[0][0])

    def run() -> Output:
        for p, m, v, g in parts:
            free = work[: len(p)]
            np.multiply(g, rest1, out=free)
            m *= beta1
            m += free
            np.multiply(g, g, out=free)
            free *= rest2
            v *= beta2
            v += free
            np.sqrt(v, out=free)
            free *= root_factor
            free += epsilon
            np.divide(m, free, out=free)
            free *= step_size
            p *= decay
            p -= free
        return output

    return run
