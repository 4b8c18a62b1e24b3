"""Numbers of chips worth asking for, and the searches over them."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

import numpy as np

from ..cluster import Group
from ..grid import context_axis, fitted_batch, pipeline_axis, tensor_axis
from ..models import Transformer
from ..plans import Array
from ..search import BATCH_TOLERANCE

STEP = 1.4
"""From one number to the next where numbers are only sampled."""
RISES = 4
"""Samples above the aim after which no larger number is looked at."""
WASTED = 2
"""Guesses that left more than half of a bracket after which it is halved instead."""


def usable_counts(model: Transformer, group: Group, global_batch: int, tolerance: float = BATCH_TOLERANCE) -> Array:
    """Numbers of chips that some split of the model and the batch (moved by ``tolerance``) uses in full, ascending, nodes whole or not."""
    dp = np.arange(1, global_batch + 1)
    dp = dp[fitted_batch(global_batch, dp, tolerance) > 0]
    axes = (tensor_axis(model, group.chips_per_node), pipeline_axis(model), context_axis(model))
    products = sorted({tp * pp * cp for tp in axes[0] for pp in axes[1] for cp in axes[2]})
    return np.unique(np.multiply.outer(products, dp))


def legal_counts(model: Transformer, group: Group, global_batch: int, tolerance: float = BATCH_TOLERANCE) -> list[int]:
    """Those of ``usable_counts`` that fill their nodes."""
    counts = usable_counts(model, group, global_batch, tolerance)
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


def smallest_reaching(counts: Sequence[int], start: int, speed: Callable[[int], float], aim: float, near: float = 0.0) -> int | None:
    """Index of a count whose speed reaches the aim where that of the count before it does not; None where none reaches it.

    ``speed`` is of the count at an index, 0 where it cannot run. From the index ``start`` on the next one tried is where the aim would
    lie if speed grew with the number of chips; where that gains little, steps double and brackets are halved. Speed grows with the count
    but for numbers that divide badly, so the answer reaches the aim for certain and is the smallest up to such dips. ``near``: a count
    that exceeds the aim by no more than this share is taken as it is, for speeds that cost much to know.

    >>> smallest_reaching([8, 16, 24, 32, 40], 0, lambda index: 10.0 * (index + 1), 25.0)
    2
    """
    low, high = -1, len(counts)
    index = max(0, min(start, high - 1))
    jump, width, wasted = 1, high + 1, 0
    while high - low > 1:
        found = speed(index)
        if found >= aim:
            high = index
            if found <= aim * (1 + near):
                break
        else:
            low = index
        # Where speed in proportion to the chips would just reach the aim.
        guess = bisect_left(counts, counts[index] * aim / found) if found > 0 else high
        if high == len(counts):
            index = min(max(guess, low + jump), high - 1) if found > 0 else min(low + jump, high - 1)
            jump *= 2
            continue
        wasted = wasted + 1 if 2 * (high - low) > width else 0
        width = high - low
        index = (low + high) // 2 if wasted >= WASTED or found == 0 else min(max(guess, low + 1), high - 1)
    return high if high < len(counts) else None


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
