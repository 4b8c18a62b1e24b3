"""Softmax in Triton: rows held in registers, wide ones gone over twice with a running maximum. Run on an H200.

The running maximum and sum are those of Milakov and Gimelshein, "Online normalizer calculation for softmax" (arXiv 1805.02867).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..arrays import Array, Arrays
from ..kernel import Call, kernel
from ..memory.refusing import not_triton
from ..memory.triton_rows import looped_layouts, whole_layouts
from ..memory.triton_stream import choose, launch_options, size_class
from ..triton_tools import jit, launcher, named
from .case import SoftmaxCase

if TYPE_CHECKING:
    import triton.language as tl

WIDEST_WHOLE = 16384
"""Rows up to here may be held whole: 512 threads with 32 elements each."""
LOOPED_FIRST = 8192
"""Wider rows are looped over unless the tuner finds otherwise."""


@jit
def softmax_rows(x, y, rows, width, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """ROWS whole rows of y = softmax(x)."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    inside = (row < rows) & (column < width)
    places = row * width + column
    values = tl.load(x + places, mask=inside, other=float("-inf"), eviction_policy="evict_first").to(tl.float32)
    values = tl.where(row < rows, values, 0.0)  # rows that are not there: no -inf - -inf
    powers = tl.exp(values - tl.max(values, 1, keep_dims=True))
    out = powers / tl.sum(powers, 1, keep_dims=True)
    tl.store(y + places, out.to(y.dtype.element_ty), mask=inside, cache_modifier=".cs")


@jit
def softmax_wide(x, y, rows, width, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """One row in pieces of BLOCK: maximum and sum first, then the result.

    The maximum is one number for all lanes, so that each element costs one exponential; the sums stay apart until the end.
    """
    row, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    x, y = x + row * width, y + row * width
    top = float("-inf")
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, width, BLOCK):
        column = start + lane
        values = tl.load(x + column, mask=column < width, other=float("-inf"), eviction_policy="evict_last").to(tl.float32)
        new_top = tl.maximum(top, tl.max(values, 0))
        total = total * tl.exp(top - new_top) + tl.exp(values - new_top)
        top = new_top
    factor = 1.0 / tl.sum(total, 0)
    for start in range(0, width, BLOCK):
        column = start + lane
        values = tl.load(x + column, mask=column < width, other=0.0, eviction_policy="evict_first").to(tl.float32)
        out = tl.exp(values - top) * factor
        tl.store(y + column, out.to(y.dtype.element_ty), mask=column < width, cache_modifier=".cs")


def layouts(rows: int, width: int) -> list[dict[str, int]]:
    """What the tuner tries."""
    whole, looped = whole_layouts(rows, width, WIDEST_WHOLE), looped_layouts(width)
    return looped + whole if width > LOOPED_FIRST else whole + looped


@kernel("softmax", "triton", "triton.softmax", not_triton)
def softmax(case: SoftmaxCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    (x,) = inputs

    def launch(config: dict[str, int], y: Array) -> None:
        body = softmax_rows if config["BLOCK"] >= case.width else softmax_wide
        body()[(-(-case.rows // config["ROWS"]),)](x, y, case.rows, case.width, **launch_options(config))

    key: dict[str, str | int | bool] = {"dtype": case.dtype, "rows": size_class(case.rows), "width": case.width}
    config = choose("triton.softmax", key, layouts(case.rows, case.width), output, launch)
    return named(launcher(lambda y: launch(config, y), output), config)
