"""Numbers of chips worth asking for, and the searches over them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

import numpy as np

from ..cluster import Group
from ..grid import context_axis, fitted_batch, pipeline_axis, tensor_axis
from ..models import Transformer
from ..search import BATCH_TOLERANCE

STEP = 1.4
"""From one number to the next where numbers are only sampled."""
RISES = 4
"""Samples above the aim after which no larger number is looked at."""


def legal_counts(model: Transformer, group: Group, global_batch: int, tolerance: float = BATCH_TOLERANCE) -> list[int]:
    """Numbers of chips in whole nodes that some split of the model and the batch (moved by ``tolerance``) uses in full, ascending."""
    dp = np.arange(1, global_batch + 1)
    dp = dp[fitted_batch(global_batch, dp, tolerance) > 0]
    axes = (tensor_axis(model, group.chips_per_node), pipeline_axis(model), context_axis(model))
    products = sorted({tp * pp * cp for tp in axes[0] for pp in axes[1] for cp in axes[2]})
    counts = np.unique(np.multiply.outer(products, dp))
    return [int(count) for count in counts[counts % group.chips_per_node == 0]]


def thinned(counts: Sequence[int], step: float = STEP) -> list[int]:
    """Of ascending numbers, each that is at least ``step`` times the one before it; the last one too.

    >>> thinned([8, 16, 24, 32, 40, 64], 1.9)
    [8, 16, 32, 64]
    """
    kept: list[int] = []
    for count in counts:
        if not kept or count >= step * kept[-1]:
            kept.append(count)
    return kept if not counts or kept[-1] == counts[-1] else [*kept, counts[-1]]


def roundest(counts: Sequence[int], step: float = STEP) -> list[int]:
    """Of ascending numbers, in each span of a factor ``step`` the one that can be halved most often: such divide a batch and a model well.

    >>> roundest([8, 16, 24, 32, 40, 64, 72], 2.0)
    [8, 16, 32, 64]
    """
    kept: list[int] = []
    start = 0
    while start < len(counts):
        end = max(start + 1, bisect_left(counts, counts[start] * step))
        kept.append(max(counts[start:end], key=lambda count: count & -count))
        start = end
    return kept


def smallest_reaching(counts: Sequence[int], start: int, reaches: Callable[[int], bool]) -> int | None:
    """Index of a count that reaches the aim where the one tried before it does not: doubling from ``start``, then bisection.

    Throughput grows with the count but for plans that divide badly, so the answer reaches the aim for certain and is the smallest
    up to such dips.
    """
    if not counts:
        return None
    high = min(start, len(counts) - 1)
    low = -1
    step = 1
    while not reaches(high):
        low = high
        if high == len(counts) - 1:
            return None
        high = min(high + step, len(counts) - 1)
        step *= 2
    if low == -1:
        step = 1
        while high - step >= 0 and reaches(high - step):
            high -= step
            step *= 2
        low = max(-1, high - step)
    while high - low > 1:
        middle = (high + low) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def largest_within(counts: Sequence[int], value: Callable[[int], float], aim: float) -> tuple[int | None, int | None]:
    """The largest count whose value is at most the aim, and the count of the least value seen. None, None where no count has a value.

    ``value`` is infinite for a count that cannot be used. Values fall at first, as memory becomes enough, and then rise: numbers are
    sampled from the smallest on until they have been above the aim, and rising, a few times; then bisection.
    """
    samples = thinned(counts)
    known: dict[int, float] = {}
    last: int | None = None
    rises, before = 0, float("inf")
    for place, count in enumerate(samples):
        found = known[count] = value(count)
        if found <= aim:
            last, rises = place, 0
        elif found < float("inf"):
            rises = rises + 1 if found >= before else 0
            if rises == RISES:
                break
        before = found
    finite = {count: found for count, found in known.items() if found < float("inf")}
    cheapest = min(finite, key=lambda count: finite[count], default=None)
    if last is None:
        return None, cheapest
    low, high = bisect_left(counts, samples[last]), len(counts)
    if last + 1 < len(samples):
        high = bisect_left(counts, samples[last + 1])
    while high - low > 1:
        middle = (high + low) // 2
        low, high = (middle, high) if value(counts[middle]) <= aim else (low, middle)
    return counts[low], cheapest
