"""Gradients of RMSNorm and LayerNorm in Triton. Run on an H200.

Rows that fit: a few programs a multiprocessor each go over many rows, write their dx and keep their share of dw and db in registers; a
second, small kernel adds the shares. So x and dy are read once. Wide rows: dx row by row in pieces, then dw and db column by column,
which reads x and dy once more.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from ..arrays import Array, Output
from ..kernel import Call
from ..memory.triton_rows import looped_layouts, next_power, whole_layouts
from ..memory.triton_stream import choose, launch_options, size_class
from ..triton_tools import jit, launcher, multiprocessors, named

if TYPE_CHECKING:
    import triton.language as tl

WIDEST_WHOLE = 8192
"""Rows up to here: x, dy and the shares of dw and db are 4 times 16 elements for each of 512 threads, half of their registers."""
PROGRAMS_PER_CORE = (2, 4, 1)
STAGES = (1, 2)
"""Groups of rows under way at a time: with 2 the next rows are loaded while these are computed."""
COLUMNS = {"ROWS": 16, "BLOCK": 128, "num_warps": 4}
"""The layout of the column kernel: 256 bytes of each of 16 rows."""
ROW_CHUNK = 512
"""Most rows of a share of dw where columns are summed."""


@jit
def gradient_rows(  # type: ignore[no-untyped-def]
    x, w, dy, dx, shares, rows, width, epsilon, CENTRED: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr
):
    """dx of every num_programs-th group of ROWS whole rows; shares[0, program] = their part of dw, shares[1, program] of db."""
    program, programs = tl.program_id(0), tl.num_programs(0)
    column = tl.arange(0, BLOCK)[None, :]
    weight = tl.load(w + column, mask=column < width, other=0.0).to(tl.float32)
    dw = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
    db = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
    for group in tl.range(program, tl.cdiv(rows, ROWS), programs, num_stages=STAGES):
        row = tl.cast(group, tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
        inside = (row < rows) & (column < width)
        places = row * width + column
        n = tl.load(x + places, mask=inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
        upstream = tl.load(dy + places, mask=inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
        if CENTRED:
            n = tl.where(inside, n - tl.sum(n, 1, keep_dims=True) / width, 0.0)
        root = tl.rsqrt(tl.sum(n * n, 1, keep_dims=True) / width + epsilon)
        n = n * root
        g = upstream * weight
        out = g - n * (tl.sum(g * n, 1, keep_dims=True) / width)
        if CENTRED:
            out -= tl.sum(g, 1, keep_dims=True) / width
            db += upstream
        tl.store(dx + places, (out * root).to(dx.dtype.element_ty), mask=inside, cache_modifier=".cs")
        dw += upstream * n
    lane = tl.arange(0, BLOCK)
    tl.store(shares + program * width + lane, tl.sum(dw, 0), mask=lane < width)
    if CENTRED:
        tl.store(shares + (programs + program) * width + lane, tl.sum(db, 0), mask=lane < width)


@jit
def gradient_wide(  # type: ignore[no-untyped-def]
    x, w, dy, dx, statistics, rows, width, epsilon, CENTRED: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    """dx of one row in pieces of BLOCK; statistics[0, row] = mean, statistics[1, row] = 1 / sqrt(variance + epsilon)."""
    row, lane = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    x, dy, dx = x + row * width, dy + row * width, dx + row * width
    shift = 0.0
    if CENTRED:
        shift = tl.load(x).to(tl.float32)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    squares = tl.zeros((BLOCK,), dtype=tl.float32)
    g_total = tl.zeros((BLOCK,), dtype=tl.float32)
    g_d = tl.zeros((BLOCK,), dtype=tl.float32)
    for start in range(0, width, BLOCK):
        column = start + lane
        d = tl.load(x + column, mask=column < width, other=0.0, eviction_policy="evict_last").to(tl.float32)
        g = tl.load(dy + column, mask=column < width, other=0.0, eviction_policy="evict_last").to(tl.float32)
        g = g * tl.load(w + column, mask=column < width, other=0.0).to(tl.float32)
        if CENTRED:
            d = tl.where(column < width, d - shift, 0.0)
            total += d
            g_total += g
        squares += d * d
        g_d += g * d
    mean = tl.sum(total, 0) / width
    g_mean = tl.sum(g_total, 0) / width
    root = tl.rsqrt(tl.maximum(tl.sum(squares, 0) / width - mean * mean, 0.0) + epsilon)
    along = (tl.sum(g_d, 0) / width - mean * g_mean) * root
    tl.store(statistics + row, mean + shift)
    tl.store(statistics + rows + row, root)
    for start in range(0, width, BLOCK):
        column = start + lane
        d = tl.load(x + column, mask=column < width, other=0.0).to(tl.float32)
        g = tl.load(dy + column, mask=column < width, other=0.0).to(tl.float32)
        g = g * tl.load(w + column, mask=column < width, other=0.0).to(tl.float32)
        out = (g - g_mean - (d - shift - mean) * root * along) * root
        tl.store(dx + column, out.to(dx.dtype.element_ty), mask=column < width, cache_modifier=".cs")


@jit
def gradient_columns(  # type: ignore[no-untyped-def]
    x, dy, statistics, shares, rows, width, chunk, CENTRED: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):
    """BLOCK columns of dw and db over ``chunk`` rows: a share like those of gradient_rows."""
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)[None, :]
    part, parts = tl.program_id(1), tl.num_programs(1)
    dw = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
    db = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
    for start in range(0, chunk, ROWS):
        row = tl.cast(part, tl.int64) * chunk + start + tl.arange(0, ROWS)[:, None]
        inside = (row < rows) & (column < width)
        d = tl.load(x + row * width + column, mask=inside, other=0.0).to(tl.float32)
        upstream = tl.load(dy + row * width + column, mask=inside, other=0.0).to(tl.float32)
        root = tl.load(statistics + rows + row, mask=row < rows, other=0.0)
        if CENTRED:
            d = d - tl.load(statistics + row, mask=row < rows, other=0.0)
            db += upstream
        dw += upstream * (d * root)
    lane = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(shares + part * width + lane, tl.sum(dw, 0), mask=lane < width)
    if CENTRED:
        tl.store(shares + (parts + part) * width + lane, tl.sum(db, 0), mask=lane < width)


@jit
def add_shares(shares, dw, db, count, width, ROWS: tl.constexpr, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """dw = sum over shares[0], and of the second row of the grid db = sum over shares[1]."""
    lane, which = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.program_id(1)
    shares += which * count * width
    total = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
    for start in range(0, count, ROWS):
        row = start + tl.arange(0, ROWS)[:, None]
        total += tl.load(shares + row * width + lane[None, :], mask=(row < count) & (lane[None, :] < width), other=0.0)
    out = tl.sum(total, 0)
    if which == 0:
        tl.store(dw + lane, out.to(dw.dtype.element_ty), mask=lane < width)
    else:
        tl.store(db + lane, out.to(db.dtype.element_ty), mask=lane < width)


ADDING = {"ROWS": 64, "BLOCK": 32, "num_warps": 4}
"""128 bytes of 64 shares at a time: as many programs as possible, for there is little to read."""


def backward_layouts(rows: int, width: int) -> list[dict[str, int]]:
    """What the tuner tries."""
    whole = whole_layouts(rows, width, WIDEST_WHOLE, per_thread=(16, 8))
    if not whole:
        return looped_layouts(width)
    choices = itertools.product(PROGRAMS_PER_CORE, STAGES, whole)
    return [{**layout, "PROGRAMS_PER_CORE": programs, "STAGES": stages} for programs, stages, layout in choices]


def backward(name: str, case: Any, inputs: tuple[Array, ...], output: Output, centred: bool) -> Call:
    """A tuned call that writes dx, dw (and db)."""
    import torch

    from .case import EPSILON

    x, w, dy = inputs
    rows, width, count = case.rows, case.width, multiprocessors(x)
    scratch: dict[str, Array] = {}

    def held(which: str, elements: int) -> Array:
        """Memory for shares and statistics, kept between calls."""
        if which not in scratch or scratch[which].numel() < elements:
            scratch[which] = torch.empty(elements, dtype=torch.float32, device=x.device)
        return scratch[which]

    def launch(config: dict[str, int], dx: Array, dw: Array, *db: Array) -> None:
        layout = {k: v for k, v in config.items() if k != "PROGRAMS_PER_CORE"}
        fixed = {"CENTRED": centred, **launch_options(layout)}
        if config["BLOCK"] >= width:
            parts = min(-(-rows // config["ROWS"]), count * config["PROGRAMS_PER_CORE"])
            shares = held("shares", 2 * parts * width)
            gradient_rows()[(parts,)](x, w, dy, dx, shares, rows, width, EPSILON, **fixed)
        else:
            chunk = min(ROW_CHUNK, next_power(max(rows, COLUMNS["ROWS"])))
            parts = -(-rows // chunk)
            shares, statistics = held("shares", 2 * parts * width), held("statistics", 2 * rows)
            gradient_wide()[(rows,)](x, w, dy, dx, statistics, rows, width, EPSILON, **fixed)
            grid = (-(-width // COLUMNS["BLOCK"]), parts)
            columns = {"CENTRED": centred, **launch_options(COLUMNS)}
            gradient_columns()[grid](x, dy, statistics, shares, rows, width, chunk, **columns)
        grid = (-(-width // ADDING["BLOCK"]), 2 if centred else 1)
        add_shares()[grid](shares, dw, db[0] if db else dw, parts, width, **launch_options(ADDING))

    key: dict[str, str | int | bool] = {"dtype": case.dtype, "rows": size_class(rows), "width": width}
    config = choose(f"{name}.backward", key, backward_layouts(rows, width), output, launch)
    return named(launcher(lambda outputs: launch(config, *outputs), output), config)
