"""Is C the product A B? Every element takes part, at O(n^2) cost and with little host memory.

Two tests in float64, for inputs that are independent with zero mean (as ``Arrays.normal`` makes them) and exact in their dtype:

1. *Random signs* (Freivalds, "Fast probabilistic algorithms", MFCS 1979). For each row i and each group J of GROUP columns,
   sum_{j in J} r_j (C_ij - (A B)_ij) with random signs r. All columns of a row at once would drown one wrong element of a
   bf16 product in the rounding of the others: hence the groups.
2. *Sampled rows*: some rows, the first and last among them, are compared element by element.

An element may be wrong by at most L_ij = c |a_i| |b_j| + u_out |C_ij| + s, with

* u_out: unit roundoff of the output (C is rounded once), s: half the smallest number of the output format;
* c: how far a sum of k products may be from exact, as a share of |a| |b|: see ``kernels/rounding.py``.

Integers must be exact.
By Hoeffding's inequality a signed sum of errors e_ij exceeds 4 |e_i| with probability below 2 exp(-8), even were each at its limit;
rounding errors are spread evenly below it, which makes 4 some ten standard deviations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..arrays import Array, Arrays
from ..case import UNIT_ROUNDOFF, Check
from ..rounding import HALF_SMALLEST, accumulation_error

GROUP = 256
"""Columns summed with random signs: one wrong element must stand out from the rounding of so many."""
SIGN_SUM_FACTOR = 4.0
SAMPLED_ROWS = 16
BLOCK_ELEMENTS = 2**22
"""Elements held as float64 at a time: 32 MB."""


def check_product(arrays: Arrays, a: Array, b: Array, c: Array, *, dtype: str, output_dtype: str, seed: int) -> Check:
    """Compare C (m x n) with A (m x k) B (k x n). The error is in units of the limit, so the limit is 1; integers: 0."""
    (m, k), n = a.shape, b.shape[1]
    rng = np.random.default_rng(seed)
    signs = rng.choice([-1.0, 1.0], size=n)
    starts = np.arange(0, n, GROUP)
    rows = np.unique(np.concatenate([[0, m - 1], rng.integers(0, m, SAMPLED_ROWS - 2)]))
    a_rows = np.concatenate([arrays.float64(a[row : row + 1]) for row in rows])

    reference = np.zeros((len(rows), n))
    b_signed = np.empty((k, len(starts)))
    b_squares = np.zeros(n)
    for part in blocks(k, n):
        b_part = arrays.float64(b[part])
        reference += a_rows[:, part] @ b_part
        b_squares += np.einsum("ij,ij->j", b_part, b_part)
        b_signed[part] = np.add.reduceat(b_part * signs, starts, axis=1)

    exact = dtype == "int8"
    sum_error = 0.0 if exact else accumulation_error(dtype, k)
    roundoff = 0.0 if exact else UNIT_ROUNDOFF[output_dtype]
    smallest = HALF_SMALLEST.get(output_dtype, 0.0)
    group_norms = np.sqrt(np.add.reduceat(b_squares, starts))
    worst = []
    with np.errstate(invalid="ignore", over="ignore"):
        for part in blocks(m, max(n, k)):
            a_part, c_part = arrays.float64(a[part]), arrays.float64(c[part])
            found = np.abs(np.add.reduceat(c_part * signs, starts, axis=1) - a_part @ b_signed)
            c_norms = np.sqrt(np.add.reduceat(c_part * c_part, starts, axis=1))
            limit = sum_error * norms(a_part)[:, None] * group_norms + roundoff * c_norms + smallest * math.sqrt(GROUP)
            worst.append(largest(found, limit * SIGN_SUM_FACTOR, exact))
        c_rows = np.concatenate([arrays.float64(c[row : row + 1]) for row in rows])
        limit = sum_error * norms(a_rows)[:, None] * np.sqrt(b_squares) + roundoff * np.abs(reference) + smallest
        worst.append(largest(np.abs(c_rows - reference), limit, exact))
    return Check(error=float(np.max(worst)), limit=0.0 if exact else 1.0)


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices over ``rows`` of at most BLOCK_ELEMENTS elements each (one row at least)."""
    step = max(1, BLOCK_ELEMENTS // columns)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def norms(rows: np.ndarray) -> np.ndarray:
    """Euclidean norm of each row."""
    return np.sqrt(np.einsum("ij,ij->i", rows, rows))


def largest(found: np.ndarray, limit: np.ndarray, exact: bool) -> float:
    """The largest error in units of its limit (exact: as it is). NaN where anything is NaN; 0 errors are 0 even where nothing may be."""
    if exact:
        return float(np.max(found))
    with np.errstate(divide="ignore"):
        return float(np.max(np.divide(found, limit, out=np.zeros_like(found), where=found != 0)))
