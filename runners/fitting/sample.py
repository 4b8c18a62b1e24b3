"""Of many measured shapes a part: more of one table move no parameter, and a fit takes as long as its rows are many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int_]

LARGE_FLOPS = 1e9
"""Products and attention of at least so much are what training is made of."""
LARGE_SHARE = 0.75
"""Of a sample: what is large, as far as there is so much of it."""


def sample(rows: Rows, flops: NDArray[np.float64], count: int) -> Rows:
    """At most ``count`` of the rows, most of them large, in order; ``flops`` is indexed by row.

    >>> flops = np.array([1e6] * 4 + [1e12] * 16)
    >>> [int((flops[sample(np.arange(20), flops, count)] >= LARGE_FLOPS).sum()) for count in (4, 18, 30)]
    [3, 14, 16]
    """
    if len(rows) <= count:
        return rows
    random = np.random.default_rng(0)
    large = flops[rows] >= LARGE_FLOPS
    rest = int(np.sum(~large))
    wanted = min(int(large.sum()), max(int(LARGE_SHARE * count), count - rest))
    chosen = [random.choice(rows[large], wanted, replace=False), random.choice(rows[~large], min(count - wanted, rest), replace=False)]
    return np.sort(np.concatenate(chosen))
