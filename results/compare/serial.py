"""Neighbouring samples are alike: how much less a row's samples tell than as many independent ones would.

A clock, a cache and a neighbour stay as they are for longer than a call. In chipassay's run on a CPU that is shipped, neighbouring samples
of one visit have a correlation of 0.2 to 0.5 for most operations. Tests that take them for independent then find a difference between two
halves of the same visit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from .estimates import Floats, Ints

PRIOR_SAMPLES = 100
"""Samples that the typical row of its kind is worth beside a row's own: 30 samples tell their correlation to 0.2 only. By simulation (50
rows of 30 samples, correlation 0.5): 0.3 % of comparisons have a false alarm; with 32 it is 1.3 %, with no correction 58 %."""
MOST_ALIKE = 0.6
"""Mean product of neighbouring signs of a series whose neighbours correlate by 0.8. What is above is a trend: it need not go on beyond
what is seen of it, and blocks (``estimates.log_medians``) see it."""
FAR_FREEDOM = 4.0
"""Degrees of freedom for a change many times what samples and their drift explain: few, for the error itself is known from few samples."""


def serial_factors(alike: Floats, counts: Ints, kind: NDArray[np.object_]) -> tuple[Floats, Floats]:
    """By what to multiply, for each row, the variance of its median, and that of its ranks: 1 where samples are independent.

    ``alike``: mean product of neighbouring signs (``estimates.log_medians``; NaN: too few samples, then the kind's is taken). ``kind``: of
    each row, empty for rows that do not count. For a normal series of which neighbours correlate by r, signs correlate by 2 / pi asin(r)
    (Kedem, Proceedings of the IEEE 74, 1986), and further ones by r a step less. A sum's variance grows by 1 + 2 times the sum of all those
    (Law and Kelton, Simulation Modeling and Analysis, section 4.4): of signs for a median (Gastwirth and Rubin, Annals of Statistics 3,
    1975), of the values for ranks. Samples that alternate are taken for independent.
    """
    signs = np.zeros(len(alike))
    for name in set(kind.tolist()) - {""}:
        own = kind == name
        known = own & ~np.isnan(alike)
        if known.any():
            weight = np.where(known, counts, 0)[own]
            signs[own] = (weight * np.nan_to_num(alike[own]) + PRIOR_SAMPLES * np.median(alike[known])) / (weight + PRIOR_SAMPLES)
    signs = np.clip(signs, 0.0, MOST_ALIKE)
    neighbours = np.sin(np.pi / 2 * signs)
    return 1 + 2 * signs / (1 - neighbours), (1 + neighbours) / (1 - neighbours)


def less_certain(p: Floats, factor: Floats) -> Floats:
    """Two-sided p of a test whose statistic has ``factor`` times the variance that the test takes it to have.

    >>> less_certain(np.array([0.0455, 0.0455]), np.array([1.0, 4.0])).round(2)
    array([0.05, 0.32])
    """
    return np.asarray(2 * special.ndtr(special.ndtri(p / 2) / np.sqrt(factor)))
