"""How far apart the two sides of each pair are, with an interval and a p-value: runs are pooled so that what lies between them counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .estimates import Z_95, Floats, Ints, Samples, least_p, log_medians, rank_test

PRIOR_FREEDOM = 4.0
"""Degrees of freedom that the shift between runs over all rows of a kind is worth beside a row's own: two runs of one row tell its shift
with one degree of freedom, which is next to nothing (moderated variance: Smyth, Statistical Applications in Genetics 3, 2004)."""


@dataclass(frozen=True)
class Effects:
    """One value a pair. ``log_ratio``: log of new over base cost; ``half``: half width of its 95 % interval, NaN where nothing tells it."""

    base_log: Floats
    new_log: Floats
    half: Floats
    p_value: Floats
    least_p: Floats
    base_samples: Ints
    new_samples: Ints
    base_runs: Ints
    new_runs: Ints

    @property
    def log_ratio(self) -> Floats:
        return self.new_log - self.base_log


def effects(
    samples: Samples, told: tuple[Floats, Floats, Floats], pair: Ints, is_new: NDArray[np.bool_], kind: NDArray[np.object_]
) -> Effects:
    """``told``: of each row the log of its own median and of its interval's ends, for rows without samples. ``pair``: of each row its
    pair, -1: none. ``kind``: of each pair."""
    logs, variances = _rows(samples, told)
    size = len(kind)
    sides = [_Side.of(logs, variances, samples, np.where(is_new == side, pair, -1), size) for side in (False, True)]
    base, new = sides
    shift, known = _shift_between_runs(sides, kind)
    variance = sum(side.within + side.between(shift) / np.maximum(side.runs, 1) for side in sides)
    freedom = np.where(known, PRIOR_FREEDOM + base.runs + new.runs - 2, np.inf)
    error = np.sqrt(variance)
    difference = new.log - base.log
    with np.errstate(divide="ignore", invalid="ignore"):
        by_mean = 2 * stats.t.sf(np.abs(difference) / error, freedom)
    by_rank = rank_test(base.samples, new.samples)
    sampled = ~np.isnan(by_rank)
    p_value = np.where(sampled, np.where(known, np.fmax(by_rank, by_mean), by_rank), by_mean)
    least = np.where(sampled, least_p(base.samples.counts, new.samples.counts), 0.0)
    half = stats.t.ppf(0.975, freedom) * error
    return Effects(base.log, new.log, half, p_value, least, base.samples.counts, new.samples.counts, base.runs, new.runs)


def _rows(samples: Samples, told: tuple[Floats, Floats, Floats]) -> tuple[Floats, Floats]:
    logs, variances = log_medians(samples)
    unsampled = samples.counts == 0
    median, low, high = told
    with np.errstate(invalid="ignore"):
        interval = ((high - low) / (2 * Z_95)) ** 2
    return np.where(unsampled, median, logs), np.where(unsampled, interval, variances)


@dataclass(frozen=True)
class _Side:
    """One side of all pairs."""

    log: Floats
    runs: Ints
    within: Floats
    """Variance of ``log`` by the samples inside runs."""
    spread: Floats
    """Variance of the runs' log medians; NaN with one run."""
    samples: Samples

    @classmethod
    def of(cls, logs: Floats, variances: Floats, samples: Samples, pair: Ints, size: int) -> _Side:
        rows = np.flatnonzero(pair >= 0)
        rows = rows[np.argsort(pair[rows], kind="stable")]
        own = pair[rows]
        runs = np.bincount(own, minlength=size)
        with np.errstate(divide="ignore", invalid="ignore"):
            log = np.bincount(own, logs[rows], size) / runs
            # Runs that tell no spread of their own still tell what lies between them.
            inside = np.where(np.isnan(variances[rows]) & (runs[own] > 1), 0.0, variances[rows])
            within = np.bincount(own, inside, size) / runs**2
            spread = np.bincount(own, (logs[rows] - log[own]) ** 2, size) / (runs - 1)
        return cls(log, runs, within, np.where(runs > 1, spread, np.nan), _gathered(samples, rows, own, size))

    def between(self, shift: Floats) -> Floats:
        """Variance of a run's shift: the row's own beyond what its samples explain, drawn to that of its kind."""
        freedom = np.maximum(self.runs - 1, 0)
        own = np.where(freedom > 0, np.maximum(np.nan_to_num(self.spread - self.within * self.runs), 0.0), 0.0)
        return (PRIOR_FREEDOM * shift + freedom * own) / (PRIOR_FREEDOM + freedom)


def _gathered(samples: Samples, rows: Ints, pair: Ints, size: int) -> Samples:
    """The samples of each pair, those of its runs one after the other."""
    counts = np.bincount(pair, samples.counts[rows], size).astype(np.int64)
    begins = np.zeros(size, dtype=np.int64)
    if len(np.unique(pair)) == len(pair):
        begins[pair] = samples.begins[rows]
        return Samples(samples.values, begins, counts)
    lengths = samples.counts[rows]
    ends = np.cumsum(lengths)
    places = np.repeat(samples.begins[rows] - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)
    begins = np.cumsum(counts) - counts
    return Samples(samples.values[places], begins, counts)


def _shift_between_runs(sides: Sequence[_Side], kind: NDArray[np.object_]) -> tuple[Floats, NDArray[np.bool_]]:
    """Of each pair the variance of shifts between runs of its kind, from those rows that have several runs (by the median, so that a few
    noisy rows do not decide), and whether it is known."""
    shift, known = np.zeros(len(kind)), np.zeros(len(kind), dtype=bool)
    for name in set(kind.tolist()):
        own = kind == name
        scaled = []
        for side in sides:
            several = own & (side.runs > 1) & np.isfinite(side.within)
            freedom = side.runs[several] - 1
            expected = stats.chi2.ppf(0.5, freedom) / freedom
            scaled.append(np.column_stack([side.spread[several] / expected, side.within[several] * side.runs[several]]))
        found = np.concatenate(scaled)
        if len(found):
            shift[own] = max(float(np.median(found[:, 0]) - np.median(found[:, 1])), 0.0)
            known[own] = True
    return shift, known
