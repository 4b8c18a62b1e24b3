"""Fits of time against work: ``time = overhead + work / rate``, with every residual relative, so that small cases count too."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from chipassay.results.profile import Curve, Evidence

HUBER_TURNS = 10
"""Reweighting rounds; the weights settle in fewer."""
HUBER_SCALE = 1.345
"""Tuning constant of Huber's weights: 95 % efficient on normal noise (Huber and Ronchetti, Robust Statistics, 2nd ed., section 4.5)."""


def fit_time(work: Sequence[float], time_s: Sequence[float], overhead_s: float | None = None) -> tuple[float, float, float | None]:
    """(overhead_s, seconds per unit of work, standard deviation of the log residuals, None without points to spare).

    Least squares of relative residuals with Huber weights; neither coefficient may be negative. An ``overhead_s`` that is given stays.
    Raises ValueError without a point, or where that overhead is longer than a point's time.

    >>> overhead_s, per_unit_s, spread = fit_time([1e9, 1e10, 1e11], [1.1e-3, 1.01e-2, 1.001e-1])
    >>> round(overhead_s, 6), round(1 / per_unit_s)
    (0.0001, 1000000000000)
    """
    x, t = np.asarray(work, dtype=float), np.asarray(time_s, dtype=float)
    if len(x) == 0:
        raise ValueError("no point to fit")
    if overhead_s is not None and overhead_s >= np.min(t):
        raise ValueError(f"an overhead of {overhead_s} s is longer than a time of {np.min(t)} s")
    if len(x) == 1:
        known_s = overhead_s or 0.0
        return known_s, (float(t[0]) - known_s) / float(x[0]), None
    weights = np.ones_like(t)
    base_s, per_unit_s = 0.0, 0.0
    for _ in range(HUBER_TURNS):
        base_s, per_unit_s = _weighted(x, t, weights) if overhead_s is None else (overhead_s, _slope(x, t, weights, overhead_s))
        residuals = np.abs((base_s + x * per_unit_s) / t - 1)
        scale = float(np.median(residuals)) / 0.6745
        if scale <= 1e-12:
            break
        weights = 1 / np.maximum(1.0, residuals / (HUBER_SCALE * scale))
    logs = np.log(t / (base_s + x * per_unit_s))
    freedom = len(x) - (2 if overhead_s is None else 1)
    spread = math.sqrt(float((logs**2).sum()) / freedom) if freedom else None
    return base_s, per_unit_s, spread


def _slope(x: np.ndarray, t: np.ndarray, weights: np.ndarray, overhead_s: float) -> float:
    """Minimises sum w (a/t + b x/t - 1)^2 over b alone."""
    column, target = x / t, 1 - overhead_s / t
    return float((weights * column * target).sum() / (weights * column**2).sum())


def _weighted(x: np.ndarray, t: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    # Minimise sum w (a/t + b x/t - 1)^2 over a, b >= 0: solve free, else on the better edge.
    columns = np.stack([1 / t, x / t], axis=1) * np.sqrt(weights)[:, None]
    target = np.sqrt(weights)
    scales = np.linalg.norm(columns, axis=0)
    free, *_ = np.linalg.lstsq(columns / scales, target, rcond=None)
    overhead_s, per_unit_s = free / scales
    if overhead_s >= 0 and per_unit_s > 0:
        return float(overhead_s), float(per_unit_s)
    only = [float(columns[:, i] @ target / (columns[:, i] @ columns[:, i])) for i in (0, 1)]
    # A curve without a slope is no rate: the edge with no overhead is taken.
    return 0.0, only[1]


def fit_curve(work: Sequence[float], time_s: Sequence[float], evidence: Evidence, *, overhead_s: float | None = None) -> Curve:
    """The curve through measured points; with an ``overhead_s`` that is known from elsewhere, where the points cannot tell it."""
    fitted_s, per_unit_s, spread = fit_time(work, time_s, overhead_s)
    return Curve(
        overhead_s=fitted_s,
        rate=1 / per_unit_s,
        evidence=evidence,
        points=len(work),
        spread=spread,
        work_min=float(min(work)),
        work_max=float(max(work)),
    )
