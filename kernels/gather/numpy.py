"""Gather in NumPy, on one thread."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Arrays
from ..kernel import Call, kernel
from ..memory.refusing import not_numpy_moves
from .case import GatherCase


@kernel("gather", "numpy", "numpy.take", not_numpy_moves)
def gather(case: GatherCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    table, ids = inputs
    # With mode="raise" NumPy gathers into a buffer of its own first; no id is out of range.
    return lambda: np.take(table, ids, axis=0, out=output, mode="clip")
