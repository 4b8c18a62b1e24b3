"""Are dQ, dK and dV the gradients of attention?

Compared in float64, element by element, within the limits of ``exact_gradients.py``:

1. all of dQ, dK and dV, for every key/value head where ``sampling.py`` can afford it, else for some of them. Where not even one is
   affordable (very long sequences): under a causal mask the last keys and the queries from there on, without a mask no key at all;
2. some rows of dQ in all other heads. There every element of all three gradients is in the sums of ``identities.py`` as well.

A delta that is forgotten hides below the limits of one element in long rows, where it is small. Two sums over all that is compared bring
it out: the rows of dS sum to zero, hence sum_j dK_j = 0; and dQ without it is off by scale delta_i (P K)_i, so the differences are
summed with these as weights (the errors of one row all of one sign, those of different rows of random sign).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..arrays import Array, Arrays
from ..case import Check
from .exact import Rules, largest_ratio, rows_of
from .exact_gradients import Heads, KeyGradients, RowGradients, row_gradients
from .identities import identity_errors
from .sampling import FEWEST_ROWS, STRETCH, Effort, by_group, effort, groups_to_compare, pieces, rows_to_compare, runs


@dataclass
class _Errors:
    """The largest so far, in units of their limits, and the weighted sum of differences of dQ."""

    worst: list[float] = field(default_factory=list)
    delta_sum: float = 0.0
    delta_limit_squared: float = 0.0

    def add_rows(self, arrays: Arrays, found: RowGradients, dq: Array) -> None:
        xp, difference = arrays.xp, dq - found.dq
        weights = found.delta * found.attended_keys
        self.worst.append(largest_ratio(xp, difference, found.dq_limit))
        self.delta_sum += float(xp.sum(weights * difference))
        self.delta_limit_squared += float(xp.sum(xp.sum(xp.abs(weights) * found.dq_limit, axis=-1) ** 2))

    def largest(self) -> float:
        delta = abs(self.delta_sum) / max(self.delta_limit_squared, np.finfo(float).tiny) ** 0.5
        return float(np.max([*self.worst, delta]))


def check_gradients(
    arrays: Arrays, inputs: tuple[Array, ...], output: tuple[Array, ...], rules: Rules, seed: int, pairs_per_row: float
) -> Check:
    """Compare (dQ, dK, dV) with float64. The error is in units of the limit, so the limit is 1.

    ``pairs_per_row``: keys that a query sees on average.
    """
    kv_heads = inputs[1].shape[1]
    q, k, v, d_o, dq, dk, dv = (by_group(array, kv_heads) for array in (*inputs, *output))
    groups, group, seq_q, _ = q.shape
    budget, rng, errors = effort(arrays), np.random.default_rng(seed), _Errors()

    pairs = group * seq_q * pairs_per_row
    first = _first_key(rules, pairs, seq_q, budget)
    whole = groups_to_compare(groups, budget.pairs / pairs, rng) if first is not None else np.arange(0)
    width = max(group * seq_q, k.shape[-1], v.shape[-1])
    for part in runs(whole, max(1, budget.block // (width * k.shape[2]))):
        heads = Heads(arrays, q[part], k[part], v[part], d_o[part])
        _compare_whole(arrays, rules, heads, (dq[part], dk[part], dv[part]), first or 0, budget, errors)

    others = np.setdiff1d(np.arange(groups), whole)
    # Where only the last keys are compared, the rows before them are sampled like those of the other heads.
    for sampled_from, end in ((others, seq_q), (whole if first else others[:0], first or 0)):
        if len(sampled_from) == 0:
            continue
        affordable = budget.pairs / (group * pairs_per_row)  # rows of a group of heads
        sampled = sampled_from[groups_to_compare(len(sampled_from), STRETCH * affordable / min(end, FEWEST_ROWS), rng)]
        wanted = affordable / len(sampled)
        width = max(group * min(end, max(FEWEST_ROWS, int(wanted))), k.shape[-1], v.shape[-1])
        for part in runs(sampled, max(1, budget.block // (width * k.shape[2]))):
            heads = Heads(arrays, q[part], k[part], v[part], d_o[part])
            for rows in pieces(rows_to_compare(end, wanted, rng), budget.block // heads.pairs_per_row):
                errors.add_rows(arrays, row_gradients(arrays, rules, heads, rows), rows_of(arrays, dq[part], rows))
    if len(others) or first:
        errors.worst += identity_errors(arrays, rules, (q, k, d_o), (dq, dk, dv), budget)
    return Check(error=errors.largest(), limit=1.0)


def _first_key(rules: Rules, pairs: float, seq_q: int, budget: Effort) -> int | None:
    """Where the keys begin that are compared, in heads that are compared whole: 0 where that is affordable, None if none are.

    Under a causal mask only the queries from a key on see it, so the last keys cost less than all.
    """
    if pairs <= budget.pairs * (1 if rules.causal else STRETCH):
        return 0
    return seq_q - max(1, int(seq_q * budget.pairs / (2 * pairs))) if rules.causal else None


def _compare_whole(
    arrays: Arrays, rules: Rules, heads: Heads, output: tuple[Array, ...], first: int, budget: Effort, errors: _Errors
) -> None:
    """Compare all of dQ, dK and dV, from the query and the key ``first`` on."""
    dq, dk, dv = output
    keys = KeyGradients(arrays, heads)
    for rows in pieces(np.arange(first, heads.q.shape[2]), budget.block // heads.pairs_per_row):
        found = row_gradients(arrays, rules, heads, rows)
        errors.add_rows(arrays, found, rows_of(arrays, dq, rows))
        keys.add(arrays, rows, found)
    exact_dk, exact_dv, dk_limit, dv_limit, sum_limit = keys.limits(arrays, rules)
    xp, found_dk, found_dv = arrays.xp, arrays.wide(dk[:, 0]), arrays.wide(dv[:, 0])
    for difference, limit in ((found_dk - exact_dk, dk_limit), (found_dv - exact_dv, dv_limit)):
        errors.worst.append(largest_ratio(xp, difference[:, first:], limit[:, first:]))
    if first == 0:
        errors.worst.append(largest_ratio(xp, xp.sum(found_dk, axis=1), sum_limit))
