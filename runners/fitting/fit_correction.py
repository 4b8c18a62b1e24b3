"""Fit of a Correction to what a physical model leaves: least absolute residuals, held down by a ridge."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from chipassay.results.shape_models.correction import M_KNOTS, NK_KNOTS, Correction, place

Array = NDArray[np.float64]

SHAPES_AT_LEAST = 2000
"""Of fewer, single shapes would be learnt by heart: there is no correction then."""
SHAPES_AT_MOST = 12000
RIDGE = 10.0
"""Rows' worth of belief that a knot's value is 0."""
ABSOLUTE_FROM = 0.05
"""Residuals beyond this count by their size, not its square."""
TURNS = 6


def fit_correction(m: Array, n: Array, k: Array, logs: Array) -> Correction | None:
    """The correction of ``logs`` = log(measured / model); None where the shapes are too few."""
    if len(logs) < SHAPES_AT_LEAST:
        return None
    if len(logs) > SHAPES_AT_MOST:
        chosen = np.random.default_rng(2).choice(len(logs), SHAPES_AT_MOST, replace=False)
        m, n, k, logs = m[chosen], n[chosen], k[chosen], logs[chosen]
    at_m, at_n, at_k = _hats(m, M_KNOTS), _hats(n, NK_KNOTS), _hats(k, NK_KNOTS)
    columns = np.concatenate([_products(at_m, at_n), _products(at_m, at_k), _products(at_n, at_k)], axis=1)
    weights, values = np.ones(len(logs)), np.zeros(columns.shape[1])
    for _ in range(TURNS):
        weighted = columns * weights[:, None]
        values = np.linalg.solve(weighted.T @ columns + RIDGE * np.eye(len(values)), weighted.T @ logs)
        weights = ABSOLUTE_FROM / np.maximum(ABSOLUTE_FROM, np.abs(logs - columns @ values))
    mn, mk, nk = np.split(values, [len(M_KNOTS) * len(NK_KNOTS), 2 * len(M_KNOTS) * len(NK_KNOTS)])
    return Correction(_table(mn, M_KNOTS), _table(mk, M_KNOTS), _table(nk, NK_KNOTS))


def _hats(size: Array, knots: tuple[float, ...]) -> Array:
    """The weight of each knot for each size: two are not 0."""
    below, share = place(size, knots)
    hats = np.zeros((len(size), len(knots)))
    hats[np.arange(len(size)), below] = 1 - share
    hats[np.arange(len(size)), below + 1] += share
    return hats


def _products(first: Array, second: Array) -> Array:
    return (first[:, :, None] * second[:, None, :]).reshape(len(first), -1)


def _table(values: Array, first: tuple[float, ...]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in values.reshape(len(first), -1))
