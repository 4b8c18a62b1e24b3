"""Is C the product A B? Computed in float64 on the device, block by block; every element takes part.

Products of at most WHOLE_FLOPS are computed again whole and compared element by element. For larger ones, and for fp64, whose reference
may be made by the very routine that is checked, two tests at O(n^2) cost, for inputs that are independent with zero mean (as
``Arrays.normal`` makes them) and exact in their dtype:

1. *Random signs* (Freivalds, "Fast probabilistic algorithms", MFCS 1979). For each row i and each group J of GROUP columns,
   sum_{j in J} r_j (C_ij - (A B)_ij) with random signs r. All columns of a row at once would drown one wrong element of a
   bf16 product in the rounding of the others: hence the groups.
2. *Sampled rows*: some rows, the first and last among them, are compared element by element.

An element may be wrong by at most L_ij = c |a_i| |b_j| + u_out |C_ij| + s, with

* u_out: unit roundoff of the output (C is rounded once; with scales the fp32 sum is multiplied by two numbers before: 2 u_fp32 more);
  s: half the smallest number of the output format;
* c: how far a sum of k products may be from exact, as a share of |a| |b|: see ``kernels/rounding.py``.

Integers must be exact.
By Hoeffding's inequality a signed sum of errors e_ij exceeds 4 |e_i| with probability below 2 exp(-8), even were each at its limit;
rounding errors are spread evenly below it, which makes 4 some ten standard deviations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arrays import Array, Arrays
from ..case import UNIT_ROUNDOFF, Check
from ..rounding import HALF_SMALLEST, accumulation_error

WHOLE_FLOPS = 2.0**33
"""Some 30 ms on a chip that is slow in fp64 (T4: 0.25 TFLOP/s, 1/32 of its 8.1 in fp32), a fraction of a second on a few CPU cores."""
GROUP = 256
"""Columns summed with random signs: one wrong element must stand out from the rounding of so many."""
SIGN_SUM_FACTOR = 4.0
SAMPLED_ROWS = 16
BLOCK_ELEMENTS = 2**23
"""Elements of one array held as float64 at a time: 64 MB."""

ALL = slice(None)


@dataclass(frozen=True)
class Allowed:
    """What an element may be wrong by: ``sums`` |a| |b| + ``output`` |C| + ``smallest``."""

    sums: float
    output: float
    smallest: float
    exact: bool = False
    sampled_too: bool = False
    """Small products too need the tests of the large ones."""

    @classmethod
    def of(cls, dtype: str, output_dtype: str, terms: int, *, scaled: bool = False, fast: bool = False) -> Allowed:
        """For sums of this many products; ``fast``: see ``accumulation_error``."""
        if dtype == "int8":
            return cls(0.0, 0.0, 0.0, exact=True)
        rounding = UNIT_ROUNDOFF[output_dtype] + (2 * UNIT_ROUNDOFF["fp32"] if scaled else 0.0)
        sums = accumulation_error(dtype, terms, fast)
        return cls(sums, rounding, HALF_SMALLEST.get(output_dtype, 0.0), sampled_too=dtype == "fp64")


@dataclass(frozen=True)
class Operand:
    """A stack of matrices (groups, rows, columns) and a scale that is multiplied in: per tensor (1,), row (rows, 1) or column."""

    arrays: Arrays
    stack: Array
    scale: Array | None = None

    def wide(self, groups: slice, rows: slice = ALL, columns: slice = ALL) -> Array:
        """A block in float64, scaled."""
        block = self.arrays.wide(self.stack[groups, rows, columns])
        if self.scale is None:
            return block
        scale = self.scale if len(self.scale.shape) == 2 else self.scale.reshape(1, 1)
        here = tuple(ALL if size == 1 else part for size, part in zip(scale.shape, (rows, columns), strict=True))
        return block * self.arrays.wide(scale[here])

    def wide_rows(self, groups: slice, rows: Sequence[int]) -> Array:
        """Some rows in float64, scaled. Not by a list as index, which libraries lack for fp8."""
        return self.arrays.xp.concatenate([self.wide(groups, slice(row, row + 1)) for row in rows], axis=1)


Factors = tuple[Operand, Operand, Operand]
"""Stacks of A, B and C: (groups, m, k), (groups, k, n) and (groups, m, n)."""


def check_product(
    arrays: Arrays, a: Array, b: Array, c: Array, allowed: Allowed, seed: int, scales: tuple[Array, Array] | None = None
) -> Check:
    """Compare C (m x n) with A (m x k) B (k x n). The error is in units of the limit, so the limit is 1; integers: 0."""
    scale_a, scale_b = scales or (None, None)
    factors = Operand(arrays, a[None], scale_a), Operand(arrays, b[None], scale_b), Operand(arrays, c[None])
    return check_products(arrays, [factors], allowed, seed)


def check_products(arrays: Arrays, stacks: Sequence[Factors], allowed: Allowed, seed: int) -> Check:
    """Compare each matrix of each stack. The same tests for all of them: whole if all together are small enough."""
    whole = sum(flops(a, b) for a, b, _ in stacks) <= WHOLE_FLOPS
    rng = np.random.default_rng(seed)
    errors: list[Array] = []
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        for factors in stacks:
            for groups in bunches(factors):
                if whole:
                    errors += whole_errors(arrays, factors, groups, allowed)
                if not whole or allowed.sampled_too:
                    errors += sampled_errors(arrays, factors, groups, allowed, rng)
        worst = float(arrays.xp.amax(arrays.xp.stack(errors)))
    return Check(error=worst, limit=0.0 if allowed.exact else 1.0)


def whole_errors(arrays: Arrays, factors: Factors, groups: slice, allowed: Allowed) -> Iterator[Array]:
    """The largest error of each block, every element compared with its own reference."""
    a, b, c = factors
    (_, m, k), n = a.stack.shape, b.stack.shape[2]
    count = groups.stop - groups.start
    for columns in blocks(n, k * count):
        b_part = b.wide(groups, ALL, columns)
        b_norms = norms(b_part, axis=1)
        for rows in blocks(m, max(k, columns.stop - columns.start) * count):
            a_part = a.wide(groups, rows)
            yield element_errors(arrays.xp, c.wide(groups, rows, columns), a_part @ b_part, norms(a_part, axis=2), b_norms, allowed)


def sampled_errors(arrays: Arrays, factors: Factors, groups: slice, allowed: Allowed, rng: np.random.Generator) -> Iterator[Array]:
    """The largest errors of signed sums over all rows and groups of columns, and of the elements of some rows."""
    xp = arrays.xp
    a, b, c = factors
    (_, m, k), n = a.stack.shape, b.stack.shape[2]
    count = groups.stop - groups.start
    signs = arrays.from_host(rng.choice([-1.0, 1.0], size=n))
    sampled = sorted({0, m - 1, *(int(row) for row in rng.integers(0, m, SAMPLED_ROWS - 2))})
    a_rows = a.wide_rows(groups, sampled)

    reference, b_squares, b_signed = 0.0, 0.0, []
    for part in blocks(k, n * count):
        b_part = b.wide(groups, part)
        reference = reference + a_rows[:, :, part] @ b_part
        b_squares = b_squares + (b_part * b_part).sum(1)
        b_signed.append(group_sums(xp, b_part * signs))
    signed_b = xp.concatenate(b_signed, axis=1)
    group_norms = xp.sqrt(group_sums(xp, b_squares))[:, None, :]

    for part in blocks(m, max(n, k) * count):
        a_part, c_part = a.wide(groups, part), c.wide(groups, part)
        found = xp.abs(group_sums(xp, c_part * signs) - a_part @ signed_b)
        c_norms = xp.sqrt(group_sums(xp, c_part * c_part))
        limit = allowed.sums * norms(a_part, axis=2)[:, :, None] * group_norms + allowed.output * c_norms
        yield largest(xp, found, (limit + allowed.smallest * math.sqrt(GROUP)) * SIGN_SUM_FACTOR, allowed.exact)
    yield element_errors(xp, c.wide_rows(groups, sampled), reference, norms(a_rows, axis=2), xp.sqrt(b_squares), allowed)


def element_errors(xp: Any, found: Array, reference: Array, a_norms: Array, b_norms: Array, allowed: Allowed) -> Array:
    """The largest error of an element; norms of the rows of A (groups, rows) and of the columns of B (groups, columns)."""
    limit = allowed.sums * a_norms[:, :, None] * b_norms[:, None, :] + allowed.output * xp.abs(reference) + allowed.smallest
    return largest(xp, xp.abs(found - reference), limit, allowed.exact)


def flops(a: Operand, b: Operand) -> float:
    """Of all products of the stack."""
    return 2.0 * math.prod(a.stack.shape) * b.stack.shape[2]


def bunches(factors: Factors) -> Iterator[slice]:
    """Slices over the matrices of a stack: many small ones together, large ones alone."""
    groups = factors[0].stack.shape[0]
    return blocks(groups, max(math.prod(operand.stack.shape) // groups for operand in factors))


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices over ``rows`` of at most BLOCK_ELEMENTS elements each (one row at least)."""
    step = max(1, BLOCK_ELEMENTS // columns)
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def group_sums(xp: Any, values: Array) -> Array:
    """Sums over each GROUP of the last axis, the last of them over what is left."""
    whole = values.shape[-1] // GROUP * GROUP
    sums = values[..., :whole].reshape(*values.shape[:-1], whole // GROUP, GROUP).sum(-1)
    if whole == values.shape[-1]:
        return sums
    return xp.concatenate([sums, values[..., whole:].sum(-1)[..., None]], axis=-1)


def norms(values: Array, axis: int) -> Array:
    """Euclidean norms along one axis."""
    return (values * values).sum(axis) ** 0.5


def largest(xp: Any, found: Array, limit: Array, exact: bool) -> Array:
    """The largest error in units of its limit (exact: as it is). NaN where anything is NaN; 0 errors are 0 even where nothing may be."""
    return xp.amax(found if exact else xp.where(found == 0, 0.0, found / limit))
