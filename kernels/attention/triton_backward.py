"""The gradients of attention in Triton: dK and dV tile of keys by tile of keys, dQ tile of queries by tile of queries.

Dao, "FlashAttention-2" (arXiv 2307.08691), algorithm 2, with the loops apart: no program adds to what another one writes, so there are no
atomics and the same inputs give the same bits, for 7 matrix products instead of 5 (both passes compute the scores and dP). All that is
timed: the sums over each row of O * dO, both passes. What the loops read comes through pointers or, on Hopper and later, through tensor
descriptors (TMA). Run on an H200.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..arrays import Array
from ..backends import interpreting
from ..case import DTYPE_BYTES
from ..kernel import Call
from ..triton_tools import constants, dot_precision, jit, launch_options, launcher, named, target_of
from ..tuning import tuned
from .case import AttentionCase
from .triton_backward_configs import BACKWARD, BACKWARD_TMA, backward_configs
from .triton_cost import backward_cost
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
    q, q_rest, k, v, d_o, lse, delta, d_k, d_v, SEQ_Q, SEQ_KV, ALL_HEADS, BLOCKS, TOGETHER, GROUP, LSE_ROWS, window, scale, natural_scale,
    HEAD_DIM: tl.constexpr, HEAD_DIM_V: tl.constexpr, DIM: tl.constexpr, DIM_REST: tl.constexpr, DIM_V: tl.constexpr,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, EVEN: tl.constexpr, KEYS_EVEN: tl.constexpr, TMA: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """dK and dV of BLOCK_N keys: over all query heads that read them, over tiles of BLOCK_M queries.

    Scores are transposed, keys by queries, so that they are the left operand of both sums and stay in registers. ``scale`` includes
    log2(e), ``natural_scale`` does not. Queries past the end have an infinite log-sum-exp, so they weigh nothing.
    EVEN: the queries end with a tile; KEYS_EVEN: so do the keys. TMA: ``q``, ``q_rest`` and ``d_o`` are descriptors of matrices with one
    row for each position of each head.

    One loop goes over all tiles of all query heads, so loads run ahead from one head into the next. It masks every tile where a mask is:
    with loops of their own for masked and whole tiles, the addresses of all of them took registers at once, and the largest tiles spilled.
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

    low, end = query_tiles(first_key, SEQ_Q, window, CAUSAL, WINDOW, BLOCK_M, BLOCK_N)
    tiles = tl.cdiv(end - low, BLOCK_M)
    for step in range(tiles * GROUP):
        head, row = kv_head * GROUP + step // tiles, low + step % tiles * BLOCK_M
        if TMA:
            matrix_row = (head * SEQ_Q).to(tl.int32) + row
            queries = q.load([matrix_row, 0])
        else:
            query_rows = q + (head * SEQ_Q + row) * HEAD_DIM + lanes[:, None] * HEAD_DIM
            row_inside = tl.full((BLOCK_M, 1), True, tl.int1) if EVEN else (row + lanes < SEQ_Q)[:, None]
            queries = tl.load(query_rows + dims[None, :], mask=row_inside & dim_inside, other=0.0)
        scores = tl.dot(keys, tl.trans(queries), input_precision=PRECISION)
        if DIM_REST > 0:
            if TMA:
                queries_rest = q_rest.load([matrix_row, DIM])
            else:
                queries_rest = tl.load(query_rows + dims_rest[None, :], mask=row_inside & rest_inside, other=0.0)
            scores = tl.dot(keys_rest, tl.trans(queries_rest), scores, input_precision=PRECISION)
        weights = tl.exp2(scores * scale - tl.load(lse + head * LSE_ROWS + row + lanes)[None, :])
        if CAUSAL:
            seen = columns[:, None] - row <= lanes[None, :]
            if WINDOW:
                seen = seen & (columns[:, None] - row > lanes[None, :] - window)
            weights = tl.where(seen, weights, 0.0)
        if TMA:
            d_out = d_o.load([matrix_row, 0])
        else:
            do_pointers = d_o + (head * SEQ_Q + row) * HEAD_DIM_V + (lanes[:, None] * HEAD_DIM_V + dims_v[None, :])
            d_out = tl.load(do_pointers, mask=row_inside & dim_v_inside, other=0.0)
        d_weights = tl.dot(values, tl.trans(d_out), input_precision=PRECISION)
        d_scores = (weights * (d_weights - tl.load(delta + head * LSE_ROWS + row + lanes)[None, :])).to(queries.dtype)
        # Here the weights are narrow at last: before d_weights they would be in registers twice.
        value_sums = tl.dot(weights.to(d_out.dtype), d_out, value_sums, input_precision=PRECISION)
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
    q, k, k_rest, v, d_o, lse, delta, d_q, SEQ_Q, SEQ_KV, ALL_HEADS, BLOCKS, TOGETHER, GROUP, LSE_ROWS, window, scale, natural_scale,
    HEAD_DIM: tl.constexpr, HEAD_DIM_V: tl.constexpr, DIM: tl.constexpr, DIM_REST: tl.constexpr, DIM_V: tl.constexpr,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, EVEN: tl.constexpr, TMA: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """dQ of BLOCK_M rows of one head. EVEN: the keys end with a tile. TMA: as in ``keys_tile``, of ``k``, ``k_rest`` and ``v``."""
    batch_head, block = place(tl.program_id(0), ALL_HEADS, BLOCKS, TOGETHER)
    kv_head = batch_head // GROUP
    rows, lanes = block * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N)
    dims, dims_v = tl.arange(0, DIM), tl.arange(0, DIM_V)
    row_inside = (rows < SEQ_Q)[:, None]
    dim_inside = tl.full((1, DIM), True, tl.int1) if HEAD_DIM == DIM + DIM_REST else (dims < HEAD_DIM)[None, :]
    dim_v_inside = tl.full((1, DIM_V), True, tl.int1) if HEAD_DIM_V == DIM_V else (dims_v < HEAD_DIM_V)[None, :]
    place_q, query_offsets = (batch_head * SEQ_Q + block * BLOCK_M) * HEAD_DIM, tl.arange(0, BLOCK_M)[:, None] * HEAD_DIM
    if TMA:
        kv_row = (kv_head * SEQ_KV).to(tl.int32)
    else:
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

    edge, end = key_tiles(block * BLOCK_M, SEQ_KV, window, CAUSAL, WINDOW, BLOCK_M, BLOCK_N)
    for masked in tl.static_range(1 if WINDOW else 0, 1 if EVEN and not CAUSAL else 2):
        if masked:
            start, stop = edge, end
        else:
            start, stop = 0, edge
        for column in range(start, stop, BLOCK_N):
            columns = column + lanes
            if TMA:
                keys = k.load([kv_row + column, 0])
            else:
                key_inside = tl.full((BLOCK_N, 1), True, tl.int1) if EVEN or not masked else (columns < SEQ_KV)[:, None]
                key_rows = k_head + column * HEAD_DIM + lanes[:, None] * HEAD_DIM
                keys = tl.load(key_rows + dims[None, :], mask=key_inside & dim_inside, other=0.0)
            scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION)
            if DIM_REST > 0:
                if TMA:
                    keys_rest = k_rest.load([kv_row + column, DIM])
                else:
                    keys_rest = tl.load(key_rows + dims_rest[None, :], mask=key_inside & rest_inside, other=0.0)
                scores = tl.dot(queries_rest, tl.trans(keys_rest), scores, input_precision=PRECISION)
            weights = tl.exp2(scores * scale - row_lse[:, None])
            if masked:
                weights = tl.where(visible(rows[:, None], columns[None, :], SEQ_KV, window, CAUSAL, WINDOW), weights, 0.0)
            if TMA:
                values = v.load([kv_row + column, 0])
            else:
                value_pointers = v_head + column * HEAD_DIM_V + (lanes[:, None] * HEAD_DIM_V + dims_v[None, :])
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


