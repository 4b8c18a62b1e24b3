"""What a library's choice of kernels leaves of a physical model's error: smooth in the logs of m, n and k, and small.

A library does not always take the best tile for a shape. Where thousands of shapes were measured, what the model is off by is smooth over
pairs of sizes; it is kept as values on a few knots, bilinear between them, the same beyond the outermost.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
        mn, mk, nk, m_knots, nk_knots = self._arrays
        at_m, at_n, at_k = place(m, m_knots), place(n, nk_knots), place(k, nk_knots)
        return _between(mn, at_m, at_n) + _between(mk, at_m, at_k) + _between(nk, at_n, at_k)

    @cached_property
    def _arrays(self) -> tuple[Array, ...]:
        """The fields as arrays, made once."""
        return tuple(np.array(values) for values in (self.mn, self.mk, self.nk, self.m_knots, self.nk_knots))


def place(size: Array, knots: ArrayLike) -> tuple[NDArray[np.intp], Array]:
    """(index of the knot below, share of the way to the next) of each size."""
    knot = np.asarray(knots)
    log = np.clip(np.log2(size), knot[0], knot[-1])
    below = np.clip(np.searchsorted(knot, log, side="right") - 1, 0, len(knot) - 2)
    return below, (log - knot[below]) / (knot[below + 1] - knot[below])


def _between(values: Array, first: tuple[NDArray[np.intp], Array], second: tuple[NDArray[np.intp], Array]) -> Array:
    (i, x), (j, y) = first, second
    low = values[i, j] * (1 - y) + values[i, j + 1] * y
    high = values[i + 1, j] * (1 - y) + values[i + 1, j + 1] * y
    between: Array = low * (1 - x) + high * x
    return between
