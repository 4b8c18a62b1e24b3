"""What a list of samples says: the median, its interval, percentiles. Plain numbers in, plain numbers out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """Linear interpolation between the two nearest of already ordered samples (Hyndman and Fan 1996, type 7).

    >>> percentile([1.0, 2.0, 4.0], 0.5), percentile([1.0, 3.0], 0.25)
    (2.0, 1.5)
    """
    position = fraction * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def median(samples: Sequence[float]) -> float:
    """The median.

    >>> median([3.0, 1.0, 2.0, 4.0])
    2.5
    """
    return percentile(sorted(samples), 0.5)


EXACT_RANKS_UP_TO = 100
"""Beyond this many samples the normal approximation of the binomial is off by less than one rank."""


@cache
def median_interval_ranks(count: int, confidence: float = 0.95) -> tuple[int, int]:
    """Zero-based ranks (low, high) of the order statistics that enclose the population median with ``confidence``.

    Distribution-free, from the binomial(count, 1/2): Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2.
    With fewer than 6 samples no such pair reaches 95 %: the whole range is given.

    >>> median_interval_ranks(10), median_interval_ranks(5)
    ((1, 8), (0, 4))
    """
    tail = (1 - confidence) / 2
    if count > EXACT_RANKS_UP_TO:
        z = 1.959963984540054 if confidence == 0.95 else _normal_quantile(1 - tail)
        low = max(0, math.floor((count - z * math.sqrt(count)) / 2 - 0.5))
        return low, count - 1 - low
    low, cumulative = -1, 0.0
    while True:
        cumulative += math.comb(count, low + 1) / 2**count
        if cumulative > tail:
            break
        low += 1
    low = max(low, 0)
    return low, count - 1 - low


def _normal_quantile(probability: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(probability)


def median_interval(samples: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """The ``confidence`` interval of the median (see median_interval_ranks).

    >>> median_interval([5.0, 1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0, 10.0])
    (2.0, 9.0)
    """
    ordered = sorted(samples)
    low, high = median_interval_ranks(len(ordered), confidence)
    return ordered[low], ordered[high]


def thin(samples: Sequence[float], bound: int) -> tuple[float, ...]:
    """At most ``bound`` samples, evenly spaced in time order, first and last among them.

    >>> thin([0.0, 1.0, 2.0, 3.0, 4.0], 3)
    (0.0, 2.0, 4.0)
    """
    if len(samples) <= bound:
        return tuple(samples)
    step = (len(samples) - 1) / (bound - 1)
    return tuple(samples[round(i * step)] for i in range(bound))
