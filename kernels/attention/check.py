"""Is O the attention of Q, K and V?

Two tests in float64:

1. *Rows* are compared element by element: all of them, or as many as ``sampling.py`` affords, in every head.
2. *Every element* is finite and no larger than the largest value of its head, for an output is a weighted mean of values. A forgotten
   element is NaN (``Arrays.unwritten``) and shows here.

How wrong an element may be: let p_j be the weights and e_j the relative error of each (``exact.py``). With weights normalised after the
sum the output is off by sum_j p_j e_j (v_j - o), a sum of errors of random sign, so by Hoeffding's inequality by no more than
6 sqrt(sum_j p_j^2 max e_j^2 (|v_j| + |o|)^2). An fp16 weight may be off by half the smallest number besides. Added to that: c |p| |v|
for the sum over positions (c from ``kernels/rounding.py``), and 2 u |o| for rounding the output (twice where it is scaled after rounding).
"""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Arrays
from ..case import Check
from .exact import DEVIATIONS, Rules, largest_ratio, norms, range_norms, rows_of, running_sums, weights_of
from .sampling import FEWEST_ROWS, STRETCH, Effort, by_group, effort, groups_to_compare, pieces, rows_to_compare, runs


def check_attention(arrays: Arrays, inputs: tuple[Array, ...], output: Array, rules: Rules, seed: int, pairs_per_row: float) -> Check:
    """Compare ``output`` with softmax(Q K' scale) V. The error is in units of the limit, so the limit is 1.

    ``pairs_per_row``: keys that a query sees on average.
    """
    kv_heads = inputs[1].shape[1]
    q, k, v, o = (by_group(array, kv_heads) for array in (*inputs, output))
    groups, group, seq_q, _ = q.shape
    budget, rng = effort(arrays), np.random.default_rng(seed)

    affordable = budget.pairs / (group * pairs_per_row)  # rows of a group of heads
    chosen = groups_to_compare(groups, STRETCH * affordable / min(seq_q, FEWEST_ROWS), rng)
    wanted = affordable / len(chosen)
    compared = min(max(int(wanted), FEWEST_ROWS), seq_q)
    width = max(group * compared, k.shape[-1], v.shape[-1])
    worst = []
    for part in runs(chosen, max(1, budget.block // (width * k.shape[2]))):
        rows = rows_to_compare(seq_q, wanted, rng)
        worst.append(_compare_rows(arrays, rules, [array[part] for array in (q, k, v, o)], rows, budget))
    if compared < seq_q or len(chosen) < groups:
        worst.append(_possible(arrays, rules, v, o, budget))
    return Check(error=float(np.max(worst)), limit=1.0)


def _compare_rows(arrays: Arrays, rules: Rules, grouped: list[Array], rows: np.ndarray, budget: Effort) -> float:
    q, k, v, o = grouped
    group = q.shape[1]
    keys, values = arrays.wide(k[:, 0]), arrays.wide(v[:, 0])
    squares = running_sums(arrays.xp, values * values)
    worst = []
    for piece in pieces(rows, budget.block // (keys.shape[0] * group * keys.shape[1])):
        positions = np.tile(piece, group)
        reference, limit = _rows(arrays, rules, rows_of(arrays, q, piece), keys, values, squares, positions)
        worst.append(largest_ratio(arrays.xp, rows_of(arrays, o, piece) - reference, limit))
    return float(np.max(worst))


def _rows(
    arrays: Arrays, rules: Rules, queries: Array, keys: Array, all_values: Array, squares: Array, positions: np.ndarray
) -> tuple[Array, Array]:
    """Some rows of attention in float64, and how far each element may be from them."""
    xp = arrays.xp
    found = weights_of(arrays, rules, queries, keys, positions)
    values = all_values[:, found.keys]
    reference = xp.matmul(found.weights, values)

    errors = found.weights * found.relative_error
    if rules.smallest:
        errors += rules.smallest * (1.0 if found.seen is None else found.seen)
    errors *= errors
    # sum_j errors_j^2 (|v_j| + |o|)^2, multiplied out so that it is three matrix products
    spread = xp.matmul(errors, values * values) + 2 * xp.abs(reference) * xp.matmul(errors, xp.abs(values))
    spread += xp.sum(errors, axis=-1, keepdims=True) * reference * reference
    seq_kv = keys.shape[1]
    value_norms = range_norms(arrays, squares, rules.first_key(positions), rules.end_of_keys(positions, seq_kv))
    summing = rules.summing(seq_kv) * norms(xp, found.weights)[..., None] * value_norms
    return reference, DEVIATIONS * xp.sqrt(spread) + summing + 2 * rules.roundoff * xp.abs(reference) + rules.smallest


def _possible(arrays: Arrays, rules: Rules, v: Array, o: Array, budget: Effort) -> float:
    """0 if every output is finite and no larger than the values of its head, else its size in units of the largest (NaN: not a number)."""
    xp, groups = arrays.xp, v.shape[0]
    widest = max(o.shape[1] * v.shape[3], v.shape[2] * v.shape[3])
    worst = 0.0
    for part in runs(np.arange(groups), max(1, budget.block // widest)):
        values = xp.abs(arrays.wide(v[part]))
        ceiling = xp.amax(values, axis=(1, 2, 3)) * (1 + 4 * rules.roundoff)
        for rows in pieces(np.arange(o.shape[2]), budget.block // (values.shape[0] * o.shape[1] * v.shape[3])):
            size = xp.amax(xp.abs(rows_of(arrays, o[part], rows)), axis=(1, 2)) / ceiling  # NaN if any element is
            worst = float(np.max([worst, float(xp.amax(size))]))
    return worst if not worst <= 1 else 0.0
