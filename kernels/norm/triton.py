"""RMSNorm and LayerNorm forward in Triton: rows held in registers, wide ones gone over twice. Run on an H200."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..arrays import Array, Arrays, Output
from ..kernel import Call, kernel
from ..memory.refusing import not_triton
from ..memory.triton_rows import looped_layouts, whole_layouts
from ..memory.triton_stream import choose, launch_options, size_class
from ..triton_tools import jit, launcher, named
from .case import EPSILON, LayerNormCase, RmsNormCase
from .triton_backward import backward

if TYPE_CHECKING:
    import triton.language as tl

WIDEST_WHOLE = 16384
"""Rows up to here may be held whole: 512 threads with 32 elements each."""
LOOPED_FIRST = 8192
"""Wider rows are looped over unless the tuner finds otherwise."""


@jit
def norm_rows(  # type: ignore[no-untyped-def]
    x, w, b, y, rows, width, epsilon, CENTRED: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    """ROWS whole rows: y = d / sqrt(mean(d^2) + epsilon) w (+ b), d = x or x - mean(x)."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    inside = (row < rows) & (column < width)
    places = row * width + column
    d = tl.load(x + places, mask=inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
    weight = tl.load(w + column, mask=column < width, other=0.0).to(tl.float32)
    if CENTRED:
        bias = tl.load(b + column, mask=column < width, other=0.0).to(tl.float32)
        d = tl.where(inside, d - tl.sum(d, 1, keep_dims=True) / width, 0.0)
    out = d * tl.rsqrt(tl.sum(d * d, 1, keep_dims=True) / width + epsilon) * weight
    if CENTRED:
        out += bias
    tl.store(y + places, out.to(y.dtype.element_ty), mask=inside, cache_modifier=".cs")


@jit
def norm_wide(  # type: ignore[no-untyped-def]
    x, w, b, y, rows, width, epsilon, CENTRED: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    """One row in pieces of BLOCK: sums first, then the result.

    The variance comes from differences to the row's first element: sums of squares of x itself would cancel where the mean is large.
    """
    row = tl.program_id(0).to(tl.int64)
    x, y, lane = x + row * width, y + row * width, tl.arange(0, BLOCK)
    shift = 0.0
    if CENTRED:
        shift = tl.load(x).to(tl.float32)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    squares = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, width, BLOCK):
        column = start + lane
        d = tl.load(x + column, mask=column < width, other=0.0, eviction_policy="evict_last").to(tl.float32)
        if CENTRED:
            d = tl.where(column < width, d - shift, 0.0)
            total += d
        squares += d * d
    mean = tl.sum(total, 0) / width
    square = tl.sum(squares, 0) / width - mean * mean
    root = tl.rsqrt(tl.maximum(square, 0.0) + epsilon)
    for start in range(0, width, BLOCK):
        column = start + lane
        d = tl.load(x + column, mask=column < width, other=0.0, eviction_policy="evict_first").to(tl.float32)
        weight = tl.load(w + column, mask=column < width, other=0.0).to(tl.float32)
        if CENTRED:
            d = d - shift - mean
        out = d * root * weight
        if CENTRED:
            out += tl.load(b + column, mask=column < width, other=0.0).to(tl.float32)
        tl.store(y + column, out.to(y.dtype.element_ty), mask=column < width, cache_modifier=".cs")


def forward_layouts(rows: int, width: int) -> list[dict[str, int]]:
    """What the tuner tries."""
    whole, looped = whole_layouts(rows, width, WIDEST_WHOLE), looped_layouts(width)
    return looped + whole if width > LOOPED_FIRST else whole + looped


def _forward(name: str, case: Any, inputs: tuple[Array, ...], output: Array, centred: bool) -> Call:
    x, w = inputs[:2]
    b = inputs[2] if centred else w  # never read

    def launch(config: dict[str, int], y: Array) -> None:
        body = norm_rows if config["BLOCK"] >= case.width else norm_wide
        fixed = {"CENTRED": centred, **launch_options(config)}
        body()[(-(-case.rows // config["ROWS"]),)](x, w, b, y, case.rows, case.width, EPSILON, **fixed)

    key: dict[str, str | int | bool] = {"dtype": case.dtype, "rows": size_class(case.rows), "width": case.width}
    config = choose(name, key, forward_layouts(case.rows, case.width), output, launch)
    return named(launcher(lambda y: launch(config, y), output), config)


@kernel("rms_norm", "triton", "triton.rms_norm", not_triton)
def rms_norm(case: RmsNormCase, arrays: Arrays, inputs: tuple[Array, ...], output: Output) -> Call:
    run = backward if case.backward else _forward
    return run("triton.rms_norm", case, inputs, output, centred=False)


@kernel("layer_norm", "triton", "triton.layer_norm", not_triton)
def layer_norm(case: LayerNormCase, arrays: Arrays, inputs: tuple[Array, ...], output: Output) -> Call:
    run = backward if case.backward else _forward
    return run("triton.layer_norm", case, inputs, output, centred=True)
