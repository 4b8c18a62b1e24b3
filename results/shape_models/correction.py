"""What a library's choice of kernels leaves of a physical model's error: smooth in the logs of m, n and k, and small.

A library does not always take the best tile for a shape. Where thousands of shapes were measured, what the model is off by is smooth over
pairs of sizes; it is kept as values on a few knots, bilinear between them, the same beyond the outermost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

M_KNOTS = (0.0, 4.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 15.0)
NK_KNOTS = (5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 14.0, 16.0)
"""log2 of sizes."""


@dataclass(frozen=True)
class Correction:
    """log(measured / model) as the sum of three tables over log2 of (m, n), (m, k) and (n, k)."""

    mn: tuple[tuple[float, ...], ...]
    mk: tuple[tuple[float, ...], ...]
    nk: tuple[tuple[float, ...], ...]
    m_knots: tuple[float, ...] = M_KNOTS
    nk_knots: tuple[float, ...] = NK_KNOTS

    def log_factor(self, m: Array, n: Array, k: Array) -> Array:
        """What to add to the log of the time."""
        at_m, at_n, at_k = place(m, self.m_knots), place(n, self.nk_knots), place(k, self.nk_knots)
        return _between(self.mn, at_m, at_n) + _between(self.mk, at_m, at_k) + _between(self.nk, at_n, at_k)


def place(size: Array, knots: tuple[float, ...]) -> tuple[NDArray[np.intp], Array]:
    """(index of the knot below, share of the way to the next) of each size."""
    knot = np.array(knots)
    log = np.clip(np.log2(size), knot[0], knot[-1])
    below = np.clip(np.searchsorted(knot, log, side="right") - 1, 0, len(knot) - 2)
    return below, (log - knot[below]) / (knot[below + 1] - knot[below])


def _between(table: tuple[tuple[float, ...], ...], first: tuple[NDArray[np.intp], Array], second: tuple[NDArray[np.intp], Array]) -> Array:
    values = np.array(table)
    (i, x), (j, y) = first, second
    low = values[i, j] * (1 - y) + values[i, j + 1] * y
    high = values[i + 1, j] * (1 - y) + values[i + 1, j + 1] * y
    between: Array = low * (1 - x) + high * x
    return between
