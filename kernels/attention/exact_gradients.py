"""The gradients of attention in float64, some rows of queries at a time, and how far a computed one may be off.

With P the weights, O the output and dP = dO V' (Dao et al., "FlashAttention", arXiv 2205.14135, appendix B.4):

    dV = P' dO,    dS = P (dP - delta) element by element, delta_i = dO_i . O_i,    dQ = scale dS K,    dK = scale dS' Q,

dK and dV summed over the query heads that share a key/value head.

How far an element may be off. P_ij: by its share e_ij (``exact.py``) and one rounding more; in fp16 by half the smallest number besides.
dP_ij: by c |dO_i| |v_j| for its sum, and by u |dP_ij| where it is stored. dS_ij: by what P and dP are, and three roundings: its own, that
of K or Q scaled in the dtype, and one for a sum over heads; E_ij is the sum of these. delta_i: by
D_i = (sum_j (e_ij P_ij (|dP_ij| + |delta_i|))^2 + sum_d (u dO_id O_id)^2)^1/2 + c |dO_i| |O_i|, for O was rounded when it was stored.
All these errors have random signs, so by Hoeffding's inequality (c from ``kernels/rounding.py``, for the sums themselves):

    dV_j: 6 (sum_i (e_ij P_ij)^2 dO_i^2)^1/2 + c |P_j| |dO| + 3 u |dV_j|
    dQ_i: 6 scale ((sum_j E_ij^2 K_j^2)^1/2 + D_i |(P K)_i|) + c scale |dS_i| |K| + 3 u |dQ_i|
    dK_j: 6 scale (sum_i (E_ij^2 + P_ij^2 D_i^2) Q_i^2)^1/2 + c scale |dS_j| |Q| + 3 u |dK_j|
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Array, Arrays
from .exact import DEVIATIONS, Rules, norms, range_norms, rows_of, running_sums, weights_of


class Heads:
    """Some key/value heads of all sequences (G) with the query heads that share them.

    Q and dO stay as they are, (G, group, seq, dim); K and V become float64, G x S x dim.
    """

    def __init__(self, arrays: Arrays, q: Array, k: Array, v: Array, d_o: Array) -> None:
        self.q, self.d_o = q, d_o
        self.keys, self.values = arrays.wide(k[:, 0]), arrays.wide(v[:, 0])
        self.key_squares = running_sums(arrays.xp, self.keys * self.keys)

    @property
    def pairs_per_row(self) -> int:
        """Elements of one float64 array for each row of queries that is computed at a time."""
        groups, group = self.q.shape[:2]
        return int(groups * group * self.keys.shape[1])


@dataclass(frozen=True)
class RowGradients:
    """What some rows of queries (N of them, in each of G heads) have to do with the keys that they see."""

    keys: slice
    q: Array
    d_o: Array
    weights: Array
    weights_error: Array
    ds: Array
    ds_error: Array
    delta: Array
    delta_error: Array
    attended_keys: Array
    """P K."""
    dq: Array
    dq_limit: Array


def row_gradients(arrays: Arrays, rules: Rules, heads: Heads, rows: np.ndarray) -> RowGradients:
    """dQ of these rows in each of the heads, and all that dK and dV get from them."""
    xp, u = arrays.xp, rules.roundoff
    positions = np.tile(rows, heads.q.shape[1])
    q, d_o = rows_of(arrays, heads.q, rows), rows_of(arrays, heads.d_o, rows)
    of = weights_of(arrays, rules, q, heads.keys, positions)
    p, keys, values = of.weights, heads.keys[:, of.keys], heads.values[:, of.keys]
    d_o_norms, width_error = norms(xp, d_o)[..., None], rules.summing(values.shape[-1])

    dp = xp.matmul(d_o, values.swapaxes(-1, -2))
    delta = xp.sum(p * dp, axis=-1, keepdims=True)
    centred = dp - delta
    ds = p * centred

    smallest = rules.smallest * (1.0 if of.seen is None else of.seen) if rules.smallest else 0.0
    p_error = p * (of.relative_error + u) + smallest
    dp_error = width_error * d_o_norms * norms(xp, values)[:, None, :] + u * xp.abs(dp)
    ds_error = (p_error + 3 * u * p) * xp.abs(centred) + p * dp_error + smallest

    out = xp.matmul(p, values)
    by_weights = xp.sum((p_error * (xp.abs(dp) + xp.abs(delta))) ** 2, axis=-1, keepdims=True)
    by_output = xp.sum((u * d_o * out) ** 2, axis=-1, keepdims=True)
    delta_error = xp.sqrt(by_weights + by_output) + width_error * d_o_norms * norms(xp, out)[..., None]

    dq, attended = rules.scale * xp.matmul(ds, keys), xp.matmul(p, keys)
    seq_kv = heads.keys.shape[1]
    key_norms = range_norms(arrays, heads.key_squares, rules.first_key(positions), rules.end_of_keys(positions, seq_kv))
    spread = xp.sqrt(xp.matmul(ds_error**2, keys**2)) + delta_error * xp.abs(attended)
    summing = rules.summing(seq_kv) * norms(xp, ds)[..., None] * key_norms
    dq_limit = rules.scale * (DEVIATIONS * spread + summing) + 3 * u * xp.abs(dq) + 2 * rules.smallest
    return RowGradients(of.keys, q, d_o, p, p_error, ds, ds_error, delta, delta_error, attended, dq, dq_limit)


class KeyGradients:
    """dK and dV of some heads, gathered from rows of queries, piece by piece."""

    def __init__(self, arrays: Arrays, heads: Heads) -> None:
        xp, (groups, _, seq_q, dim), dim_v = arrays.xp, heads.q.shape, heads.d_o.shape[-1]
        self._dk, self._dk_variance = xp.zeros_like(heads.keys), xp.zeros_like(heads.keys)
        self._dv, self._dv_variance = xp.zeros_like(heads.values), xp.zeros_like(heads.values)
        self._weight_squares, self._ds_squares = (xp.zeros_like(heads.keys[..., :1]) for _ in range(2))
        self._q_squares = arrays.from_host(np.zeros((groups, seq_q, dim)))
        self._d_o_squares = arrays.from_host(np.zeros((groups, seq_q, dim_v)))
        self._delta_variance = xp.zeros_like(heads.keys[:, 0])
        self._terms = heads.q.shape[1] * seq_q

    def add(self, arrays: Arrays, rows: np.ndarray, found: RowGradients) -> None:
        """What these (consecutive) rows give to each key."""
        xp, keys, at = arrays.xp, found.keys, slice(int(rows[0]), int(rows[-1]) + 1)
        transposed = found.weights.swapaxes(-1, -2)
        self._dv[:, keys] += xp.matmul(transposed, found.d_o)
        self._dv_variance[:, keys] += xp.matmul((found.weights_error**2).swapaxes(-1, -2), found.d_o**2)
        self._weight_squares[:, keys, 0] += xp.sum(found.weights**2, axis=1)

        self._dk[:, keys] += xp.matmul(found.ds.swapaxes(-1, -2), found.q)
        variance = found.ds_error**2 + (found.weights * found.delta_error) ** 2
        self._dk_variance[:, keys] += xp.matmul(variance.swapaxes(-1, -2), found.q**2)
        self._ds_squares[:, keys, 0] += xp.sum(found.ds**2, axis=1)

        self._delta_variance += xp.sum((found.delta_error * found.q) ** 2, axis=1)
        for squares, values in ((self._q_squares, found.q), (self._d_o_squares, found.d_o)):
            by_head = (values**2).reshape(values.shape[0], -1, len(rows), values.shape[-1])
            squares[:, at] += xp.sum(by_head, axis=1)

    def limits(self, arrays: Arrays, rules: Rules) -> tuple[Array, Array, Array, Array, Array]:
        """dK, dV, how far each may be off, and how far sum_j dK_j may be off zero (G x D).

        An error of delta_i reaches all dK_j together: it is in that sum once more, as a whole.
        """
        xp, u = arrays.xp, rules.roundoff
        key = np.arange(self._dk.shape[1])
        seq_q = self._q_squares.shape[1]
        # The queries that see a key.
        first = key if rules.causal else key * 0
        end = np.minimum(key + rules.window, seq_q) if rules.window is not None else key * 0 + seq_q
        norms_of = [range_norms(arrays, running_sums(xp, squares), first, end) for squares in (self._q_squares, self._d_o_squares)]
        summing = rules.summing(self._terms)

        dk, dv = rules.scale * self._dk, self._dv
        spread = DEVIATIONS * xp.sqrt(self._dk_variance) + summing * xp.sqrt(self._ds_squares) * norms_of[0]
        dk_limit = rules.scale * spread + 3 * u * xp.abs(dk) + 2 * rules.smallest
        spread = DEVIATIONS * xp.sqrt(self._dv_variance) + summing * xp.sqrt(self._weight_squares) * norms_of[1]
        dv_limit = spread + 3 * u * xp.abs(dv) + 2 * rules.smallest
        sum_limit = xp.sqrt(xp.sum(dk_limit**2, axis=1)) + rules.scale * DEVIATIONS * xp.sqrt(self._delta_variance)
        return dk, dv, dk_limit, dv_limit, sum_limit
