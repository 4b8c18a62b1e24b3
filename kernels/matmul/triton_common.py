"""What the Triton matmul kernels share: which dtypes they take where, the order of tiles, the loop over k and the scales."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..arrays import Array
from ..backends import interpreting
from ..kernel import Target
from ..triton_tools import NO_OLD_TENSOR_CORES, dot_precision, inlined, refuses_target, triton_version, widened
from .product import FLOAT8, Product, refuses_fp16_sums

if TYPE_CHECKING:
    import triton.language as tl

GROUP = 8
"""Rows of tiles computed together, so that their columns of B are found in the L2 cache."""

LARGEST_OFFSET = 2**31 - 1
"""Offsets into larger arrays need 64 bits."""


def refuses(case: Product, target: Target) -> str | None:
    """Why no Triton matmul kernel can take the case on the target."""
    reason = refuses_target(target) or refuses_fp16_sums(case)
    if reason is not None or target.kind == "cpu":
        return reason or _refuses_interpreted(case)
    nvidia, capability = target.kind == "cuda", target.compute_capability or (8, 0)
    if case.dtype == "tf32" and not nvidia:
        return "TF32 is arithmetic of NVIDIA tensor cores"
    if case.dtype in ("tf32", "bf16", "int8", "fp64") and nvidia and capability < (8, 0):
        return f"{case.dtype} on tensor cores in Triton needs compute capability 8.0"
    if case.dtype == "fp16" and nvidia and capability < (8, 0):
        return NO_OLD_TENSOR_CORES
    if case.dtype in FLOAT8 and nvidia and capability < (8, 9):
        return "fp8 on tensor cores needs compute capability 8.9"
    if case.math_mode == "fast_accum" and not (nvidia and capability < (10, 0)):
        return "fast_accum is a mode of NVIDIA's Ada and Hopper; leave math_mode out"
    if case.dtype in FLOAT8 and nvidia and capability == (8, 9) and case.math_mode != "fast_accum":
        return "Triton leaves fp8 sums to the tensor cores of this chip, which keep fewer bits than fp32: that is math_mode fast_accum"
    if case.dtype in FLOAT8 and (target.architecture or "").startswith("gfx94"):
        return "the fp8 of this chip has other bits (e4m3fnuz, e5m2fnuz); e4m3fn and e5m2 would be emulated"
    if case.dtype == "fp64":
        return _refuses_fp64(target)
    return None


def _refuses_interpreted(case: Product) -> str | None:
    return "the tests of Triton's interpreter have no fp64" if case.dtype == "fp64" else None


def _refuses_fp64(target: Target) -> str | None:
    return "no Triton matmul in fp64: tl.dot on tensor cores takes it in the newest Triton only; use torch.mm"


@dataclass(frozen=True)
class Operands:
    """A case's arrays as kernels take them."""

    a: Array
    b: Array
    scales: tuple[Array, Array] | tuple[None, None]

    @classmethod
    def of(cls, case: Any, inputs: tuple[Array, ...]) -> Operands:
        """``a`` (..., m, k) and ``b`` (..., k, n) as views; in the interpreter they hold fp32."""
        inputs = widened(inputs)
        a, b = case.operands(inputs)
        scales = case.scales(inputs) if hasattr(case, "scales") else None
        return cls(a, b, scales or (None, None))


def fixed(case: Product) -> dict[str, Any]:
    """Constants of every kernel, whatever the tiles."""
    return {
        "PRECISION": "ieee" if interpreting() else dot_precision(case.dtype),
        "SCALING": getattr(case, "scaling", None) or "none",
        "SUM": "int32" if case.dtype == "int8" else "fp32",
        "GROUP": GROUP,
    }


def key_of(case: Product) -> dict[str, str | int | bool]:
    """What decides which tiles are fastest."""
    return {name: value for name, value in case.columns().items() if name != "op"}


def tiles_of(case: Product, config: Mapping[str, int]) -> int:
    """How many tiles C (of one batch) has."""
    return -(-case.m // config["BLOCK_M"]) * -(-case.n // config["BLOCK_N"])


def wide_offsets(*arrays: Array) -> bool:
    """Whether an offset into any of the arrays may not fit into 32 bits."""
    return any(array.numel() > LARGEST_OFFSET for array in arrays)


def installed_triton() -> tuple[int, int]:
    """The installed Triton's version, (0, 0) where there is none: then the backend as a whole is refused."""
    try:
        return triton_version()
    except ImportError:
        return (0, 0)


@inlined
def tile_place(program, tiles_m, tiles_n, GROUP: tl.constexpr):  # type: ignore[no-untyped-def]
    """Row and column of a tile in the grouped order: down GROUP rows of tiles, then one column to the right."""
    group = program // (GROUP * tiles_n)
    rows = min(tiles_m - group * GROUP, GROUP)
    within = program % (GROUP * tiles_n)
    return group * GROUP + within % rows, within // rows


@inlined
def zeros(BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, SUM: tl.constexpr):  # type: ignore[no-untyped-def]
    """Where a tile is summed."""
    if SUM == "int32":
        total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.int32)
    else:
        total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    return total


@inlined
def scaled(total, scale_a, scale_b, m, n, SCALING: tl.constexpr):  # type: ignore[no-untyped-def]
    """The sums times the scales of their rows ``m`` and columns ``n``, which lie inside the matrix."""
    if SCALING == "per_tensor":
        total = total * (tl.load(scale_a) * tl.load(scale_b))
    elif SCALING == "row_wise":
        total = total * tl.load(scale_a + m)[:, None] * tl.load(scale_b + n)[None, :]
    return total


@inlined
def add_product(total, x, y, PRECISION: tl.constexpr, IMPRECISE: tl.constexpr):  # type: ignore[no-untyped-def]
    """``total`` + ``x`` ``y``. IMPRECISE: how many terms Hopper's fp8 tensor cores may sum themselves, in fewer bits than fp32; 0: all."""
    if IMPRECISE:
        total = tl.dot(x, y, total, input_precision=PRECISION, max_num_imprecise_acc=IMPRECISE, out_dtype=total.dtype)
    else:
        total = tl.dot(x, y, total, input_precision=PRECISION, out_dtype=total.dtype)
    return total


@inlined
def multiply(  # type: ignore[no-untyped-def]
    total, a_tile, b_tile, low, high, stride_ak, stride_bk,
    EVEN_K: tl.constexpr, PRECISION: tl.constexpr, IMPRECISE: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Add the products of the terms from ``low`` to ``high`` of k; the tiles of pointers are at ``low``."""
    k = tl.arange(0, BLOCK_K)
    for start in range(low, high, BLOCK_K):
        if EVEN_K:
            x = tl.load(a_tile)
            y = tl.load(b_tile)
        else:
            x = tl.load(a_tile, mask=(k < high - start)[None, :], other=0.0)
            y = tl.load(b_tile, mask=(k < high - start)[:, None], other=0.0)
        total = add_product(total, x, y, PRECISION, IMPRECISE)
        a_tile += BLOCK_K * stride_ak
        b_tile += BLOCK_K * stride_bk
    return total
