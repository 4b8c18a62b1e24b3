"""What samples say, for many rows at once: log medians with their variance, and the rank test between two sides."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

if TYPE_CHECKING:
    from collections.abc import Iterator

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Z_95 = 1.959963984540054
BLOCKS = 8
BLOCK_SAMPLES = 4
T_BLOCKS = float(stats.t.ppf(0.975, BLOCKS - 1))
"""Blocks of consecutive samples tell drift from noise, as in the row's own interval (runners/timing/statistics.py)."""
ORDERED_FROM = 6
"""With fewer samples no two order statistics enclose the median with 95 %: then samples are taken as log-normal."""
NORMAL_MEDIAN = float(np.sqrt(np.pi / 2))
"""Standard error of a median over that of the mean, of normal samples."""
EXACT_UP_TO = 20
"""Samples a side up to which the rank test is exact where no two are equal."""
SIGNS_FROM = 8
"""With fewer samples the signs of neighbours tell nothing."""
BATCH = 2_000_000
"""Samples looked at together."""


@dataclass(frozen=True)
class Samples:
    """Raw samples of many rows: row i has ``values[begins[i]:begins[i] + counts[i]]``, in time order."""

    values: Floats | NDArray[np.float32]
    begins: Ints
    counts: Ints

    def of(self, rows: Ints, count: int) -> Floats:
        """Those of ``rows``, which have ``count`` each. Shape: rows, count."""
        return self.values[self.begins[rows][:, None] + np.arange(count)].astype(np.float64)


@dataclass(frozen=True)
class LogMedians:
    """Of each row the log of its median; NaN for rows without samples.

    ``independent``: variance were its samples independent; NaN for a single sample. ``by_blocks``: variance by consecutive
    blocks. ``alike``: mean product of the signs of neighbours' deviations from the median. Both are NaN with too few samples.
    """

    log: Floats
    independent: Floats
    by_blocks: Floats
    alike: Floats


def log_medians(samples: Samples) -> LogMedians:
    """Variance from two order statistics (McKean and Schrader, Communications in Statistics B13, 1984; c and its exact level as in Price
    and Bonett, Journal of Statistical Computation and Simulation 68, 2001), and from medians of consecutive blocks (batch means).

    How alike: medial correlation at lag 1 (Blomqvist, Annals of Mathematical Statistics 21, 1950), plus 1 / count, since deviations from a
    median of their own are that much less alike.
    """
    log, independent, by_blocks, alike = (np.full(len(samples.counts), np.nan) for _ in range(4))
    for count, rows in _alike(samples.counts):
        values = np.log(samples.of(rows, count))
        ordered = np.sort(values, axis=1)
        log[rows] = (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / 2
        if count >= ORDERED_FROM:
            low, z = _order(count)
            independent[rows] = ((ordered[:, count - 1 - low] - ordered[:, low]) / (2 * z)) ** 2
        elif count > 1:
            half = stats.t.ppf(0.975, count - 1) / Z_95
            independent[rows] = (half * NORMAL_MEDIAN) ** 2 * values.var(axis=1, ddof=1) / count
        if count >= SIGNS_FROM:
            signs = np.sign(values - log[rows, None])
            alike[rows] = (signs[:, 1:] * signs[:, :-1]).sum(axis=1) / np.maximum((signs**2).sum(axis=1), 1) + 1 / count
        if count // BLOCKS >= BLOCK_SAMPLES:
            edges = [round(i * count / BLOCKS) for i in range(BLOCKS + 1)]
            blocks = np.stack([np.median(values[:, begin:end], axis=1) for begin, end in itertools.pairwise(edges)], axis=1)
            by_blocks[rows] = (T_BLOCKS / Z_95) ** 2 * blocks.var(axis=1, ddof=1) / BLOCKS
    return LogMedians(log, independent, by_blocks, alike)


def _order(count: int) -> tuple[int, float]:
    """Zero-based rank of the lower order statistic, and how many standard errors the pair of them spans to each side.

    >>> _order(30)[0]
    9
    """
    low = max(round((count + 1) / 2 - np.sqrt(count)), 1) - 1
    outside = 2 * stats.binom.cdf(low, count, 0.5)
    return low, float(stats.norm.ppf(1 - outside / 2))


def _alike(kinds: Ints, samples: Ints | None = None) -> Iterator[tuple[int, Ints]]:
    """Rows of the same kind (above 0) in batches; ``samples``: how many each has, where that is not the kind itself."""
    order = np.argsort(kinds, kind="stable")
    found, begins = np.unique(kinds[order], return_index=True)
    for kind, begin, end in zip(found, begins, [*begins[1:], len(order)][: len(found)], strict=True):
        if kind <= 0:
            continue
        rows = order[begin:end]
        step = max(1, BATCH // int(kind if samples is None else samples[rows[0]]))
        for first in range(0, len(rows), step):
            yield int(kind), rows[first : first + step]


def least_p(base: NDArray[np.int64], new: NDArray[np.int64]) -> Floats:
    """The smallest two-sided p that the rank test can give: 2 of the C(n + m, n) orders are the most extreme.

    >>> float(least_p(np.array([6]), np.array([6]))[0].round(5))
    0.00216
    """
    orders = special.gammaln(base + new + 1) - special.gammaln(base + 1) - special.gammaln(new + 1)
    return np.minimum(1.0, 2 * np.exp(-orders))


def rank_test(base: Samples, new: Samples) -> Floats:
    """Two-sided p of Mann and Whitney's test for each pair of rows; NaN where a side has no samples. Shape: pairs.

    Exact up to EXACT_UP_TO samples a side without ties, and where all samples of one side are below all of the other: of all orders just
    two are so. Else the normal approximation with corrections for ties and continuity (Hollander and Wolfe, Nonparametric Statistical
    Methods, section 4.1), never below what the exact test could give.
    """
    p_values = np.full(len(base.counts), np.nan)
    kinds = base.counts * (new.counts.max(initial=0) + 1) + new.counts
    kinds[(base.counts == 0) | (new.counts == 0)] = 0
    for _, pairs in _alike(kinds, base.counts + new.counts):
        n, m = int(base.counts[pairs[0]]), int(new.counts[pairs[0]])
        p_values[pairs] = _rank_p(base.of(pairs, n), new.of(pairs, m))
    return p_values


def _rank_p(x: Floats, y: Floats) -> Floats:
    n, m = x.shape[1], y.shape[1]
    both = np.sort(np.concatenate([x, y], axis=1), axis=1)
    tied = (np.diff(both, axis=1) == 0).any(axis=1)
    p = np.empty(len(x))
    exact = ~tied & (max(n, m) <= EXACT_UP_TO)
    if exact.any():
        p[exact] = stats.mannwhitneyu(x[exact], y[exact], axis=1, method="exact").pvalue
    if (~exact).any():
        # Where all values are the same there is no order at all: SciPy divides by zero and says NaN.
        with np.errstate(invalid="ignore", divide="ignore"):
            p[~exact] = np.nan_to_num(stats.mannwhitneyu(x[~exact], y[~exact], axis=1, method="asymptotic").pvalue, nan=1.0)
    apart = (x.max(axis=1) < y.min(axis=1)) | (y.max(axis=1) < x.min(axis=1))
    least = least_p(np.array([n]), np.array([m]))
    return np.where(apart, least, np.maximum(p, least))
