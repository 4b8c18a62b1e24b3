"""Is O the attention of Q, K and V?

Two tests in float64 on the host, one key/value head at a time:

1. *Rows*: in every head of every batch some rows of queries are compared element by element: the first, the middle and the last,
   those beside the edges of common tiles, and some at random.
2. *Every element* is finite and no larger than the largest value of its head, for an output is a weighted mean of values. A forgotten
   element is NaN (``Arrays.unwritten``) and shows here.

How wrong an element may be: let p_j be the weights and e_j the relative error of each. With weights normalised after the sum the
output is off by sum_j p_j e_j (v_j - o), a sum of errors of random sign, so by Hoeffding's inequality by more than
t max|e| sqrt(sum_j p_j^2 (|v_j| + |o|)^2) with probability below 2 exp(-t^2 / 2); t = 6. The e_j that are allowed:

* 3 u + u |s_j|: the weights rounded to the dtype before they meet V (as FlashAttention does), Q and K scaled in the dtype, the scores
  s_j rounded to the dtype (as unfused attention does). u is the unit roundoff of the dtype.
* c |q| |k_j| scale: the score as a sum of head_dim products in fp32, c from ``kernels/rounding.py``.

Added to that: c |p| |v| for the sum over positions, and 2 u |o| for rounding the output (twice where it is scaled after rounding).
"""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Arrays
from ..case import UNIT_ROUNDOFF, Check
from ..rounding import HALF_SMALLEST, accumulation_error

TILE_EDGES = (0, 1, 2, 63, 64, 127, 128)
"""Where a wrong mask or tile shows first."""
RANDOM_ROWS = 4
DEVIATIONS = 6.0


def check_attention(
    arrays: Arrays, inputs: tuple[Array, ...], output: Array, *, causal: bool, window: int | None, scale: float, dtype: str, seed: int
) -> Check:
    """Compare ``output`` with softmax(Q K' scale) V. The error is in units of the limit, so the limit is 1."""
    q, k, v = inputs
    batch, heads, seq_q, _ = q.shape
    kv_heads = k.shape[1]
    rng = np.random.default_rng(seed)
    worst = 0.0
    for b in range(batch):
        for kv_head in range(kv_heads):
            keys, values = arrays.float64(k[b, kv_head]), arrays.float64(v[b, kv_head])
            ceiling = np.max(np.abs(values)) * (1 + 4 * UNIT_ROUNDOFF[dtype])
            for head in range(kv_head * (heads // kv_heads), (kv_head + 1) * (heads // kv_heads)):
                found = arrays.float64(output[b, head])
                rows = sampled_rows(seq_q, rng)
                queries = arrays.float64(q[b, head])[rows]
                mask = np.arange(len(keys)) <= rows[:, None] if causal else None
                if window is not None:
                    mask &= np.arange(len(keys)) > rows[:, None] - window
                reference, limit = attention_rows(queries, keys, values, mask, scale, dtype)
                ratio = np.max(np.abs(found[rows] - reference) / limit)
                possible = np.max(np.abs(found)) / ceiling  # NaN if any element is
                worst = float(np.max([worst, ratio, possible if not possible <= 1 else 0.0]))
    return Check(error=worst, limit=1.0)


def sampled_rows(seq_q: int, rng: np.random.Generator) -> np.ndarray:
    """Which rows of queries are compared with the reference."""
    fixed = [row for row in (*TILE_EDGES, seq_q // 2, seq_q - 1) if row < seq_q]
    return np.unique(np.concatenate([fixed, rng.integers(0, seq_q, RANDOM_ROWS)]))


def attention_rows(
    queries: np.ndarray, keys: np.ndarray, values: np.ndarray, mask: np.ndarray | None, scale: float, dtype: str
) -> tuple[np.ndarray, np.ndarray]:
    """Some rows of attention in float64, and how far each element may be from them."""
    roundoff = UNIT_ROUNDOFF[dtype]
    scores = queries @ keys.T * scale
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    reference = weights @ values

    score_sizes = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(keys, axis=1) * scale
    seen = np.where(weights > 0, np.abs(scores), 0.0)
    relative = roundoff * (3 + seen) + accumulation_error(dtype, queries.shape[1]) * score_sizes
    shares = (weights * relative) ** 2
    # sum_j share_j (|v_j| + |o|)^2, multiplied out so that it is three matrix products
    spread = shares @ values**2 + 2 * np.abs(reference) * (shares @ np.abs(values)) + shares.sum(axis=1, keepdims=True) * reference**2
    value_norms = np.sqrt((weights > 0).astype(float) @ values**2)
    summing = accumulation_error(dtype, len(keys)) * np.linalg.norm(weights, axis=1)[:, None] * value_norms
    limit = DEVIATIONS * np.sqrt(spread) + summing + 2 * roundoff * np.abs(reference) + HALF_SMALLEST.get(dtype, 0.0)
    return reference, limit
