"""GELU and SwiGLU in NumPy, on one thread: piece by piece, so that all passes but the first read the cache."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Arrays
from ..kernel import Call, kernel
from ..memory.numpy import pieces
from ..memory.refusing import not_numpy
from .case import GELU_CUBIC, GELU_FACTOR, GeluCase, SwigluCase


@kernel("gelu", "numpy", "numpy.gelu.blocked", not_numpy)
def gelu(case: GeluCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    (x,) = inputs
    kind = output.dtype.type
    parts = [(x[piece], output[piece]) for piece in pieces(case.elements, output.itemsize)]

    def run() -> Array:
        for x_part, out in parts:
            np.multiply(x_part, x_part, out=out)
            out *= kind(GELU_CUBIC)
            out += kind(1)
            out *= x_part
            out *= kind(GELU_FACTOR)
            np.tanh(out, out=out)
            out += kind(1)
            out *= x_part
            out *= kind(0.5)
        return output

    return run


@kernel("swiglu", "numpy", "numpy.swiglu.blocked", not_numpy)
def swiglu(case: SwigluCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    a, b = inputs
    parts = [(a[piece], b[piece], output[piece]) for piece in pieces(case.elements, output.itemsize)]

    def run() -> Array:
        for a_part, b_part, out in parts:
            np.negative(a_part, out=out)
            np.exp(out, out=out)
            out += 1
            np.divide(a_part, out, out=out)
            out *= b_part
        return output

    return run
