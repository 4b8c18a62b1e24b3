"""Tiled matmul in Triton: one program a tile, pointer loads, masks only where the shape needs them. Runs wherever Triton compiles.

The kernel also takes a share of k (``triton.matmul.split_k``) and one of many products (``triton.batched_matmul``).
Run on an H200; fp8 with precise sums in tiles of fewer than 128 terms has not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from ..triton_tools import bound_launcher, constants, inlined, jit, launch_options, named
from ..tuning import tuned
from .batched_case import BatchedMatmulCase
from .case import MatmulCase
from .product import Product
from .triton_common import Operands, fixed, key_of, multiply, refuses, scaled, tile_place, tiles_of, wide_offsets, zeros
from .triton_configs import tile_configs
from .triton_cost import Machine, tile_cost

if TYPE_CHECKING:
    import triton.language as tl

MOST_BATCHES = 65535
"""Largest second and third side of a grid: CUDA C++ Programming Guide, technical specifications per compute capability."""


@inlined
def operand_tiles(  # type: ignore[no-untyped-def]
    a, b, row, column, low, M, N, stride_am, stride_ak, stride_bk, stride_bn,
    EVEN_M: tl.constexpr, EVEN_N: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Rows and columns of a tile, and pointers to its operands at ``low`` of k.

    Rows and columns past the edge start over at 0: they are loaded, computed and never stored, which needs no mask in the loop.
    """
    m, n = row * BLOCK_M + tl.arange(0, BLOCK_M), column * BLOCK_N + tl.arange(0, BLOCK_N)
    if not EVEN_M:
        m = m % M
    if not EVEN_N:
        n = n % N
    k = low + tl.arange(0, BLOCK_K)
    if WIDE:
        m, n, k = m.to(tl.int64), n.to(tl.int64), k.to(tl.int64)
    a_tile = a + m[:, None] * stride_am + k[None, :] * stride_ak
    b_tile = b + k[:, None] * stride_bk + n[None, :] * stride_bn
    return m, n, a_tile, b_tile


@inlined
def store_tile(  # type: ignore[no-untyped-def]
    c, total, row, column, M, N, EVEN_M: tl.constexpr, EVEN_N: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Write a tile of C."""
    m, n = row * BLOCK_M + tl.arange(0, BLOCK_M), column * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = (m < M)[:, None] & (n < N)[None, :]
    if WIDE:
        m = m.to(tl.int64)
    place = c + m[:, None] * N + n[None, :]
    if EVEN_M and EVEN_N:
        tl.store(place, total.to(c.dtype.element_ty))
    else:
        tl.store(place, total.to(c.dtype.element_ty), mask=inside)


@jit
def tile(  # type: ignore[no-untyped-def]
    a, b, c, scale_a, scale_b, M, N, K, PART_K, stride_am, stride_ak, stride_bk, stride_bn, stride_ag, stride_bg,
    PRECISION: tl.constexpr, SCALING: tl.constexpr, SUM: tl.constexpr, GROUP: tl.constexpr,
    EVEN_M: tl.constexpr, EVEN_N: tl.constexpr, EVEN_K: tl.constexpr, WIDE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, IMPRECISE: tl.constexpr,
):  # fmt: skip
    """One BLOCK_M x BLOCK_N tile (grid axis 0) of the sum over one part of k (axis 1) of one product (axis 2).

    Parts lie one after the other in ``c``, as products do; there is never more than one of both.
    """
    row, column = tile_place(tl.program_id(0), tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N), GROUP)
    product = tl.program_id(2).to(tl.int64)
    low = tl.program_id(1) * PART_K
    high = min(low + PART_K, K)
    m, n, a_tile, b_tile = operand_tiles(
        a + product * stride_ag, b + product * stride_bg, row, column, low, M, N, stride_am, stride_ak, stride_bk, stride_bn,
        EVEN_M, EVEN_N, WIDE, BLOCK_M, BLOCK_N, BLOCK_K,
    )  # fmt: skip
    total = zeros(BLOCK_M, BLOCK_N, SUM)
    total = multiply(total, a_tile, b_tile, low, high, stride_ak, stride_bk, EVEN_K, PRECISION, IMPRECISE, BLOCK_K)
    total = scaled(total, scale_a, scale_b, m, n, SCALING)
    part = product + tl.program_id(1)
    store_tile(c + part * M * N, total, row, column, M, N, EVEN_M, EVEN_N, WIDE, BLOCK_M, BLOCK_N)


def launch_of(
    case: Product, operands: Operands, config: Mapping[str, int], out: Array, *, batches: int = 1, scaling: str | None = None
) -> Callable[[], Any]:
    """The launch of ``tile`` with this configuration. With SPLIT parts ``out`` has the shape (SPLIT, m, n).

    ``scaling``: instead of the case's.
    """
    a, b = operands.a, operands.b
    parts = config.get("SPLIT", 1)
    part_k = -(-case.k // (parts * config["BLOCK_K"])) * config["BLOCK_K"]
    batch_strides = (a.stride(0), b.stride(0)) if a.dim() == 3 else (0, 0)
    arguments = (a, b, out, *operands.scales, case.m, case.n, case.k, part_k, *a.stride()[-2:], *b.stride()[-2:], *batch_strides)
    blocks = {name: value for name, value in constants(config).items() if name != "SPLIT"}
    flags = {
        "EVEN_M": case.m % config["BLOCK_M"] == 0,
        "EVEN_N": case.n % config["BLOCK_N"] == 0,
        "EVEN_K": case.k % config["BLOCK_K"] == 0,
        "WIDE": wide_offsets(*(x[0] if x.dim() == 3 else x for x in (a, b, out))),
    }
    launched = tile()[(tiles_of(case, config), parts, batches)]
    named_arguments = {**fixed(case), **flags, **blocks, **launch_options(config)}
    if scaling is not None:
        named_arguments["SCALING"] = scaling
    return lambda: launched(*arguments, **named_arguments)


@kernel("matmul", "triton", "triton.matmul", refuses)
def matmul(case: MatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    operands, machine = Operands.of(case, inputs), Machine.of(output)
    config = tuned(
        "triton.matmul",
        key_of(case),
        tile_configs(case, machine),
        lambda config: launch_of(case, operands, config, output.new_empty(output.shape))(),
        lambda config: tile_cost(case, config, machine),
    )
    return named(bound_launcher(lambda out: launch_of(case, operands, config, out), output), config)


def batched_refuses(case: BatchedMatmulCase, target: Target) -> str | None:
    if case.groups > MOST_BATCHES:
        return f"a grid has at most {MOST_BATCHES} products, not {case.groups}"
    return refuses(case, target)


@kernel("batched_matmul", "triton", "triton.batched_matmul", batched_refuses)
def batched_matmul(case: BatchedMatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    operands, machine = Operands.of(case, inputs), Machine.of(output)
    config = tuned(
        "triton.batched_matmul",
        key_of(case),
        tile_configs(case, machine),
        lambda config: launch_of(case, operands, config, output.new_empty(output.shape), batches=case.groups)(),
        lambda config: tile_cost(case, config, machine, case.groups),
    )
    return named(bound_launcher(lambda out: launch_of(case, operands, config, out, batches=case.groups), output), config)
