"""How far apart the two sides of each pair are, with an interval and a p-value: runs are pooled so that what lies between them counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from .estimates import Z_95, Floats, Ints, Samples, least_p, log_medians, rank_test
from .serial import FAR_FREEDOM, less_certain, serial_factors

PRIOR_FREEDOM = 1.0
"""Degrees of freedom that the shift between runs, taken over the other rows of a kind, is worth beside a row's own: two runs of one row
tell its shift with one degree of freedom, which is next to nothing (moderated variance: Smyth, Statistical Applications in Genetics 3,
2004). No more than one, for the rows of a run shift together, and two runs a side know two shifts however many rows they have. By
simulation (shifts of 2 % common to 20 rows, noise of 1 %, two runs a side): 0.7 % of comparisons have a false alarm; with two it is
1.7 %."""
VISIT_SAMPLES = 4
"""Below so many samples a visit, a row's samples are not split by visits."""


@dataclass(frozen=True)
class Effects:
    """One value a pair. ``log_ratio``: log of new over base cost; ``half``: half width of its 95 % interval, NaN where nothing tells it."""

    base_log: Floats
    new_log: Floats
    half: Floats
    p_value: Floats
    rank_p: Floats
    """Of the rank test alone; NaN where a side has no samples."""
    within: Floats
    """Variance of ``log_ratio`` by the samples inside runs and visits."""
    least_p: Floats
    base_samples: Ints
    new_samples: Ints
    base_runs: Ints
    new_runs: Ints

    @property
    def log_ratio(self) -> Floats:
        return self.new_log - self.base_log


def effects(
    samples: Samples,
    told: tuple[Floats, Floats, Floats],
    visits: Ints,
    pair: Ints,
    is_new: NDArray[np.bool_],
    kind: NDArray[np.object_],
) -> Effects:
    """What lies between runs is taken from several runs a side, where a kind has any; else from the visits of each run.

    ``told``: of each row the log of its own median and of its interval's ends, for rows without samples. ``visits``: of each row how
    often its case was visited; its samples are theirs in equal shares. ``pair``: of each row its pair, -1: none. ``kind``: of each pair.
    """
    size = len(kind)
    on_side = [np.where(is_new == side, pair, -1) for side in (False, True)]
    runs = [np.bincount(own[own >= 0], minlength=size) for own in on_side]
    pooled = [_gathered(samples, own, size) for own in on_side]
    several = (runs[0] > 1) | (runs[1] > 1)
    alone = np.zeros(size + 1, dtype=bool)  # the last is that of -1, no pair
    for name in set(kind.tolist()):
        alone[:-1][kind == name] = not several[kind == name].any()
    part, row = _by_visit(samples, np.where(alone[pair], visits, 1))
    logs, variances, serial = _logs(part, tuple(values[row] for values in told), pair[row], kind)
    base, new = (_Side.of(logs, variances, own[row], size) for own in on_side)
    shift, others, known = _shift_between_runs((base, new), kind)
    variance = base.variance(shift) + new.variance(shift)
    freedom = np.where(known, PRIOR_FREEDOM * others + base.parts + new.parts - 2, np.inf)
    error = np.sqrt(variance)
    raw = rank_test(*pooled)
    with np.errstate(divide="ignore", invalid="ignore"):
        size_in_errors = np.abs(new.log - base.log) / error
        # Two sides of one value each, told without any error, do not differ.
        by_mean = np.where(new.log == base.log, 1.0, 2 * stats.t.sf(size_in_errors, freedom))
        far = np.fmax(raw, 2 * special.stdtr(FAR_FREEDOM, -size_in_errors))
    # Few independent samples cannot order themselves clearly, but a change far beyond their drift needs no order.
    by_rank = np.fmin(less_certain(raw, serial), far)
    sampled = ~np.isnan(raw)
    p_value = np.where(sampled, np.where(known, np.fmax(by_rank, by_mean), by_rank), by_mean)
    counts = [side.counts for side in pooled]
    least = np.where(sampled, least_p(*counts), 0.0)
    half = stats.t.ppf(0.975, freedom) * error
    return Effects(base.log, new.log, half, p_value, by_rank, base.within + new.within, least, *counts, *runs)


