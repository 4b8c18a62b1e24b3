"""What the checks of memory-bound operations share: how a result may round, and the walk through large arrays in blocks.

Such operations compute in fp32 (fp64 for fp64) whatever they store, so a result is off by its last rounding to the dtype
(``UNIT_ROUNDOFF``) and by some roundings of the arithmetic (``arithmetic_roundoff``). Each check says how many and why.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..arrays import Array
from ..case import UNIT_ROUNDOFF

BLOCK_ELEMENTS = 2**23
"""Elements of one array held as float64 at a time: 64 MB, and a check holds some five."""

DEVIATIONS = 6.0
"""How many standard deviations a sum of random errors may be off: Hoeffding's inequality puts 2 exp(-18) = 3e-8 beyond them."""

UNDERFLOW: dict[str, float] = {"fp64": 2.0**-1022, "fp32": 2.0**-126, "bf16": 2.0**-126, "fp16": 2.0**-24}
"""What a tiny result may be off by: the smallest normal number, below which chips may flush to zero; fp16 is never flushed and keeps
its smallest subnormal (IEEE 754-2019, table 3.5)."""


def arithmetic_dtype(dtype: str) -> str:
    """fp64 computes in fp64, everything else in fp32."""
    return "fp64" if dtype == "fp64" else "fp32"


def arithmetic_roundoff(dtype: str) -> float:
    """Unit roundoff of what a kernel computes in; doubled for fp64, where the reference rounds as well."""
    return 2 * UNIT_ROUNDOFF["fp64"] if dtype == "fp64" else UNIT_ROUNDOFF["fp32"]


def sum_error(dtype: str, terms: int) -> float:
    """Relative error of a sum of ``terms`` numbers of one sign, in whatever order.

    At most n u (Higham, Accuracy and Stability, 2nd ed., section 4.2); with roundings of random sign below lambda sqrt(n) u but for a
    probability that falls as exp(-lambda^2 / 2) (Higham and Mary, "A new approach to probabilistic rounding error analysis",
    SIAM J. Sci. Comput. 41(5), 2019, theorem 2.4); lambda = 6.

    >>> sum_error("fp32", 1) == 2**-24
    True
    """
    return arithmetic_roundoff(dtype) * min(terms, DEVIATIONS * math.sqrt(terms))


def exponential_error(xp: Any, exponents: Array, dtype: str) -> Array:
    """Relative error of exp(z) as fast kernels compute it, 2^(z log2 e): 3 u |z| for z itself, log2 e and their product, and 8 u.

    z, a difference or a product, is rounded once and so is z log2 e; the constant is off by less than one u. An absolute error of the
    exponent is a relative one of the power. The hardware's 2^x is off by 2 ulp, 4 u (CUDA C++ Programming Guide, tables of intrinsic
    functions: exp2f 2 ulp, __expf 2 ulp + 1.16 |x|), the rest is for what follows it.
    """
    return arithmetic_roundoff(dtype) * (3 * xp.abs(exponents) + 8)


def blocks(rows: int, width: int = 1) -> Iterator[slice]:
    """Slices over the rows of an array, BLOCK_ELEMENTS or less in each (one row at least).

    >>> [(part.start, part.stop) for part in blocks(rows=5, width=2**22)]
    [(0, 2), (2, 4), (4, 5)]
    """
    step = max(1, BLOCK_ELEMENTS // width)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def farthest(xp: Any, found: Array, reference: Array, limit: Array) -> float:
    """The largest distance from the reference in units of the limit, which is above zero everywhere. NaN if any element is."""
    with np.errstate(invalid="ignore", over="ignore"):
        return float(xp.amax(xp.abs(found - reference) / limit))


def larger(a: float, b: float) -> float:
    """The larger of two errors; NaN if one is, which ``max`` would lose.

    >>> larger(float("nan"), 1.0), larger(0.5, 1.0)
    (nan, 1.0)
    """
    return float(np.maximum(a, b))
