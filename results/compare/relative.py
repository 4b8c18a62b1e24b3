"""Each pair against the others of its kind: a case that moved while the rest stood together was not moved by the machine.

Shifts that all rows of a run have in common are known from two or three runs a side only, and so badly that hardly any change of a single
row is certain beside them. What rows do apart from each other is known from as many rows as there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from .estimates import Floats

FEWEST_PAIRS = 20
"""With fewer pairs of a kind their own scatter is not known well enough, and their median may be one that changed."""
OF_NORMAL = 1.4826
"""Standard deviation over the median absolute deviation of normal values (Hampel, JASA 69, 1974)."""
EFFICIENCY = 0.37
"""Of the median absolute deviation for normal values: it tells a spread as so large a share of the values would by their variance."""
MOST_FREEDOM = 10.0
"""However many rows there are: cases do not all scatter alike, and a few scatter far."""


@dataclass(frozen=True)
class Relative:
    """Of each pair its own log ratio, less the median of its kind, half of its 95 % interval, and its p; NaN where a kind has few pairs."""

    log: Floats
    half: Floats
    p_value: Floats


def relative(log_ratio: Floats, within: Floats, rank_p: Floats, kind: NDArray[np.object_], counted: NDArray[np.bool_]) -> Relative:
    """``within``: variance of each log ratio by its samples; ``rank_p``: p of the rank test, which has to agree; ``counted``: pairs that
    can be compared and tell both. The scatter of a kind beyond what samples explain is taken from the pairs themselves, by their median
    absolute deviation, so that those that did change do not count (an empirical null: Efron, JASA 99, 2004)."""
    log, half, p_value = (np.full(len(kind), np.nan) for _ in range(3))
    for name in set(kind.tolist()):
        own = counted & (kind == name)
        pairs = int(own.sum())
        if pairs < FEWEST_PAIRS:
            continue
        log[own] = log_ratio[own] - np.median(log_ratio[own])
        scatter = (OF_NORMAL * np.median(np.abs(log[own]))) ** 2
        error = np.sqrt(within[own] + max(scatter - float(np.median(within[own])), 0.0))
        freedom = min(EFFICIENCY * pairs, MOST_FREEDOM)
        half[own] = stats.t.ppf(0.975, freedom) * error
        with np.errstate(divide="ignore", invalid="ignore"):
            by_size = np.where(log[own] == 0, 1.0, 2 * special.stdtr(freedom, -np.abs(log[own]) / error))
        p_value[own] = np.fmax(by_size, rank_p[own])
    return Relative(log, half, p_value)
