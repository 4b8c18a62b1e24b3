"""What a list of samples says: the median, its interval, percentiles. Plain numbers in, plain numbers out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache
from statistics import stdev


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


TAIL = 0.025
NORMAL_Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""
EXACT_RANKS_UP_TO = 100
"""Beyond this many samples the normal approximation of the binomial is off by less than one rank."""


@cache
def median_interval_ranks(count: int) -> tuple[int, int]:
    """Zero-based ranks (low, high) of the order statistics that enclose the population median with 95 % confidence.

    Distribution-free, from the binomial(count, 1/2): Conover, Practical Nonparametric Statistics, 3rd ed., section 3.2.
    With fewer than 6 samples no such pair reaches 95 %: the whole range is given.

    >>> median_interval_ranks(10), median_interval_ranks(5)
    ((1, 8), (0, 4))
    """
    if count > EXACT_RANKS_UP_TO:
        low = max(0, math.floor((count - NORMAL_Z * math.sqrt(count)) / 2 - 0.5))
        return low, count - 1 - low
    low, cumulative = -1, 0.0
    while True:
        cumulative += math.comb(count, low + 1) / 2**count
        if cumulative > TAIL:
            break
        low += 1
    low = max(low, 0)
    return low, count - 1 - low


BLOCKS = 8
"""Blocks of consecutive samples whose medians tell drift from noise: few blocks suffice (Schmeiser, Operations Research 30, 1982)."""
BLOCK_SAMPLES = 4
"""Below this many samples a block, the median of a block is noise itself."""
STUDENT_T_7 = 2.3646242515927844
"""97.5 % quantile of Student's t with BLOCKS - 1 degrees of freedom."""


def median_interval(samples: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the median of samples in time order.

    The interval by ranks (see median_interval_ranks) takes samples as independent. Clocks and neighbours drift, which makes them
    alike in time and that interval too narrow: so it is widened to what the medians of BLOCKS consecutive blocks allow
    (batch means: Law and Kelton, Simulation Modeling and Analysis, chapter 9), within the range of the samples.

    >>> median_interval([5.0, 1.0, 2.0, 3.0, 4.0, 6.0, 7.0, 8.0, 9.0, 10.0])
    (2.0, 9.0)
    """
    ordered = sorted(samples)
    low_rank, high_rank = median_interval_ranks(len(ordered))
    low, high = ordered[low_rank], ordered[high_rank]
    size = len(samples) // BLOCKS
    if size >= BLOCK_SAMPLES:
        edges = [round(i * len(samples) / BLOCKS) for i in range(BLOCKS + 1)]
        blocks = [median(samples[begin:end]) for begin, end in itertools.pairwise(edges)]
        half = STUDENT_T_7 * stdev(blocks) / math.sqrt(BLOCKS)
        middle = percentile(ordered, 0.5)
        low, high = max(min(low, middle - half), ordered[0]), min(max(high, middle + half), ordered[-1])
    return low, high


def thin(samples: Sequence[float], bound: int) -> tuple[float, ...]:
    """At most ``bound`` samples, evenly spaced in time order, first and last among them.

    >>> thin([0.0, 1.0, 2.0, 3.0, 4.0], 3)
    (0.0, 2.0, 4.0)
    """
    if len(samples) <= bound:
        return tuple(samples)
    step = (len(samples) - 1) / (bound - 1)
    return tuple(samples[round(i * step)] for i in range(bound))
