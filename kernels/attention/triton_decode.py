"""Decoding in Triton: the cache is split among programs, and a second kernel combines their parts (flash-decoding).

Dao, Haziza, Massa and Sizov, "Flash-Decoding for long-context inference" (2023): one query gives too few programs to keep a chip's memory
busy. The query heads that share a key/value head are the rows of one tile, so the cache is read once for all of them. The parts are
combined in a fixed order: the same inputs give the same bits. Run on an H200.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from ..triton_tools import (
    dot_precision,
    jit,
    launch_options,
    launcher,
    multiprocessors,
    named,
    refuses_target,
    refuses_tensor_dtype,
    target_of,
    widened,
)
from ..tuning import tuned
from .case import DecodeCase
from .triton_configs import decode_configs, shared_limit
from .triton_parts import cut, padded, soften

if TYPE_CHECKING:
    import triton.language as tl

MOST_SPLITS = 256
"""Parts of one row that a program of the second kernel holds the log-sum-exps of."""
COMBINED_AT_ONCE = 8
"""Parts that it adds in one step; more would not fit its registers beside wide values."""


@jit
def part(  # type: ignore[no-untyped-def]
    q, k, v, o, lse, ROWS, SEQ_KV, CHUNK, scale,
    HEAD_DIM: tl.constexpr, HEAD_DIM_V: tl.constexpr, DIM: tl.constexpr, DIM_REST: tl.constexpr, DIM_V: tl.constexpr,
    SPLIT: tl.constexpr, PRECISION: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """BLOCK_M of the ROWS queries of one key/value head over CHUNK keys; grid: chunks, blocks of rows, key/value heads.

    Writes the output itself where there is one chunk, else it in fp32, normalised, and its log-sum-exp (base 2):
    ``o`` is kv heads x chunks x rows x HEAD_DIM_V, ``lse`` kv heads x chunks x rows.
    """
    chunk, chunks = tl.program_id(0), tl.num_programs(0)
    kv_head = tl.program_id(2).to(tl.int64)
    rows, lanes = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N)
    dims, dims_v = tl.arange(0, DIM), tl.arange(0, DIM_V)
    k_head, v_head = k + kv_head * SEQ_KV * HEAD_DIM, v + kv_head * SEQ_KV * HEAD_DIM_V
    row_inside, dim_inside, dim_v_inside = (rows < ROWS)[:, None], (dims < HEAD_DIM)[None, :], (dims_v < HEAD_DIM_V)[None, :]
    q_rows = q + kv_head * ROWS * HEAD_DIM + rows[:, None] * HEAD_DIM
    queries = tl.load(q_rows + dims[None, :], mask=row_inside & dim_inside, other=0.0)
    if DIM_REST > 0:
        dims_rest = DIM + tl.arange(0, DIM_REST)
        rest_inside = (dims_rest < HEAD_DIM)[None, :]
        queries_rest = tl.load(q_rows + dims_rest[None, :], mask=row_inside & rest_inside, other=0.0)

    top = tl.full((BLOCK_M,), float("-inf"), dtype=tl.float32)
    weight_sum = tl.zeros((BLOCK_M,), dtype=tl.float32)
    total = tl.zeros((BLOCK_M, DIM_V), dtype=tl.float32)
    for column in range(chunk * CHUNK, min(SEQ_KV, (chunk + 1) * CHUNK), BLOCK_N):
        columns = column + lanes
        key_inside = (columns < SEQ_KV)[:, None]
        key_rows = k_head + columns.to(tl.int64)[:, None] * HEAD_DIM
        keys = tl.load(key_rows + dims[None, :], mask=key_inside & dim_inside, other=0.0)
        scores = tl.dot(queries, tl.trans(keys), input_precision=PRECISION)
        if DIM_REST > 0:
            keys_rest = tl.load(key_rows + dims_rest[None, :], mask=key_inside & rest_inside, other=0.0)
            scores = tl.dot(queries_rest, tl.trans(keys_rest), scores, input_precision=PRECISION)
        scores = tl.where((columns < SEQ_KV)[None, :], scores, float("-inf"))
        weights, shrink, top, weight_sum = soften(scores, top, weight_sum, scale, False)
        value_rows = v_head + columns.to(tl.int64)[:, None] * HEAD_DIM_V
        values = tl.load(value_rows + dims_v[None, :], mask=key_inside & dim_v_inside, other=0.0)
        total = tl.dot(weights.to(values.dtype), values, total * shrink[:, None], input_precision=PRECISION)
    out_rows = (kv_head * chunks + chunk) * ROWS + rows
    out = o + out_rows[:, None] * HEAD_DIM_V + dims_v[None, :]
    tl.store(out, (total / weight_sum[:, None]).to(o.dtype.element_ty), mask=row_inside & dim_v_inside)
    if SPLIT:
        tl.store(lse + out_rows, top + tl.log2(weight_sum), mask=rows < ROWS)


@jit
def combine(  # type: ignore[no-untyped-def]
    parts, lse, o, ROWS, CHUNKS,
    HEAD_DIM_V: tl.constexpr, DIM_V: tl.constexpr, MOST: tl.constexpr, AT_ONCE: tl.constexpr,
):  # fmt: skip
    """One row of the output: its parts, each weighted with the share that its log-sum-exp has. Grid: rows, key/value heads."""
    row, kv_head = tl.program_id(0), tl.program_id(1).to(tl.int64)
    first = kv_head * CHUNKS * ROWS + row
    chunks, dims = tl.arange(0, MOST), tl.arange(0, DIM_V)
    sizes = tl.load(lse + first + chunks * ROWS, mask=chunks < CHUNKS, other=float("-inf"))
    top = tl.max(sizes, 0)
    weight_sum = tl.sum(tl.exp2(sizes - top), 0)
    total = tl.zeros((DIM_V,), dtype=tl.float32)
    for start in range(0, CHUNKS, AT_ONCE):
        some = start + tl.arange(0, AT_ONCE)
        shares = tl.exp2(tl.load(lse + first + some * ROWS, mask=some < CHUNKS, other=float("-inf")) - top) / weight_sum
        inside = (some < CHUNKS)[:, None] & (dims < HEAD_DIM_V)[None, :]
        values = tl.load(parts + (first + some * ROWS)[:, None] * HEAD_DIM_V + dims[None, :], mask=inside, other=0.0)
        total += tl.sum(values * shares[:, None], 0)
    tl.store(o + (kv_head * ROWS + row) * HEAD_DIM_V + dims, total.to(o.dtype.element_ty), mask=dims < HEAD_DIM_V)


def chunk_keys(seq_kv: int, block_n: int, row_programs: int, wanted_programs: int) -> int:
    """Keys of one chunk: whole tiles, so many that the chunks of all rows are about the wanted number of programs.

    >>> chunk_keys(seq_kv=8192, block_n=64, row_programs=8, wanted_programs=128)
    512
    >>> chunk_keys(seq_kv=100, block_n=64, row_programs=1000, wanted_programs=128)
    128
    """
    tiles = -(-seq_kv // block_n)
    chunks = min(tiles, MOST_SPLITS, max(1, wanted_programs // row_programs))
    return -(-tiles // chunks) * block_n


def launch(case: DecodeCase, inputs: tuple[Array, ...], out: Array, config: Mapping[str, int]) -> None:
    """Run both kernels, or the first alone where one chunk is enough."""
    import torch

    rows, kv_heads = case.heads // case.kv_heads * case.seq_q, case.batch * case.kv_heads
    blocks = -(-rows // config["BLOCK_M"])
    chunk = chunk_keys(case.seq_kv, config["BLOCK_N"], blocks * kv_heads, config["PROGRAMS"] * multiprocessors(out))
    chunks = -(-case.seq_kv // chunk)
    width, rest = cut(case.head_dim)
    values = {"HEAD_DIM_V": case.dim_v, "DIM_V": padded(case.dim_v)}
    parts = lse = out
    if chunks > 1:  # torch's allocator gives the same memory back each time
        parts = torch.empty((kv_heads, chunks, rows, case.dim_v), dtype=torch.float32, device=out.device)
        lse = torch.empty((kv_heads, chunks, rows), dtype=torch.float32, device=out.device)
    part()[(chunks, blocks, kv_heads)](
        *inputs, parts, lse, rows, case.seq_kv, chunk, case.scale * math.log2(math.e),
        **values, HEAD_DIM=case.head_dim, DIM=width, DIM_REST=rest, SPLIT=chunks > 1, PRECISION=dot_precision(case.dtype),
        BLOCK_M=config["BLOCK_M"], BLOCK_N=config["BLOCK_N"], **launch_options(config),
    )  # fmt: skip
    if chunks > 1:
        most = 1 << (chunks - 1).bit_length()
        combine()[(rows, kv_heads)](parts, lse, out, rows, chunks, **values, MOST=most, AT_ONCE=COMBINED_AT_ONCE, **launch_options({}))


def refuses(case: DecodeCase, target: Target) -> str | None:
    reason = refuses_target(target) or refuses_tensor_dtype(case.dtype, target)
    if reason is None and not decode_configs(case, target):
        needed = f"head_dim {case.head_dim} and {case.dim_v} of {case.dtype}"
        return f"no tile of {needed} fits {shared_limit(target) // 1024} KiB of shared memory without spilling registers"
    return reason


@kernel("decode", "triton", "triton.decode", refuses)
def decode(case: DecodeCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    inputs = widened(inputs)
    spare = output.new_empty(output.shape)
    names = ("dtype", "batch", "heads", "kv_heads", "seq_q", "seq_kv", "head_dim")
    key: dict[str, Any] = {name: getattr(case, name) for name in names} | {"head_dim_v": case.dim_v}
    config = tuned("triton.decode", key, decode_configs(case, target_of(output)), lambda config: launch(case, inputs, spare, config))
    return named(launcher(lambda out: launch(case, inputs, out, config), output), config)
