"""The verdict on each pair: what is certain and large enough to matter, what is proved the same, and why the rest is unclear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from .comparison import Settings
from .effects import Effects
from .estimates import Floats, least_p
from .relative import relative

Words = NDArray[np.object_]
Marks = NDArray[np.bool_]

CLOCK_LIMITED = "compute"
"""Operations whose time is counted in cycles of the chip's clock; the memory and the links have clocks of their own."""


@dataclass(frozen=True)
class Judged:
    """Of each pair: the log of the ratio (NaN: unknown), its p after correction, the verdict, and the reason where one is needed."""

    log_ratio: Floats
    p_adjusted: Floats
    verdict: Words
    reason: Words
    comparable: Marks


def judge(found: Effects, thresholds: Floats, clock_ratio: Floats, kind: Words, why_not: Words, settings: Settings) -> Judged:
    """``why_not``: why a pair cannot be compared, empty where it can.

    FASTER and SLOWER: p after correction below alpha, an interval without zero, and a change beyond the threshold; of the change itself,
    or of what it is beside the others of its kind (``relative``), each at half of alpha. SAME: the whole
    interval within the threshold (two one-sided tests at 2.5 %: Schuirmann, Journal of Pharmacokinetics and Biopharmaceutics 15, 1987).
    Correction by Benjamini and Hochberg (JRSS B 57, 1995): where nothing changed at all, any false alarm among all pairs is as rare as
    alpha; where much changed, power is kept.
    """
    limit = np.log1p(thresholds)
    log_ratio = np.where(np.isfinite(found.log_ratio), found.log_ratio, np.nan)
    comparable = why_not == ""
    known = comparable & np.isfinite(log_ratio) & np.isfinite(found.half) & np.isfinite(found.p_value)
    apart = relative(log_ratio, found.within, found.rank_p, kind, known)
    ways = np.where(np.isfinite(apart.p_value), 2.0, 1.0)  # to be certain, which share alpha
    p_itself, p_apart = _adjusted(ways * found.p_value, known), _adjusted(ways * apart.p_value, known & (ways > 1))
    p_adjusted = np.fmin(p_itself, p_apart)
    size = np.abs(log_ratio)
    certain = known & (p_itself < settings.alpha) & (size > found.half)
    alone = (p_apart < settings.alpha) & (np.abs(apart.log) > np.maximum(apart.half, limit)) & (apart.log * log_ratio > 0)
    certain |= known & alone
    moved = certain & (size > limit)
    log_cycles = log_ratio + np.log(np.where(kind == CLOCK_LIMITED, clock_ratio, np.nan))
    # A change of time is one of the clock where in cycles it is not beyond the threshold in the same direction (nvbench's rule).
    by_clock = moved & (log_cycles * np.sign(log_ratio) < limit)
    same = known & (size + found.half < limit)
    # Samples without spread tell how coarse the timer is, not how exact they are; and a new clock may hide that the code changed.
    untold = same & (found.half == 0)
    hidden = same & (np.abs(log_cycles) - found.half > limit)
    verdict = np.full(len(kind), "UNCLEAR", dtype=object)
    verdict[same & ~untold & ~hidden] = "SAME"
    verdict[moved & ~by_clock & (log_ratio > 0)] = "SLOWER"
    verdict[moved & ~by_clock & (log_ratio < 0)] = "FASTER"
    verdict[~comparable] = "NOT-COMPARABLE"
    reason = why_not.copy()
    unclear = verdict == "UNCLEAR"
    _tell(reason, unclear & ~np.isfinite(log_ratio), "a side tells no time")
    single = unclear & ~known & ((found.base_samples == 1) | (found.new_samples == 1))
    _tell(reason, single, "a single sample tells no spread: take more, or several runs a side")
    _tell(reason, unclear & ~known, "no samples and no interval: several runs a side, or a tool that keeps samples, would tell")
    nothing = by_clock & (np.abs(log_cycles) < limit)
    _tell(reason, nothing, "the clock changed by {:+.1f} %: in cycles nothing changed", 100 * (clock_ratio - 1))
    _tell(reason, unclear & untold, "the samples show no spread: so coarse a timer cannot prove that nothing changed")
    both = by_clock | hidden | ((verdict == "SLOWER") | (verdict == "FASTER")) & (np.abs(log_cycles - log_ratio) > limit)
    _tell(
        reason,
        both,
        "the clock changed by {:+.1f} %: in cycles the change is {:+.1f} %",
        100 * (clock_ratio - 1),
        100 * np.expm1(log_cycles),
    )
    _tell(reason, unclear & certain, "a change of {:+.1f} % is certain, but not that it is over the threshold", 100 * np.expm1(log_ratio))
    pairs = int(known.sum())
    among = f"{pairs:,} pair{'' if pairs == 1 else 's'}"
    floor = (found.p_value <= found.least_p * (1 + 1e-9)) & (p_adjusted >= settings.alpha)
    enough = _enough(settings.alpha / max(pairs, 1) / ways.max(initial=1.0))
    few = f"too few samples: {{:.0f}} and {{:.0f}} cannot tell among {among}; take {enough} a side"
    _tell(reason, unclear & floor, few, found.base_samples, found.new_samples)
    likely = f"a change of {{:+.1f}} % is likely, not certain: p is {{:.2g}} after correction among {among}; take more samples or runs"
    _tell(reason, unclear & (size > found.half), likely, 100 * np.expm1(log_ratio), p_adjusted)
    noisy = "too noisy: +-{:.3g} % at a threshold of {:g} %; take more samples or runs"
    with np.errstate(over="ignore"):
        _tell(reason, unclear, noisy, np.round(100 * np.expm1(found.half), 1), np.round(100 * thresholds, 2))
    return Judged(log_ratio, p_adjusted, verdict, reason, comparable)


def _adjusted(p_value: Floats, known: Marks) -> Floats:
    """p after correction over all that are known; NaN for the others."""
    adjusted = np.full(len(p_value), np.nan)
    if known.any():
        adjusted[known] = stats.false_discovery_control(np.clip(p_value[known], 0.0, 1.0), method="bh")
    return adjusted


def _tell(reason: Words, where: Marks, template: str, *values: NDArray[np.float64] | NDArray[np.int64]) -> None:
    """Fill in the template for those pairs that have no reason yet; few texts are made, for many pairs are alike."""
    rows = np.flatnonzero(where)
    rows = rows[reason[rows] == ""]
    if not len(rows):
        return
    if not values:
        reason[rows] = template
        return
    table = np.column_stack([np.asarray(value, dtype=float)[rows] for value in values])
    different, places = np.unique(np.round(table, 2), axis=0, return_inverse=True)
    texts = np.array([template.format(*line) for line in different], dtype=object)
    reason[rows] = texts[places.reshape(-1)]


def _enough(p: float) -> int:
    """Samples a side from which the rank test can go below ``p``.

    >>> _enough(0.01), _enough(0.01 / 1000)
    (5, 11)
    """
    counts = np.arange(2, 200)
    return int(counts[np.argmax(least_p(counts, counts) < p)])
