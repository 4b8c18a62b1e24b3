"""A tiled matmul in Triton: grouped tile order, masks for ragged edges, fp32 sums."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..arrays import Array, Arrays
from ..backends import interpreting
from ..kernel import Call, Target, kernel
from ..triton_tools import choose, dot_precision, jit, launcher, named, options, refuses_target, refuses_tensor_dtype
from .case import MatmulCase

if TYPE_CHECKING:
    import triton.language as tl

GROUP_M = 8
"""Rows of tiles computed together, so that their columns of B are found in cache."""

CONFIGS: tuple[dict[str, int], ...] = (
    {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 3},
    {"BLOCK_M": 32, "BLOCK_N": 64, "BLOCK_K": 64, "num_warps": 4, "num_stages": 4},
    {"BLOCK_M": 64, "BLOCK_N": 128, "BLOCK_K": 32, "num_warps": 4, "num_stages": 4},
    {"BLOCK_M": 128, "BLOCK_N": 64, "BLOCK_K": 32, "num_warps": 4, "num_stages": 4},
    {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 32, "num_warps": 4, "num_stages": 4},
    {"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": 64, "num_warps": 8, "num_stages": 3},
    {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "num_warps": 8, "num_stages": 3},
    {"BLOCK_M": 256, "BLOCK_N": 128, "BLOCK_K": 64, "num_warps": 8, "num_stages": 3},
)
"""Tiles to try on a GPU; those that do not fit its shared memory drop out. The first is what the interpreter runs."""


@jit
def tile(  # type: ignore[no-untyped-def]
    a, b, c, M, N, K, stride_am, stride_ak, stride_bk, stride_bn,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr, GROUP: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """One BLOCK_M x BLOCK_N tile of C."""
    program = tl.program_id(0)
    tiles_m, tiles_n = tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    group = program // (GROUP * tiles_n)
    rows_in_group = min(tiles_m - group * GROUP, GROUP)
    within = program % (GROUP * tiles_n)
    tile_m = group * GROUP + within % rows_in_group
    tile_n = within // rows_in_group

    m = (tile_m * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    n = (tile_n * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)
    k = tl.arange(0, BLOCK_K).to(tl.int64)
    a_tile = a + m[:, None] * stride_am + k[None, :] * stride_ak
    b_tile = b + k[:, None] * stride_bk + n[None, :] * stride_bn
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(0, K, BLOCK_K):
        inside = k < K - start
        x = tl.load(a_tile, mask=(m < M)[:, None] & inside[None, :], other=0.0)
        y = tl.load(b_tile, mask=inside[:, None] & (n < N)[None, :], other=0.0)
        if WIDEN:
            x, y = x.to(tl.float32), y.to(tl.float32)
        total = tl.dot(x, y, total, input_precision=PRECISION)
        a_tile += BLOCK_K * stride_ak
        b_tile += BLOCK_K * stride_bk
    tl.store(c + m[:, None] * N + n[None, :], total.to(c.dtype.element_ty), mask=(m < M)[:, None] & (n < N)[None, :])


def refuses(case: MatmulCase, target: Target) -> str | None:
    return refuses_target(target) or refuses_tensor_dtype(case.dtype, target)


@kernel("matmul", "triton", "triton.matmul", refuses)
def matmul(case: MatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    a, b = case.operands(inputs)
    sizes = (case.m, case.n, case.k, *a.stride(), *b.stride())
    fixed: dict[str, Any] = {"PRECISION": dot_precision(case.dtype), "WIDEN": interpreting(), "GROUP": GROUP_M}

    def grid(meta: dict[str, int]) -> tuple[int]:
        return (-(-case.m // meta["BLOCK_M"]) * -(-case.n // meta["BLOCK_N"]),)

    def launch(kernel: Any, out: Array, **config: int) -> None:
        kernel[grid](a, b, out, *sizes, **fixed, **config, **options())

    config = choose(tile(), CONFIGS, ["M", "N", "K"], lambda tuned: launch(tuned, output.new_empty(output.shape)))
    return named(launcher(lambda out: launch(tile(), out, **config), output), config)
