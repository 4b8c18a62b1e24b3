"""Flash-style attention in Triton: online softmax over tiles of keys (Dao et al., arXiv 2205.14135), with causal mask and grouped heads."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from ..arrays import Array, Arrays
from ..backends import interpreting
from ..kernel import Call, Target, kernel
from ..triton_tools import choose, dot_precision, jit, launcher, named, options, refuses_target, refuses_tensor_dtype
from .case import AttentionCase

if TYPE_CHECKING:
    import triton.language as tl

CONFIGS: tuple[dict[str, int], ...] = (
    {"BLOCK_M": 64, "BLOCK_N": 32, "num_warps": 4, "num_stages": 2},
    {"BLOCK_M": 64, "BLOCK_N": 64, "num_warps": 4, "num_stages": 3},
    {"BLOCK_M": 128, "BLOCK_N": 32, "num_warps": 4, "num_stages": 3},
    {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 4, "num_stages": 3},
    {"BLOCK_M": 128, "BLOCK_N": 64, "num_warps": 8, "num_stages": 3},
    {"BLOCK_M": 128, "BLOCK_N": 128, "num_warps": 8, "num_stages": 2},
)
"""Tiles of queries and keys to try on a GPU. The first is what the interpreter runs."""

WIDEST_HEAD = 256


@jit
def tile(  # type: ignore[no-untyped-def]
    q, k, v, o, SEQ_Q, SEQ_KV, HEADS, scale,
    HEAD_DIM: tl.constexpr, DIM: tl.constexpr, GROUP: tl.constexpr, CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """BLOCK_M rows of one head. ``scale`` includes log2(e), so that exp2 can stand for exp; DIM is HEAD_DIM up to a power of two."""
    block = tl.num_programs(0) - 1 - tl.program_id(0)  # under a causal mask the last rows are the longest: first
    batch_head = tl.program_id(1).to(tl.int64)
    kv_head = batch_head // HEADS * (HEADS // GROUP) + batch_head % HEADS // GROUP

    rows = block * BLOCK_M + tl.arange(0, BLOCK_M)
    dims = tl.arange(0, DIM)
    row_inside = (rows < SEQ_Q)[:, None] & (dims < HEAD_DIM)[None, :]
    row_offsets = rows[:, None] * HEAD_DIM + dims[None, :]
    queries = tl.load(q + batch_head * SEQ_Q * HEAD_DIM + row_offsets, mask=row_inside, other=0.0)
    if WIDEN:
        queries = queries.to(tl.float32)

    top = tl.full((BLOCK_M,), float("-inf"), dtype=tl.float32)
    weight_sum = tl.zeros((BLOCK_M,), dtype=tl.float32)
    total = tl.zeros((BLOCK_M, DIM), dtype=tl.float32)
    if CAUSAL:
        whole, end = block * BLOCK_M // BLOCK_N * BLOCK_N, min(SEQ_KV, (block + 1) * BLOCK_M)
    else:
        whole, end = SEQ_KV // BLOCK_N * BLOCK_N, SEQ_KV
    # First the tiles that every row sees whole, without masks; then those at the diagonal or the end.
    for masked in tl.static_range(2):
        low, high = (whole, end) if masked else (0, whole)
        for start in range(low, high, BLOCK_N):
            columns = start + tl.arange(0, BLOCK_N)
            inside = (columns < SEQ_KV)[:, None] & (dims < HEAD_DIM)[None, :]
            offsets = kv_head * SEQ_KV * HEAD_DIM + columns[:, None] * HEAD_DIM + dims[None, :]
            keys = tl.load(k + offsets, mask=inside, other=0.0)
            values = tl.load(v + offsets, mask=inside, other=0.0)
            if WIDEN:
                keys, values = keys.to(tl.float32), values.to(tl.float32)
            scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION) * scale
            if masked:
                seen = (columns < SEQ_KV)[None, :]
                if CAUSAL:
                    seen = seen & (columns[None, :] <= rows[:, None])
                scores = tl.where(seen, scores, float("-inf"))
            new_top = tl.maximum(top, tl.max(scores, 1))
            weights = tl.exp2(scores - new_top[:, None])
            shrink = tl.exp2(top - new_top)
            weight_sum = weight_sum * shrink + tl.sum(weights, 1)
            total = total * shrink[:, None]
            total = tl.dot(weights.to(values.dtype), values, total, input_precision=PRECISION)
            top = new_top
    total = total / weight_sum[:, None]
    tl.store(o + batch_head * SEQ_Q * HEAD_DIM + row_offsets, total.to(o.dtype.element_ty), mask=row_inside)


def refuses(case: AttentionCase, target: Target) -> str | None:
    if case.head_dim > WIDEST_HEAD:
        return f"this kernel holds a whole head: head_dim up to {WIDEST_HEAD}, not {case.head_dim}"
    return refuses_target(target) or refuses_tensor_dtype(case.dtype, target)


@kernel("attention", "triton", "triton.attention", refuses)
def attention(case: AttentionCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    sizes = (case.seq_q, case.seq_kv, case.heads, case.scale * math.log2(math.e))
    fixed: dict[str, Any] = {
        "HEAD_DIM": case.head_dim,
        "DIM": max(16, 1 << (case.head_dim - 1).bit_length()),
        "GROUP": case.heads // case.kv_heads,
        "CAUSAL": case.causal,
        "PRECISION": dot_precision(case.dtype),
        "WIDEN": interpreting(),
    }

    def grid(meta: dict[str, int]) -> tuple[int, int]:
        return (-(-case.seq_q // meta["BLOCK_M"]), case.batch * case.heads)

    def launch(kernel: Any, out: Array, **config: int) -> None:
        kernel[grid](*inputs, out, *sizes, **fixed, **config, **options())

    config = choose(tile(), CONFIGS, ["SEQ_Q", "SEQ_KV", "HEAD_DIM", "CAUSAL"], lambda tuned: launch(tuned, output.new_empty(output.shape)))
    return named(launcher(lambda out: launch(tile(), out, **config), output), config)
