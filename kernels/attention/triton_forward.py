"""The bodies of flash-style attention in Triton: online softmax over tiles of keys (Dao, "FlashAttention-2", arXiv 2307.08691).

``tile`` loads through pointers and runs on every chip; ``tile_tma`` loads through tensor descriptors (TMA) and can leave the loading to
warps of its own. Both write the log-sum-exp of each row (base 2) when asked, for the backward pass. Run on an H200.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..triton_tools import jit
from .triton_parts import key_tiles, place, soften, visible

if TYPE_CHECKING:
    import triton.language as tl


@jit
def tile(  # type: ignore[no-untyped-def]
    q, k, v, o, lse, SEQ_Q, SEQ_KV, HEADS, ALL_HEADS, BLOCKS, TOGETHER, LSE_ROWS, window, scale,
    HEAD_DIM: tl.constexpr, HEAD_DIM_V: tl.constexpr, DIM: tl.constexpr, DIM_REST: tl.constexpr, DIM_V: tl.constexpr,
    GROUP: tl.constexpr, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, EVEN: tl.constexpr, STORE_LSE: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """BLOCK_M rows of one head.

    ``scale`` includes log2(e), so that exp2 can stand for exp. A head is DIM + DIM_REST wide (``cut``). EVEN: the keys end with a tile.
    ``lse`` has LSE_ROWS for each head.
    """
    batch_head, block = place(tl.program_id(0), ALL_HEADS, BLOCKS, TOGETHER)
    kv_head = batch_head // HEADS * (HEADS // GROUP) + batch_head % HEADS // GROUP
    q_head, o_head = q + batch_head * SEQ_Q * HEAD_DIM, o + batch_head * SEQ_Q * HEAD_DIM_V
    k_head, v_head = k + kv_head * SEQ_KV * HEAD_DIM, v + kv_head * SEQ_KV * HEAD_DIM_V
    rows, lanes = block * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N)
    dims, dims_v = tl.arange(0, DIM), tl.arange(0, DIM_V)
    # A mask that the compiler knows to be true costs nothing; one that it does not know occupies registers until the end.
    row_inside = (rows < SEQ_Q)[:, None]
    dim_inside = tl.full((1, DIM), True, tl.int1) if HEAD_DIM == DIM + DIM_REST else (dims < HEAD_DIM)[None, :]
    dim_v_inside = tl.full((1, DIM_V), True, tl.int1) if HEAD_DIM_V == DIM_V else (dims_v < HEAD_DIM_V)[None, :]
    queries = tl.load(q_head + rows[:, None] * HEAD_DIM + dims[None, :], mask=row_inside & dim_inside, other=0.0)
    if DIM_REST > 0:
        dims_rest = DIM + tl.arange(0, DIM_REST)
        rest_inside = tl.full((1, DIM_REST), True, tl.int1) if HEAD_DIM == DIM + DIM_REST else (dims_rest < HEAD_DIM)[None, :]
        queries_rest = tl.load(q_head + rows[:, None] * HEAD_DIM + dims_rest[None, :], mask=row_inside & rest_inside, other=0.0)

    edge, end = key_tiles(block * BLOCK_M, SEQ_KV, window, CAUSAL, WINDOW, BLOCK_M, BLOCK_N)
    top = tl.full((BLOCK_M,), float("-inf"), dtype=tl.float32)
    weight_sum = tl.zeros((BLOCK_M,), dtype=tl.float32)
    total = tl.zeros((BLOCK_M, DIM_V), dtype=tl.float32)
    for masked in tl.static_range(1 if WINDOW else 0, 1 if EVEN and not CAUSAL else 2):
        if masked:
            start, stop = edge, end
        else:
            start, stop = 0, edge
        for column in range(start, stop, BLOCK_N):
            columns = column + lanes
            key_inside = tl.full((BLOCK_N, 1), True, tl.int1) if EVEN or not masked else (columns < SEQ_KV)[:, None]
            key_pointers = k_head + column * HEAD_DIM + lanes[:, None] * HEAD_DIM
            value_pointers = v_head + column * HEAD_DIM_V + (lanes[:, None] * HEAD_DIM_V + dims_v[None, :])
            keys = tl.load(key_pointers + dims[None, :], mask=key_inside & dim_inside, other=0.0)
            scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION)
            if DIM_REST > 0:
                keys_rest = tl.load(key_pointers + dims_rest[None, :], mask=key_inside & rest_inside, other=0.0)
                scores = tl.dot(queries_rest, tl.trans(keys_rest), scores, input_precision=PRECISION)
            if masked:
                scores = tl.where(visible(rows[:, None], columns[None, :], SEQ_KV, window, CAUSAL, WINDOW), scores, float("-inf"))
            weights, shrink, top, weight_sum = soften(scores, top, weight_sum, scale, WINDOW)
            total = total * shrink[:, None]
            values = tl.load(value_pointers, mask=key_inside & dim_v_inside, other=0.0)
            total = tl.dot(weights.to(values.dtype), values, total, input_precision=PRECISION)
    total = total / weight_sum[:, None]
    out = o_head + rows[:, None] * HEAD_DIM_V + dims_v[None, :]
    tl.store(out, total.to(o.dtype.element_ty), mask=row_inside & dim_v_inside)
    if STORE_LSE:
        tl.store(lse + batch_head * LSE_ROWS + rows, top + tl.log2(weight_sum), mask=rows < SEQ_Q)


@jit
def tile_tma(  # type: ignore[no-untyped-def]
    q, k, k_rest, v, o, lse, SEQ_Q, SEQ_KV, HEADS, ALL_HEADS, BLOCKS, TOGETHER, LSE_ROWS, window, scale,
    HEAD_DIM: tl.constexpr, HEAD_DIM_V: tl.constexpr, DIM: tl.constexpr, DIM_REST: tl.constexpr, DIM_V: tl.constexpr,
    GROUP: tl.constexpr, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, EVEN: tl.constexpr, STORE_LSE: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, WARP_SPECIALIZE: tl.constexpr,
):  # fmt: skip
    """As ``tile``, where k and v are descriptors of matrices with one row for each position of each head.

    The queries come through pointers: of specialised warps each group takes half of them, and a descriptor from the host would still
    bring them all (Triton 3.6 keeps the box of its block shape).
    A tile that reaches over the end of its head reads rows of the next one, and zeros after the last: their scores are masked, and
    finite values of weight zero add nothing. The output is written through pointers, for there the next head must not be touched.
    """
    batch_head, block = place(tl.program_id(0), ALL_HEADS, BLOCKS, TOGETHER)
    kv_head = batch_head // HEADS * (HEADS // GROUP) + batch_head % HEADS // GROUP
    rows, lanes, dims_v = block * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N), tl.arange(0, DIM_V)
    kv_row = (kv_head * SEQ_KV).to(tl.int32)
    dims = tl.arange(0, DIM)
    row_inside, q_rows = (rows < SEQ_Q)[:, None], q + batch_head * SEQ_Q * HEAD_DIM + rows[:, None] * HEAD_DIM
    if WARP_SPECIALIZE:
        q_matrix = tl.make_tensor_descriptor(q, shape=[ALL_HEADS * SEQ_Q, HEAD_DIM], strides=[HEAD_DIM, 1], block_shape=[BLOCK_M, DIM])
        queries = q_matrix.load([(batch_head * SEQ_Q).to(tl.int32) + block * BLOCK_M, 0])
    else:
        queries = tl.load(q_rows + dims[None, :], mask=row_inside & (dims < HEAD_DIM)[None, :], other=0.0)
    if DIM_REST > 0:
        if WARP_SPECIALIZE:
            q_right = tl.make_tensor_descriptor(
                q, shape=[ALL_HEADS * SEQ_Q, HEAD_DIM], strides=[HEAD_DIM, 1], block_shape=[BLOCK_M, DIM_REST]
            )
            queries_rest = q_right.load([(batch_head * SEQ_Q).to(tl.int32) + block * BLOCK_M, DIM])
        else:
            dims_rest = DIM + tl.arange(0, DIM_REST)
            queries_rest = tl.load(q_rows + dims_rest[None, :], mask=row_inside & (dims_rest < HEAD_DIM)[None, :], other=0.0)

    edge, end = key_tiles(block * BLOCK_M, SEQ_KV, window, CAUSAL, WINDOW, BLOCK_M, BLOCK_N)
    top = tl.full((BLOCK_M,), float("-inf"), dtype=tl.float32)
    weight_sum = tl.zeros((BLOCK_M,), dtype=tl.float32)
    total = tl.zeros((BLOCK_M, DIM_V), dtype=tl.float32)
    # Warps can be specialised for one loop of a kernel only (Triton 3.6): there all tiles are masked.
    LAST: tl.constexpr = 1 if EVEN and not CAUSAL else 2
    FIRST: tl.constexpr = LAST - 1 if WARP_SPECIALIZE else (1 if WINDOW else 0)
    for masked in tl.static_range(FIRST, LAST):
        if masked:
            start, stop = edge if WINDOW or not WARP_SPECIALIZE else 0, end
        else:
            start, stop = 0, edge
        for column in tl.range(start, stop, BLOCK_N, warp_specialize=WARP_SPECIALIZE):
            scores = tl.dot(queries, tl.trans(k.load([kv_row + column, 0])), input_precision=PRECISION)
            if DIM_REST > 0:
                scores = tl.dot(queries_rest, tl.trans(k_rest.load([kv_row + column, DIM])), scores, input_precision=PRECISION)
            if masked:
                columns = column + lanes
                scores = tl.where(visible(rows[:, None], columns[None, :], SEQ_KV, window, CAUSAL, WINDOW), scores, float("-inf"))
            weights, shrink, top, weight_sum = soften(scores, top, weight_sum, scale, WINDOW)
            total = total * shrink[:, None]
            values = v.load([kv_row + column, 0])
            total = tl.dot(weights.to(values.dtype), values, total, input_precision=PRECISION)
    total = total / weight_sum[:, None]
    out = o + batch_head * SEQ_Q * HEAD_DIM_V + rows[:, None] * HEAD_DIM_V + dims_v[None, :]
    tl.store(out, total.to(o.dtype.element_ty), mask=row_inside & (dims_v < HEAD_DIM_V)[None, :])
    if STORE_LSE:
        tl.store(lse + batch_head * LSE_ROWS + rows, top + tl.log2(weight_sum), mask=rows < SEQ_Q)
