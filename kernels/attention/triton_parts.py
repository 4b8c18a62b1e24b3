"""What the Triton attention kernels share: which program does which rows, which tiles of keys they see, a step of online softmax.

Also how the tiles are cut: head dims that are no power of two, and which heads run side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..triton_tools import inlined
from .case import AttentionCase

if TYPE_CHECKING:
    import triton.language as tl

SHARED_CACHE_BYTES = 16 * 2**20
"""Keys and values that running programs should find in the second-level cache: below half of what chips since A100 have (40 MB and more;
NVIDIA, "A100 Tensor Core GPU Architecture", 2020; "H100 Tensor Core GPU Architecture", 2022: 50 MB), for queries and outputs pass too."""

NARROWEST = 16
"""The smallest dimension of tl.dot."""


LARGEST_TILE = 128
"""Queries in the largest tile of a backward kernel."""


def padded(size: int) -> int:
    """The next power of two that tl.dot takes.

    >>> padded(64), padded(96), padded(5)
    (64, 128, 16)
    """
    return max(NARROWEST, 1 << (size - 1).bit_length())


def cut(head_dim: int) -> tuple[int, int]:
    """Two powers of two that cover the head and waste less than one would; 0: one is enough.

    >>> cut(128), cut(192), cut(576), cut(80), cut(120)
    ((128, 0), (128, 64), (512, 64), (64, 16), (128, 0))
    """
    whole = padded(head_dim)
    half = whole // 2
    rest = padded(head_dim - half) if head_dim > half else 0
    return (half, rest) if half >= NARROWEST and 0 < rest < half else (whole, 0)


def heads_together(case: AttentionCase, element_bytes: int) -> int:
    """How many query heads run side by side: as many as have their keys and values in the second-level cache together.

    The longest rows of all of them go first, so that short ones fill the gaps at the end. Without a causal mask all rows are alike, and
    one head after the other reads the fewest bytes.
    """
    if not case.causal:
        return 1
    one = case.seq_kv * (case.head_dim + case.dim_v) * element_bytes
    group = case.heads // case.kv_heads
    return min(case.batch * case.heads, max(1, SHARED_CACHE_BYTES // one) * group)


def lse_rows(case: AttentionCase) -> int:
    """Rows that each head has in the arrays of log-sum-exps: whole tiles of queries, so that reading them needs no mask."""
    return -(-case.seq_q // LARGEST_TILE) * LARGEST_TILE


@inlined
def place(program, ALL_HEADS, BLOCKS, TOGETHER):  # type: ignore[no-untyped-def]
    """Program -> its head and its block of rows: TOGETHER heads at a time, block by block, the last block first."""
    first = program // (TOGETHER * BLOCKS) * TOGETHER
    heads_here = min(TOGETHER, ALL_HEADS - first)
    within = program - first * BLOCKS
    return (first + within % heads_here).to(tl.int64), BLOCKS - 1 - within // heads_here


@inlined
def key_tiles(first_row, SEQ_KV, window, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):  # type: ignore[no-untyped-def]  # fmt: skip
    """Tiles of keys for BLOCK_M rows: [0, edge) whole, [edge, end) cut by diagonal or end; under a window all of [edge, end) are masked."""
    if CAUSAL:
        edge, end = first_row // BLOCK_N * BLOCK_N, min(SEQ_KV, first_row + BLOCK_M)
    else:
        edge, end = SEQ_KV // BLOCK_N * BLOCK_N, SEQ_KV
    if WINDOW:  # a loop of its own for the few whole tiles would only take registers
        edge = max(0, first_row - window + 1) // BLOCK_N * BLOCK_N
    return edge, end


@inlined
def query_tiles(first_key, SEQ_Q, window, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):  # type: ignore[no-untyped-def]  # fmt: skip
    """The queries that see any of BLOCK_N keys: from the start of a tile to the last of them."""
    low, end = 0, SEQ_Q
    if CAUSAL:
        low = first_key // BLOCK_M * BLOCK_M
    if WINDOW:
        end = min(SEQ_Q, first_key + BLOCK_N - 1 + window)
    return low, end


@inlined
def visible(rows, columns, SEQ_KV, window, CAUSAL: tl.constexpr, WINDOW: tl.constexpr):  # type: ignore[no-untyped-def]
    """Which rows see which columns. Shapes must broadcast: (M, 1) and (1, N), or the other way round."""
    if CAUSAL:  # no row of the matrix sees past its end
        seen = columns <= rows
    else:
        seen = columns < SEQ_KV
    if WINDOW:
        seen = seen & (columns > rows - window)
    return seen


@inlined
def soften(scores, top, weight_sum, scale, MAY_SEE_NOTHING: tl.constexpr):  # type: ignore[no-untyped-def]
    """A step of online softmax (Dao, arXiv 2307.08691, algorithm 1): weights, factor on what was summed before, new top, new sum.

    ``top`` is the largest score so far, in the units of exp2: ``scale`` includes log2(e).
    """
    new_top = tl.maximum(top, tl.max(scores, 1) * scale)
    base = new_top
    if MAY_SEE_NOTHING:  # -inf less -inf would be NaN
        base = tl.where(new_top == float("-inf"), 0.0, new_top)
    weights = tl.exp2(scores * scale - base[:, None])
    shrink = tl.exp2(top - base)
    return weights, shrink, new_top, weight_sum * shrink + tl.sum(weights, 1)
