"""RMSNorm and LayerNorm in NumPy, on one thread: some rows at a time, so that all passes but the first read the cache."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Arrays, Output
from ..kernel import Call, kernel
from ..memory.numpy import row_pieces
from ..memory.refusing import not_numpy
from .case import EPSILON, LayerNormCase, RmsNormCase


@kernel("rms_norm", "numpy", "numpy.rms_norm.blocked", not_numpy)
def rms_norm(case: RmsNormCase, arrays: Arrays, inputs: tuple[Array, ...], output: Output) -> Call:
    return _backward(inputs, output, centred=False) if case.backward else _forward(inputs, output, centred=False)


@kernel("layer_norm", "numpy", "numpy.layer_norm.blocked", not_numpy)
def layer_norm(case: LayerNormCase, arrays: Arrays, inputs: tuple[Array, ...], output: Output) -> Call:
    return _backward(inputs, output, centred=True) if case.backward else _forward(inputs, output, centred=True)


def _normalise(x: np.ndarray, centred: bool) -> tuple[np.ndarray, np.ndarray]:
    """n, and 1 / sqrt(mean square + eps) of each row, in the dtype of x."""
    d = x - x.mean(axis=1, keepdims=True) if centred else x
    root = 1 / np.sqrt(np.mean(d * d, axis=1, keepdims=True) + x.dtype.type(EPSILON))
    return d * root, root


def _forward(inputs: tuple[Array, ...], output: Output, centred: bool) -> Call:
    x, w, *b = inputs
    parts = [(x[rows], output[rows]) for rows in row_pieces(x)]

    def run() -> Output:
        for x_part, y_part in parts:
            n, _ = _normalise(x_part, centred)
            np.multiply(n, w, out=y_part)
            if centred:
                y_part += b[0]
        return output

    return run


def _backward(inputs: tuple[Array, ...], output: Output, centred: bool) -> Call:
    x, w, dy = inputs
    dx, dw, *db = output
    parts = [(x[rows], dy[rows], dx[rows]) for rows in row_pieces(x)]

    def run() -> Output:
        for total in output[1:]:
            total[:] = 0
        for x_part, dy_part, dx_part in parts:
            n, root = _normalise(x_part, centred)
            g = dy_part * w
            np.multiply(n, np.mean(g * n, axis=1, keepdims=True), out=dx_part)
            np.subtract(g, dx_part, out=dx_part)
            if centred:
                dx_part -= g.mean(axis=1, keepdims=True)
                db[0][:] += dy_part.sum(axis=0)
            dx_part *= root
            dw[:] += np.einsum("rc,rc->c", dy_part, n)
        return output

    return run
