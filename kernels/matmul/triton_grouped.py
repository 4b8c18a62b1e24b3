"""Grouped matmul (mixture of experts) in Triton: persistent programs share the tiles of all experts, whose sizes only the device knows.

Each program adds up how many tiles the experts before each other have, all at once in a vector, and so finds the expert of any tile without
walking through the list: with hundreds of experts a walk would take longer than a tile. Experts without rows have no tiles. Tiles run over
the columns of one expert's block of rows first, so that its weight is read once by neighbours in time. Run on an H200.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from ..triton_tools import bound_launcher, constants, jit, launch_options, named
from ..tuning import tuned
from .grouped_case import GroupedMatmulCase
from .triton_common import Operands, fixed, key_of, multiply, tile_place, wide_offsets, zeros
from .triton_common import refuses as refuses_case
from .triton_configs import grouped_configs
from .triton_cost import Machine, grouped_cost

if TYPE_CHECKING:
    import triton.language as tl

MOST_EXPERTS = 4096
"""A program holds all ends in registers: 32 in each of its 128 threads."""


@jit
def grouped(  # type: ignore[no-untyped-def]
    a, b, c, ends, N, K, EXPERTS, stride_am, stride_ak, stride_bk, stride_bn, stride_be,
    PRECISION: tl.constexpr, SUM: tl.constexpr, GROUP: tl.constexpr, EVEN_N: tl.constexpr, EVEN_K: tl.constexpr, WIDE: tl.constexpr,
    PROGRAMS: tl.constexpr, SLOTS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, IMPRECISE: tl.constexpr,
):  # fmt: skip
    """Every PROGRAMS-th tile of C. The rows of expert e end before ``ends[e]``; SLOTS is EXPERTS up to a power of two."""
    slot = tl.arange(0, SLOTS)
    last = tl.load(ends + slot, mask=slot < EXPERTS, other=0)
    first = tl.load(ends + slot - 1, mask=(slot > 0) & (slot < EXPERTS), other=0)
    tiles_n = tl.cdiv(N, BLOCK_N)
    tiles = tl.where(slot < EXPERTS, (last - first + BLOCK_M - 1) // BLOCK_M * tiles_n, 0)
    tiles_end = tl.cumsum(tiles, 0)

    for tile in range(tl.program_id(0), tl.sum(tiles, 0), PROGRAMS):
        expert = tl.sum((tiles_end <= tile).to(tl.int32), 0)
        mine = slot == expert
        rows_first = tl.sum(tl.where(mine, first, 0), 0)
        rows = tl.sum(tl.where(mine, last, 0), 0) - rows_first
        row, column = tile_place(tile - tl.sum(tl.where(mine, tiles_end - tiles, 0), 0), tl.cdiv(rows, BLOCK_M), tiles_n, GROUP)

        m, n, k = row * BLOCK_M + tl.arange(0, BLOCK_M), column * BLOCK_N + tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_K)
        m_loaded, n_loaded = m % rows, n  # past the edge the rows start over: loaded, computed, never stored
        if not EVEN_N:
            n_loaded = n % N
        if WIDE:
            m_loaded, n_loaded, k = m_loaded.to(tl.int64), n_loaded.to(tl.int64), k.to(tl.int64)
        a_tile = a + rows_first.to(tl.int64) * stride_am + (m_loaded[:, None] * stride_am + k[None, :] * stride_ak)
        b_tile = b + expert.to(tl.int64) * stride_be + (k[:, None] * stride_bk + n_loaded[None, :] * stride_bn)
        total = zeros(BLOCK_M, BLOCK_N, SUM)
        total = multiply(total, a_tile, b_tile, 0, K, stride_ak, stride_bk, EVEN_K, PRECISION, IMPRECISE, BLOCK_K)
        place = c + rows_first.to(tl.int64) * N + (m.to(tl.int64)[:, None] * N + n[None, :])
        tl.store(place, total.to(c.dtype.element_ty), mask=(m < rows)[:, None] & (n < N)[None, :])


def refuses(case: GroupedMatmulCase, target: Target) -> str | None:
    if case.groups > MOST_EXPERTS:
        return f"a program holds the ends of at most {MOST_EXPERTS} experts, not {case.groups}"
    return refuses_case(case, target)


def launch_of(
    case: GroupedMatmulCase, operands: Operands, ends: Array, config: Mapping[str, int], programs: int, out: Array
) -> Callable[[], Any]:
    """The launch with this configuration."""
    a, b = operands.a, operands.b
    arguments = (a, b, out, ends, case.n, case.k, case.groups, *a.stride(), *b.stride()[1:], b.stride(0))
    settings = {name: value for name, value in fixed(case).items() if name != "SCALING"}
    flags = {
        "EVEN_N": case.n % config["BLOCK_N"] == 0,
        "EVEN_K": case.k % config["BLOCK_K"] == 0,
        "WIDE": wide_offsets(a, b[0], out),
        "PROGRAMS": programs,
        "SLOTS": 1 << (case.groups - 1).bit_length(),
    }
    launched = grouped()[(programs,)]
    named_arguments = {**settings, **flags, **constants(config), **launch_options(config)}
    return lambda: launched(*arguments, **named_arguments)


@kernel("grouped_matmul", "triton", "triton.grouped_matmul", refuses)
def grouped_matmul(case: GroupedMatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    operands, machine, ends = Operands.of(case, inputs), Machine.of(output), inputs[2]

    def launch(config: Mapping[str, int], out: Array) -> Callable[[], Any]:
        return launch_of(case, operands, ends, config, machine.multiprocessors * machine.resident(case, config), out)

    config = tuned(
        "triton.grouped_matmul",
        key_of(case),
        grouped_configs(case, machine),
        lambda config: launch(config, output.new_empty(output.shape))(),
        lambda config: grouped_cost(case, config, machine),
    )
    return named(bound_launcher(lambda out: launch(config, out), output), config)
