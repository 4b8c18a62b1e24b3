"""How far a sum of rounded products may be from exact: what the checks of matmul and attention allow."""

from __future__ import annotations

import math

from .case import UNIT_ROUNDOFF

HALF_SMALLEST: dict[str, float] = {"fp16": 2.0**-25}
"""Half the smallest subnormal, for the one format where normal data comes near it."""


def accumulation_error(dtype: str, terms: int) -> float:
    """c such that a computed dot product of ``terms`` zero-mean random numbers is within c |x| |y| (2-norms) of the exact one.

    Whatever the data, |fl(x'y) - x'y| <= gamma_k |x|'|y| with gamma_k = k u / (1 - k u) (Higham, Accuracy and Stability of Numerical
    Algorithms, 2nd ed., section 3.1, eq. 3.5), and |x|'|y| <= |x| |y|. For random data of zero mean the partial sums themselves stay
    small and c need not grow with k (Higham and Mary, "Sharper probabilistic backward error analysis for basic linear algebra kernels
    with random data", SIAM J. Sci. Comput. 42(5), 2020): c = u min(k, 8), where a random walk has 0.4 u as its standard error.

    Tensor cores truncate instead of rounding (Fasi, Higham, Mikaitis and Pranesh, "Numerical behavior of NVIDIA tensor cores",
    PeerJ CS 7:e330, 2021): the error drifts with the number of instructions, k/16 to k/4. So c = u min(2 k, 8 + 2 sqrt(k)) for the
    dtypes they compute. u is that of the accumulator: fp32, or fp64 for fp64, doubled there because the reference rounds as well.

    >>> accumulation_error("fp32", 1) == 2**-24
    True
    """
    if dtype == "fp64":
        return 2 * UNIT_ROUNDOFF["fp64"] * min(terms, 8)
    if dtype == "fp32":
        return UNIT_ROUNDOFF["fp32"] * min(terms, 8)
    return UNIT_ROUNDOFF["fp32"] * min(2 * terms, 8 + 2 * math.sqrt(terms))
