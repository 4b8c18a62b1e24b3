"""How far fits are off on what they have not seen: rows left out shape by shape."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from chipassay.results.shape_models.product import HeldOut

Array = NDArray[np.float64]
Rows = NDArray[np.int_]

FOLDS = 5
MANY = 500
"""Of so many shapes one third left out says as much as five folds."""
PRIOR_SPREAD = 0.25
PRIOR_FREEDOM = 2.0
"""What is believed of the spread before any row, worth so many rows: a rate without its shape is off by a quarter."""
FAR = 4.0
"""Residuals beyond so many robust standard deviations count as that many: a wild row widens no interval, a fifth of wild rows does."""


def sweeps(shape: Rows, count: int) -> Iterator[tuple[Rows, Rows]]:
    """(rows to fit, rows left out), rows of one ``shape`` always on the same side. Every row is left out once, or of many a third."""
    rows = np.arange(count)
    shapes = np.unique(shape)
    random = np.random.default_rng(1)
    order = random.permutation(len(shapes))
    fold_of = np.empty(len(shapes), dtype=int)
    if len(shapes) > MANY:
        fold_of[order] = np.arange(len(shapes)) % 3
        folds = [0]
    else:
        fold_of[order] = np.arange(len(shapes)) % min(FOLDS, len(shapes))
        folds = list(range(min(FOLDS, len(shapes))))
    fold = fold_of[np.searchsorted(shapes, shape)]
    for left in folds:
        if np.any(fold != left):
            yield rows[fold != left], rows[fold == left]


def spread_of(logs: Array) -> float:
    """Standard deviation of log residuals (NaN: not left out), wild ones cut, with the prior's two rows.

    >>> round(spread_of(np.array([0.1, -0.1] * 50)), 3)
    0.105
    """
    known = logs[np.isfinite(logs)]
    if len(known) == 0:
        return PRIOR_SPREAD
    scale = float(np.median(np.abs(known))) / 0.6745
    cut = np.clip(known, -FAR * scale, FAR * scale) if scale > 0 else known
    return math.sqrt((float((cut**2).sum()) + PRIOR_FREEDOM * PRIOR_SPREAD**2) / (len(cut) + PRIOR_FREEDOM))


def held_out_error(logs: Array, flops: Array, smallest_flops: float) -> HeldOut | None:
    """Median and 90th percentile of |model / measured - 1| of the rows left out; of all sizes where none is large."""
    known = np.isfinite(logs)
    if not np.any(known & (flops >= smallest_flops)):
        smallest_flops = 0.0
    counted = known & (flops >= smallest_flops)
    if not np.any(counted):
        return None
    errors = np.abs(np.exp(-logs[counted]) - 1)
    return HeldOut(float(np.median(errors)), float(np.quantile(errors, 0.9)), int(counted.sum()), smallest_flops)