def _read(case: AttentionCase, over_keys: bool, inputs: tuple[Array, ...], config: Mapping[str, int], tma: bool) -> tuple[Any, ...]:
    """The arguments of a pass from q to d_o: what its loop reads as descriptors, and the rest of a head again, where there is one."""
    q, k, v, d_o = inputs
    if tma:
        from triton.tools.tensor_descriptor import TensorDescriptor

        width, rest = cut(case.head_dim)
        block = config["BLOCK_M" if over_keys else "BLOCK_N"]
        heads, beside = (q, d_o) if over_keys else (k, v)
        heads, beside = heads.view(-1, case.head_dim), beside.view(-1, case.dim_v)
        left = TensorDescriptor.from_tensor(heads, [block, width])
        right = TensorDescriptor.from_tensor(heads, [block, rest]) if rest else None
        beside = TensorDescriptor.from_tensor(beside, [block, padded(case.dim_v)])
        return (left, right, k, v, beside) if over_keys else (q, left, right, beside, d_o)
    return (q, q, k, v, d_o) if over_keys else (q, k, k, v, d_o)


def _launch(
    case: AttentionCase, pass_over: str, inputs: tuple[Any, ...], rows: tuple[Array, ...], written: tuple[Array, ...],
    config: Mapping[str, int], tma: bool,
) -> None:  # fmt: skip
    """Run one of the two passes, over ``keys`` or ``queries``, with ``inputs`` as ``_read`` makes them; ``rows``: lse and delta."""
    over_keys = pass_over == "keys"
    width, rest = cut(case.head_dim)
    heads = case.batch * (case.kv_heads if over_keys else case.heads)
    length, tile, across, across_tile = case.seq_q, config["BLOCK_M"], case.seq_kv, config["BLOCK_N"]
    if over_keys:
        length, tile, across, across_tile = across, across_tile, length, tile
    blocks = -(-length // tile)
    together = heads_together(case, DTYPE_BYTES[case.dtype])
    if over_keys:
        together = max(1, together // case.group)
    even = {"KEYS_EVEN": length % tile == 0} if over_keys else {}
    (keys_tile if over_keys else queries_tile)()[(blocks * heads,)](
        *inputs, *rows, *written, case.seq_q, case.seq_kv, heads, blocks, together, case.group, lse_rows(case), case.window or 0,
        case.scale * math.log2(math.e), case.scale,
        HEAD_DIM=case.head_dim, HEAD_DIM_V=case.dim_v, DIM=width, DIM_REST=rest, DIM_V=padded(case.dim_v),
        CAUSAL=case.causal, WINDOW=case.window is not None, EVEN=across % across_tile == 0, TMA=tma,
        PRECISION=dot_precision(case.dtype), **even, **constants(config), **launch_options(config),
    )  # fmt: skip


def prepare_gradients(case: AttentionCase, inputs: tuple[Array, ...], output: tuple[Array, ...], tma: bool = False) -> Call:
    """Run the forward pass, choose tiles for both passes, and return the call that computes dQ, dK and dV."""
    import torch

    from .triton import choose_forward, launch, tuning_key

    *qkv, d_o = inputs
    out = torch.empty_like(d_o)
    padded_rows = {"size": (case.batch * case.heads, lse_rows(case)), "dtype": torch.float32, "device": d_o.device}
    lse, delta = torch.full(fill_value=math.inf, **padded_rows), torch.zeros(**padded_rows)
    launch(case, tuple(qkv), out, lse, choose_forward(case, tuple(qkv), torch.empty_like(d_o)))
    launch_rows(case, out, d_o, delta)
    rows = (lse, delta)
    spare = tuple(torch.empty_like(gradient) for gradient in output)
    target = target_of(d_o)
    tables = BACKWARD_TMA if tma and not interpreting() else BACKWARD

    def choose(name: str, written: tuple[Array, ...]) -> dict[str, int]:
        def run(config: Mapping[str, int]) -> None:
            _launch(case, name, _read(case, name == "keys", inputs, config, tma), rows, written, config, tma)

        kernel = f"triton.attention{'.tma' if tma else ''}.{name}"
        configs = backward_configs(tables, name, target, case)
        return tuned(kernel, tuning_key(case), configs, run, lambda config: backward_cost(case, name, config, target))

    for_keys, for_queries = choose("keys", spare[1:]), choose("queries", spare[:1])
    read_keys, read_queries = _read(case, True, inputs, for_keys, tma), _read(case, False, inputs, for_queries, tma)

    def run(gradients: tuple[Array, ...]) -> None:
        d_q, d_k, d_v = gradients
        launch_rows(case, out, d_o, delta)
        _launch(case, "keys", read_keys, rows, (d_k, d_v), for_keys, tma)
        _launch(case, "queries", read_queries, rows, (d_q,), for_queries, tma)

    both: dict[str, Any] = {f"keys.{name}": value for name, value in for_keys.items()}
    return named(launcher(run, output), both | {f"queries.{name}": value for name, value in for_queries.items()})
