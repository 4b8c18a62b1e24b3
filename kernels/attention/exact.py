"""Attention in float64, some rows of queries at a time, and how far each weight may be off: what both checks stand on.

Shapes: G key/value heads of all sequences at once, N query rows (those of all query heads that share the key/value head, one head after
the other), S keys, D and E the widths of keys and values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array, Arrays
from ..case import UNIT_ROUNDOFF
from ..rounding import HALF_SMALLEST, accumulation_error

DEVIATIONS = 6.0
"""By Hoeffding's inequality a sum of errors of random sign, each at most e_j, exceeds t sqrt(sum e_j^2) with probability below
2 exp(-t^2 / 2). Errors spread evenly below their bounds make 6 some ten standard deviations."""


@dataclass(frozen=True)
class Rules:
    """What the output depends on beside the arrays."""

    causal: bool
    window: int | None
    scale: float
    dtype: str

    @property
    def roundoff(self) -> float:
        return UNIT_ROUNDOFF[self.dtype]

    @property
    def smallest(self) -> float:
        """Half the smallest number of the dtype: a weight of fp16 over a long row is that small."""
        return HALF_SMALLEST.get(self.dtype, 0.0)

    def summing(self, terms: int) -> float:
        """How far a dot product of that many terms may be off, as a share of the norms."""
        return accumulation_error(self.dtype, terms)

    def first_key(self, position: Any) -> Any:
        """The first key that a query sees."""
        return np.maximum(position - self.window + 1, 0) if self.window is not None else position * 0

    def end_of_keys(self, position: Any, seq_kv: int) -> Any:
        """One past the last key that a query sees."""
        return position + 1 if self.causal else position * 0 + seq_kv


@dataclass(frozen=True)
class Weights:
    """The weights of some rows over the keys that any of them sees."""

    keys: slice
    seen: Array | None
    """N x S, which key each row sees; None: all of them."""
    weights: Array
    """G x N x S, zero where not seen; each row sums to 1."""
    relative_error: Array
    """How far each weight may be off, as a share of it."""


def weights_of(arrays: Arrays, rules: Rules, queries: Array, all_keys: Array, positions: np.ndarray) -> Weights:
    """softmax(Q K' scale) of queries (G x N x D) at these positions (N) in their sequence.

    The relative errors that are allowed: 3 u + u |s_j|, for the weights are rounded to the dtype before they meet V (as FlashAttention
    does), Q and K may be scaled in the dtype, and the scores s_j rounded to it (as unfused attention does); and
    c |q| |k_j| scale, for the score is a sum of D products in fp32, with c from ``kernels/rounding.py``. u: the dtype's unit roundoff.
    """
    xp = arrays.xp
    seq_kv = all_keys.shape[1]
    columns = slice(int(rules.first_key(positions.min())), int(rules.end_of_keys(positions.max(), seq_kv)))
    keys = all_keys[:, columns]
    scores = xp.matmul(queries, keys.swapaxes(-1, -2)) * rules.scale
    seen = None
    if rules.causal:
        at = arrays.from_host(positions)[:, None]
        column = arrays.from_host(np.arange(columns.start, columns.stop))[None, :]
        seen = column <= at
        if rules.window is not None:
            seen = seen & (column > at - rules.window)
        hidden = xp.where(seen, scores, -np.inf)
        weights = xp.exp(hidden - xp.amax(hidden, axis=-1, keepdims=True))
    else:
        weights = xp.exp(scores - xp.amax(scores, axis=-1, keepdims=True))
    weights /= xp.sum(weights, axis=-1, keepdims=True)

    sizes = norms(xp, queries)[..., None] * norms(xp, keys)[:, None, :] * rules.scale
    relative = rules.roundoff * (3 + xp.abs(scores)) + rules.summing(queries.shape[-1]) * sizes
    return Weights(keys=columns, seen=seen, weights=weights, relative_error=relative)


def rows_of(arrays: Arrays, grouped: Array, rows: np.ndarray) -> Array:
    """Some rows of (G, group, seq, dim) in float64 as G x (group rows) x dim."""
    consecutive = int(rows[-1]) - int(rows[0]) + 1 == len(rows)
    index = slice(int(rows[0]), int(rows[-1]) + 1) if consecutive else arrays.from_host(rows)
    chosen = arrays.wide(grouped[:, :, index])
    return chosen.reshape(chosen.shape[0], -1, chosen.shape[-1])


def norms(xp: Any, rows: Array) -> Array:
    """Euclidean norm along the last axis."""
    return xp.sqrt(xp.sum(rows * rows, axis=-1))


def running_sums(xp: Any, values: Array) -> Array:
    """Sums along axis 1 (G x S x D) of the first 0, 1, ... S: the difference of two is the sum over a range."""
    return xp.concatenate([xp.zeros_like(values[:, :1]), xp.cumsum(values, axis=1)], axis=1)


def range_norms(arrays: Arrays, sums_of_squares: Array, start: np.ndarray, end: np.ndarray) -> Array:
    """Norms over the ranges start..end of axis 1, from the running sums of squares."""
    xp = arrays.xp
    return xp.sqrt(xp.abs(sums_of_squares[:, arrays.from_host(end)] - sums_of_squares[:, arrays.from_host(start)]))


def largest_ratio(xp: Any, difference: Array, limit: Array) -> float:
    """The largest error in units of its limit; NaN where anything is NaN."""
    return float(xp.amax(xp.abs(difference) / limit))
