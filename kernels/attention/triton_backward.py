"""The gradients of attention in Triton: dK and dV tile of keys by tile of keys, dQ tile of queries by tile of queries.

Dao, "FlashAttention-2" (arXiv 2307.08691), algorithm 2, with the loops apart: no program adds to what another one writes, so there are no
atomics and the same inputs give the same bits, for 7 matrix products instead of 5 (both passes compute the scores and dP). All that is
timed: the sums over each row of O * dO, both passes. Not yet run on a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..arrays import Array
from ..case import DTYPE_BYTES
from ..kernel import Call
from ..triton_tools import constants, dot_precision, jit, launch_options, launcher, named, target_of
from ..tuning import tuned
from .case import AttentionCase
from .triton_configs import KEYS_GRADIENT, QUERIES_GRADIENT, Table, backward_configs
from .triton_parts import cut, heads_together, key_tiles, lse_rows, padded, place, query_tiles, visible

if TYPE_CHECKING:
    import triton.language as tl

DELTA_ROWS = 16
"""Rows of O and dO that a program of ``row_sums`` multiplies."""


@jit
def row_sums(o, d_o, delta, SEQ_Q, LSE_ROWS, HEAD_DIM_V: tl.constexpr, DIM_V: tl.constexpr, BLOCK_M: tl.constexpr):  # type: ignore[no-untyped-def]
    """delta: for each row the sum of O * dO in fp32, which is the sum of P * dP. Grid: blocks of rows, heads."""
    rows, dims = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, DIM_V)
    head = tl.program_id(1).to(tl.int64)
    offsets = (head * SEQ_Q + rows)[:, None] * HEAD_DIM_V + dims[None, :]
    inside = (rows < SEQ_Q)[:, None] & (dims < HEAD_DIM_V)[None, :]
    products = tl.load(o + offsets, mask=inside, other=0.0).to(tl.float32) * tl.load(d_o + offsets, mask=inside, other=0.0).to(tl.float32)
    tl.store(delta + head * LSE_ROWS + rows, tl.sum(products, 1), mask=rows < SEQ_Q)


@jit
def keys_tile(  # type: ignore[no-untyped-def]
    q, k, v, d_o, lse, delta, d_k, d_v, SEQ_Q, SEQ_KV, ALL_HEADS, BLOCKS, TOGETHER, GROUP, LSE_ROWS, window, scale, natural_scale,
    HEAD_DIM: tl.constexpr, HEAD_DIM_V: tl.constexpr, DIM: tl.constexpr, DIM_REST: tl.constexpr, DIM_V: tl.constexpr,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, EVEN: tl.constexpr, KEYS_EVEN: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """dK and dV of BLOCK_N keys: over all query heads that read them, over tiles of BLOCK_M queries.

    Scores are transposed, keys by queries, so that they are the left operand of both sums and stay in registers. ``scale`` includes
    log2(e), ``natural_scale`` does not. Queries past the end have an infinite log-sum-exp, so they weigh nothing.
    GROUP is no constant, for then its loop would be unrolled. EVEN: the queries end with a tile; KEYS_EVEN: so do the keys.
    """
    kv_head, block = place(tl.program_id(0), ALL_HEADS, BLOCKS, TOGETHER)
    first_key = (BLOCKS - 1 - block) * BLOCK_N  # under a causal mask the first keys are seen by most queries: first
    key_lanes, lanes = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_M)
    columns = first_key + key_lanes
    dims, dims_v = tl.arange(0, DIM), tl.arange(0, DIM_V)
    # A mask that the compiler knows to be true costs nothing; one that it does not know occupies registers until the end.
    key_inside = tl.full((BLOCK_N, 1), True, tl.int1) if KEYS_EVEN else (columns < SEQ_KV)[:, None]
    dim_inside = tl.full((1, DIM), True, tl.int1) if HEAD_DIM == DIM + DIM_REST else (dims < HEAD_DIM)[None, :]
    dim_v_inside = tl.full((1, DIM_V), True, tl.int1) if HEAD_DIM_V == DIM_V else (dims_v < HEAD_DIM_V)[None, :]
    # One 64-bit number, and 32-bit offsets from it: 64-bit offsets would live in registers until the end.
    place_k, place_v = (kv_head * SEQ_KV + first_key) * HEAD_DIM, (kv_head * SEQ_KV + first_key) * HEAD_DIM_V
    key_offsets, value_offsets = key_lanes[:, None] * HEAD_DIM, key_lanes[:, None] * HEAD_DIM_V + dims_v[None, :]
    keys = tl.load(k + place_k + (key_offsets + dims[None, :]), mask=key_inside & dim_inside, other=0.0)
    values = tl.load(v + place_v + value_offsets, mask=key_inside & dim_v_inside, other=0.0)
    key_sums = tl.zeros((BLOCK_N, DIM), dtype=tl.float32)
    value_sums = tl.zeros((BLOCK_N, DIM_V), dtype=tl.float32)
    if DIM_REST > 0:
        dims_rest = DIM + tl.arange(0, DIM_REST)
        rest_inside = tl.full((1, DIM_REST), True, tl.int1) if HEAD_DIM == DIM + DIM_REST else (dims_rest < HEAD_DIM)[None, :]
        keys_rest = tl.load(k + place_k + (key_offsets + dims_rest[None, :]), mask=key_inside & rest_inside, other=0.0)
        rest_sums = tl.zeros((BLOCK_N, DIM_REST), dtype=tl.float32)

    low, whole, edge, end = query_tiles(first_key, SEQ_Q, window, CAUSAL, WINDOW, BLOCK_M, BLOCK_N)
    for member in range(GROUP):
        head = kv_head * GROUP + member
        q_head, do_head = q + head * SEQ_Q * HEAD_DIM, d_o + head * SEQ_Q * HEAD_DIM_V
        lse_head, delta_head = lse + head * LSE_ROWS, delta + head * LSE_ROWS
        for phase in tl.static_range(0 if CAUSAL else 1, 2 if EVEN else 3):
            if phase == 0:
                start, stop = low, whole
            elif phase == 1:
                start, stop = whole, edge
            else:
                start, stop = edge, end
            for row in range(start, stop, BLOCK_M):
                rows = row + lanes
                query_rows = q_head + row * HEAD_DIM + lanes[:, None] * HEAD_DIM
                do_pointers = do_head + row * HEAD_DIM_V + (lanes[:, None] * HEAD_DIM_V + dims_v[None, :])
                row_inside = tl.full((BLOCK_M, 1), True, tl.int1) if EVEN or phase == 1 else (rows < SEQ_Q)[:, None]
                queries = tl.load(query_rows + dims[None, :], mask=row_inside & dim_inside, other=0.0)
                scores = tl.dot(keys, tl.trans(queries), input_precision=PRECISION)
                if DIM_REST > 0:
                    queries_rest = tl.load(query_rows + dims_rest[None, :], mask=row_inside & rest_inside, other=0.0)
                    scores = tl.dot(keys_rest, tl.trans(queries_rest), scores, input_precision=PRECISION)
                weights = tl.exp2(scores * scale - tl.load(lse_head + row + lanes)[None, :])
                if phase == 0 or (phase == 2 and WINDOW):
                    seen = columns[:, None] - row <= lanes[None, :]
                    if WINDOW:
                        seen = seen & (columns[:, None] - row > lanes[None, :] - window)
                    weights = tl.where(seen, weights, 0.0)
                d_out = tl.load(do_pointers, mask=row_inside & dim_v_inside, other=0.0)
                value_sums = tl.dot(weights.to(d_out.dtype), d_out, value_sums, input_precision=PRECISION)
                d_weights = tl.dot(values, tl.trans(d_out), input_precision=PRECISION)
                d_scores = (weights * (d_weights - tl.load(delta_head + row + lanes)[None, :])).to(queries.dtype)
                key_sums = tl.dot(d_scores, queries, key_sums, input_precision=PRECISION)
                if DIM_REST > 0:
                    rest_sums = tl.dot(d_scores, queries_rest, rest_sums, input_precision=PRECISION)
    kind = d_k.dtype.element_ty
    tl.store(d_v + place_v + value_offsets, value_sums.to(kind), mask=key_inside & dim_v_inside)
    tl.store(d_k + place_k + (key_offsets + dims[None, :]), (key_sums * natural_scale).to(kind), mask=key_inside & dim_inside)
    if DIM_REST > 0:
        tl.store(d_k + place_k + (key_offsets + dims_rest[None, :]), (rest_sums * natural_scale).to(kind), mask=key_inside & rest_inside)


@jit
def queries_tile(  # type: ignore[no-untyped-def]
    q, k, v, d_o, lse, delta, d_q, SEQ_Q, SEQ_KV, ALL_HEADS, BLOCKS, TOGETHER, GROUP, LSE_ROWS, window, scale, natural_scale,
    HEAD_DIM: tl.constexpr, HEAD_DIM_V: tl.constexpr, DIM: tl.constexpr, DIM_REST: tl.constexpr, DIM_V: tl.constexpr,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, EVEN: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """dQ of BLOCK_M rows of one head. EVEN: the keys end with a tile."""
    batch_head, block = place(tl.program_id(0), ALL_HEADS, BLOCKS, TOGETHER)
    kv_head = batch_head // GROUP
    rows, lanes = block * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N)
    dims, dims_v = tl.arange(0, DIM), tl.arange(0, DIM_V)
    row_inside = (rows < SEQ_Q)[:, None]
    dim_inside = tl.full((1, DIM), True, tl.int1) if HEAD_DIM == DIM + DIM_REST else (dims < HEAD_DIM)[None, :]
    dim_v_inside = tl.full((1, DIM_V), True, tl.int1) if HEAD_DIM_V == DIM_V else (dims_v < HEAD_DIM_V)[None, :]
    place_q, query_offsets = (batch_head * SEQ_Q + block * BLOCK_M) * HEAD_DIM, tl.arange(0, BLOCK_M)[:, None] * HEAD_DIM
    k_head, v_head = k + kv_head * SEQ_KV * HEAD_DIM, v + kv_head * SEQ_KV * HEAD_DIM_V
    queries = tl.load(q + place_q + (query_offsets + dims[None, :]), mask=row_inside & dim_inside, other=0.0)
    do_tile = d_o + (batch_head * SEQ_Q + block * BLOCK_M) * HEAD_DIM_V
    d_out = tl.load(do_tile + (tl.arange(0, BLOCK_M)[:, None] * HEAD_DIM_V + dims_v[None, :]), mask=row_inside & dim_v_inside, other=0.0)
    row_lse, row_delta = tl.load(lse + batch_head * LSE_ROWS + rows), tl.load(delta + batch_head * LSE_ROWS + rows)
    query_sums = tl.zeros((BLOCK_M, DIM), dtype=tl.float32)
    if DIM_REST > 0:
        dims_rest = DIM + tl.arange(0, DIM_REST)
        rest_inside = tl.full((1, DIM_REST), True, tl.int1) if HEAD_DIM == DIM + DIM_REST else (dims_rest < HEAD_DIM)[None, :]
        queries_rest = tl.load(q + place_q + (query_offsets + dims_rest[None, :]), mask=row_inside & rest_inside, other=0.0)
        rest_sums = tl.zeros((BLOCK_M, DIM_REST), dtype=tl.float32)

    low, whole, edge, end = key_tiles(block * BLOCK_M, SEQ_KV, window, CAUSAL, WINDOW, BLOCK_M, BLOCK_N)
    for phase in tl.static_range(0 if WINDOW else 1, 2 if EVEN and not CAUSAL else 3):
        if phase == 0:
            start, stop = low, whole
        elif phase == 1:
            start, stop = whole, edge
        else:
            start, stop = edge, end
        for column in range(start, stop, BLOCK_N):
            columns = column + lanes
            key_inside = tl.full((BLOCK_N, 1), True, tl.int1) if EVEN or phase == 1 else (columns < SEQ_KV)[:, None]
            key_rows = k_head + column * HEAD_DIM + lanes[:, None] * HEAD_DIM
            value_pointers = v_head + column * HEAD_DIM_V + (lanes[:, None] * HEAD_DIM_V + dims_v[None, :])
            keys = tl.load(key_rows + dims[None, :], mask=key_inside & dim_inside, other=0.0)
            scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION)
            if DIM_REST > 0:
                keys_rest = tl.load(key_rows + dims_rest[None, :], mask=key_inside & rest_inside, other=0.0)
                scores = tl.dot(queries_rest, tl.trans(keys_rest), scores, input_precision=PRECISION)
            weights = tl.exp2(scores * scale - row_lse[:, None])
            if phase != 1:
                weights = tl.where(visible(rows[:, None], columns[None, :], SEQ_KV, window, CAUSAL, WINDOW), weights, 0.0)
            values = tl.load(value_pointers, mask=key_inside & dim_v_inside, other=0.0)
            d_weights = tl.dot(d_out, tl.trans(values), input_precision=PRECISION)
            d_scores = (weights * (d_weights - row_delta[:, None])).to(keys.dtype)
            query_sums = tl.dot(d_scores, keys, query_sums, input_precision=PRECISION)
            if DIM_REST > 0:
                rest_sums = tl.dot(d_scores, keys_rest, rest_sums, input_precision=PRECISION)
    kind = d_q.dtype.element_ty
    tl.store(d_q + place_q + (query_offsets + dims[None, :]), (query_sums * natural_scale).to(kind), mask=row_inside & dim_inside)
    if DIM_REST > 0:
        tl.store(d_q + place_q + (query_offsets + dims_rest[None, :]), (rest_sums * natural_scale).to(kind), mask=row_inside & rest_inside)


def launch_rows(case: AttentionCase, out: Array, d_o: Array, delta: Array) -> None:
    """delta (batch x heads x lse_rows) from O and dO."""
    fixed = {"HEAD_DIM_V": case.dim_v, "DIM_V": padded(case.dim_v), "BLOCK_M": DELTA_ROWS}
    grid = (-(-case.seq_q // DELTA_ROWS), case.batch * case.heads)
    row_sums()[grid](out, d_o, delta, case.seq_q, lse_rows(case), **fixed, **launch_options({}))


def _launch(case: AttentionCase, pass_over: str, arguments: tuple[Array, ...], config: Mapping[str, int]) -> None:
    """Run one of the two passes: ``keys`` or ``queries``; ``arguments`` from q to the gradients."""
    over_keys = pass_over == "keys"
    width, rest = cut(case.head_dim)
    heads = case.batch * (case.kv_heads if over_keys else case.heads)
    length, tile, across, across_tile = case.seq_q, config["BLOCK_M"], case.seq_kv, config["BLOCK_N"]
    if over_keys:
        length, tile, across, across_tile = across, across_tile, length, tile
    blocks = -(-length // tile)
    element_bytes = DTYPE_BYTES[case.dtype]
    together = heads_together(case, element_bytes)
    if over_keys:
        together = max(1, together // (case.heads // case.kv_heads))
    even = {"KEYS_EVEN": length % tile == 0} if over_keys else {}
    (keys_tile if over_keys else queries_tile)()[(blocks * heads,)](
        *arguments, case.seq_q, case.seq_kv, heads, blocks, together, case.heads // case.kv_heads, lse_rows(case), case.window or 0,
        case.scale * math.log2(math.e), case.scale,
        HEAD_DIM=case.head_dim, HEAD_DIM_V=case.dim_v, DIM=width, DIM_REST=rest, DIM_V=padded(case.dim_v),
        CAUSAL=case.causal, WINDOW=case.window is not None,
        EVEN=across % across_tile == 0 and case.window is None,
        PRECISION=dot_precision(case.dtype), **even, **constants(config), **launch_options(config),
    )  # fmt: skip


def prepare(case: AttentionCase, inputs: tuple[Array, ...], output: tuple[Array, ...]) -> Call:
    """Run the forward pass, choose tiles for both passes, and return the call that computes dQ, dK and dV."""
    import torch

    from .triton import choose_forward, launch, tuning_key

    *qkv, d_o = inputs
    out = torch.empty_like(d_o)
    padded_rows = {"size": (case.batch * case.heads, lse_rows(case)), "dtype": torch.float32, "device": d_o.device}
    lse, delta = torch.full(fill_value=math.inf, **padded_rows), torch.zeros(**padded_rows)
    launch(case, tuple(qkv), out, lse, choose_forward(case, tuple(qkv), torch.empty_like(d_o)))
    launch_rows(case, out, d_o, delta)
    read = (*qkv, d_o, lse, delta)
    spare = tuple(torch.empty_like(gradient) for gradient in output)

    def choose(name: str, table: Table, written: tuple[Array, ...]) -> dict[str, int]:
        configs = backward_configs(table, target_of(d_o), case)
        return tuned(f"triton.attention.{name}", tuning_key(case), configs, lambda c: _launch(case, name, (*read, *written), c))

    for_keys, for_queries = choose("keys", KEYS_GRADIENT, spare[1:]), choose("queries", QUERIES_GRADIENT, spare[:1])

    def run(gradients: tuple[Array, ...]) -> None:
        d_q, d_k, d_v = gradients
        launch_rows(case, out, d_o, delta)
        _launch(case, "keys", (*read, d_k, d_v), for_keys)
        _launch(case, "queries", (*read, d_q), for_queries)

    both: dict[str, Any] = {f"keys.{name}": value for name, value in for_keys.items()}
    return named(launcher(run, output), both | {f"queries.{name}": value for name, value in for_queries.items()})