def _by_visit(samples: Samples, visits: Ints) -> tuple[Samples, Ints]:
    """The samples of each visit as those of a row of their own, and whose they are. A row with too few of them stays whole."""
    parts = np.where(samples.counts >= VISIT_SAMPLES * visits, np.maximum(visits, 1), 1)
    row = np.repeat(np.arange(len(parts)), parts)
    place = np.arange(len(row)) - np.repeat(np.cumsum(parts) - parts, parts)
    begin, end = (samples.counts[row] * at // parts[row] for at in (place, place + 1))
    return Samples(samples.values, samples.begins[row] + begin, end - begin), row


def _logs(samples: Samples, told: tuple[Floats, ...], pair: Ints, kind: NDArray[np.object_]) -> tuple[Floats, Floats, Floats]:
    """Log median and its variance of each row or part of it; and of each pair by how much the variance of its ranks grows because
    neighbouring samples are alike."""
    found = log_medians(samples)
    unsampled = samples.counts == 0
    counted = (pair >= 0) & ~unsampled
    of_median, of_ranks = serial_factors(found.alike, samples.counts, np.where(counted, kind[pair], "") if len(kind) else kind[pair[:0]])
    median, low, high = told
    with np.errstate(invalid="ignore"):
        interval = ((high - low) / (2 * Z_95)) ** 2
        variances = np.fmax(found.independent * of_median, found.by_blocks)
    own = pair[counted]
    serial = np.bincount(own, of_ranks[counted], len(kind)) / np.maximum(np.bincount(own, minlength=len(kind)), 1)
    return np.where(unsampled, median, found.log), np.where(unsampled, interval, variances), np.maximum(serial, 1.0)


@dataclass(frozen=True)
class _Side:
    """One side of all pairs: the parts (runs, or visits of the one run) of each pair taken together."""

    log: Floats
    parts: Ints
    within: Floats
    """Variance of ``log`` by the samples inside parts."""
    spread: Floats
    """Variance of the parts' log medians; NaN with one part."""

    @classmethod
    def of(cls, logs: Floats, variances: Floats, pair: Ints, size: int) -> _Side:
        rows = np.flatnonzero(pair >= 0)
        own = pair[rows]
        parts = np.bincount(own, minlength=size)
        with np.errstate(divide="ignore", invalid="ignore"):
            log = np.bincount(own, logs[rows], size) / parts
            # Parts that tell no spread of their own still tell what lies between them.
            inside = np.where(np.isnan(variances[rows]) & (parts[own] > 1), 0.0, variances[rows])
            within = np.bincount(own, inside, size) / parts**2
            spread = np.bincount(own, (logs[rows] - log[own]) ** 2, size) / (parts - 1)
        return cls(log, parts, within, np.where(parts > 1, spread, np.nan))

    def variance(self, shift: Floats) -> Floats:
        """Variance of ``log``: by samples, and by the shift of a part: its own beyond what samples explain, drawn to that of its kind."""
        freedom = np.maximum(self.parts - 1, 0)
        own = np.where(freedom > 0, np.maximum(np.nan_to_num(self.spread - self.within * self.parts), 0.0), 0.0)
        between = (PRIOR_FREEDOM * shift + freedom * own) / (PRIOR_FREEDOM + freedom)
        return np.asarray(self.within + between / np.maximum(self.parts, 1))


def _gathered(samples: Samples, pair: Ints, size: int) -> Samples:
    """The samples of each pair, those of its runs one after the other."""
    rows = np.flatnonzero(pair >= 0)
    rows = rows[np.argsort(pair[rows], kind="stable")]
    own = pair[rows]
    counts = np.bincount(own, samples.counts[rows], size).astype(np.int64)
    if (own[1:] > own[:-1]).all():
        begins = np.zeros(size, dtype=np.int64)
        begins[own] = samples.begins[rows]
        return Samples(samples.values, begins, counts)
    lengths = samples.counts[rows]
    ends = np.cumsum(lengths)
    places = np.repeat(samples.begins[rows] - (ends - lengths), lengths) + np.arange(ends[-1] if len(ends) else 0)
    return Samples(samples.values[places], np.cumsum(counts) - counts, counts)


def _shift_between_runs(sides: tuple[_Side, _Side], kind: NDArray[np.object_]) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Of each pair the variance of shifts between parts in its kind, from those rows that have several (by the median, so that a few
    noisy rows do not decide), the share of it that other pairs tell, and whether it is known."""
    shift, others, known = np.zeros(len(kind)), np.ones(len(kind)), np.zeros(len(kind), dtype=bool)
    for name in set(kind.tolist()):
        own = kind == name
        scaled = []
        telling = np.zeros(len(kind), dtype=bool)
        for side in sides:
            several = own & (side.parts > 1) & np.isfinite(side.within)
            telling |= several
            freedom = side.parts[several] - 1
            expected = stats.chi2.ppf(0.5, freedom) / freedom
            scaled.append(np.column_stack([side.spread[several] / expected, side.within[several] * side.parts[several]]))
        found = np.concatenate(scaled)
        if len(found):
            shift[own] = max(float(np.median(found[:, 0]) - np.median(found[:, 1])), 0.0)
            known[own] = True
            others[telling] = 1 - 1 / np.count_nonzero(telling)
    return shift, others, known
