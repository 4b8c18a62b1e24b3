"""Sums in which every element of dQ, dK and dV takes part, at the cost of reading them: no weight is computed.

For each key/value head, whatever the weights P (rows that sum to 1) and whatever the mask (symbols as in ``exact_gradients.py``):

1. sum_j dV_j = sum_i dO_i, for the weights of a row sum to 1;
2. sum_j dK_j = 0, for the rows of dS sum to 0;
3. Q' dQ = dK' K (D x D), for both are scale Q' dS K.

How far the two sides may differ: in long rows of zero-mean data an element's error is a random share of its size, of standard size at most
h = 9 u + c (sqrt(D) + sqrt(E) + 2): the terms of ``exact_gradients.py`` with |s| about 1, |q| |k| scale about sqrt(D) and
|dO| |v| / |dP| about sqrt(E). An fp16 weight over n keys may be off by n halves of the smallest number besides. An error of delta is as
large again. So each sum may be off by 12 h times the root of the sum of its squared terms; by 6 x 16 u_acc |dO| in the first for weights
normalised by a log-sum-exp (about 16 at most) that is kept in the accumulator's precision, and by 2 u |sum dO| in TF32, which truncates.

These are for long sequences: with few keys the errors are not shares of what cancels. A tile that is missing or wrong shows; one wrong
element among thousands of rows need not.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arrays import Array, Arrays
from ..case import UNIT_ROUNDOFF
from .exact import DEVIATIONS, Rules
from .sampling import Effort, runs

ERRORS = 2 * DEVIATIONS
"""Errors of the terms, and as much again for delta."""
LOG_SUM_EXP = 16.0


def identity_errors(
    arrays: Arrays, rules: Rules, inputs: tuple[Array, Array, Array], output: tuple[Array, Array, Array], budget: Effort
) -> list[float]:
    """The largest errors of the three identities in units of their limits; all arrays are (G, heads that share one, seq, dim)."""
    xp, (q, k, d_o), (dq, dk, dv) = arrays.xp, inputs, output
    share = _error_share(rules, q.shape[-1], dv.shape[-1], min(k.shape[2], rules.window or k.shape[2]))
    per_group = max(q.shape[1] * q.shape[2], k.shape[2]) * max(q.shape[-1], dv.shape[-1])
    worst = []
    for part in runs(np.arange(q.shape[0]), max(1, budget.block // per_group)):
        from_q = _Sums(arrays, q[part], dq[part], budget)
        from_k = _Sums(arrays, k[part], dk[part], budget)
        out = _Sums(arrays, d_o[part], None, budget)
        values = _Sums(arrays, dv[part], None, budget)

        limit = ERRORS * share * xp.sqrt(values.squares) + DEVIATIONS * LOG_SUM_EXP * _accumulator(rules) * xp.sqrt(out.squares)
        if rules.dtype == "tf32":
            limit += 2 * rules.roundoff * xp.abs(out.total)
        worst.append(_ratio(xp, values.total - out.total, limit))
        worst.append(_ratio(xp, from_k.gradient_total, ERRORS * share * xp.sqrt(from_k.gradient_squares)))
        spread = xp.sqrt(from_q.product_squares) + xp.sqrt(from_k.product_squares.swapaxes(-1, -2))
        worst.append(_ratio(xp, from_q.product - from_k.product.swapaxes(-1, -2), ERRORS * share * spread))
    return worst


def _error_share(rules: Rules, dim: int, dim_v: int, keys: int) -> float:
    sums = rules.summing(dim) * math.sqrt(dim) + rules.summing(dim_v) * math.sqrt(dim_v) + 2 * rules.summing(keys)
    return 9 * rules.roundoff + sums + keys * rules.smallest


def _accumulator(rules: Rules) -> float:
    return UNIT_ROUNDOFF["fp64" if rules.dtype == "fp64" else "fp32"]


def _ratio(xp: Any, difference: Array, limit: Array) -> float:
    """As ``largest_ratio``, but nothing may be off by nothing: where a gradient is all zero its limit is zero too."""
    return float(xp.amax(xp.where(difference == 0, 0.0 * difference, xp.abs(difference) / (limit + np.finfo(float).tiny))))


class _Sums:
    """Sums over heads and rows of x, of its gradient g, and of x' g (G x D x D); and the same of their squares."""

    def __init__(self, arrays: Arrays, x: Array, gradient: Array | None, budget: Effort) -> None:
        xp = arrays.xp
        rows_at_once = max(1, budget.block // (x.shape[0] * x.shape[1] * x.shape[-1]))
        self.total: Array = 0.0
        self.squares: Array = 0.0
        self.gradient_total: Array = 0.0
        self.gradient_squares: Array = 0.0
        self.product: Array = 0.0
        self.product_squares: Array = 0.0
        for start in range(0, x.shape[2], rows_at_once):
            at = slice(start, start + rows_at_once)
            values = _flat(arrays.wide(x[:, :, at]))
            if gradient is None:
                self.total = self.total + xp.sum(values, axis=1)
                self.squares = self.squares + xp.sum(values * values, axis=1)
                continue
            gradients = _flat(arrays.wide(gradient[:, :, at]))
            self.gradient_total = self.gradient_total + xp.sum(gradients, axis=1)
            self.gradient_squares = self.gradient_squares + xp.sum(gradients * gradients, axis=1)
            self.product = self.product + xp.matmul(values.swapaxes(-1, -2), gradients)
            self.product_squares = self.product_squares + xp.matmul((values * values).swapaxes(-1, -2), gradients * gradients)


def _flat(grouped: Array) -> Array:
    return grouped.reshape(grouped.shape[0], -1, grouped.shape[-1])
