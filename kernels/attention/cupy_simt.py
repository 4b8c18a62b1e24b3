"""Attention forward without tensor cores in our CUDA C++ (``simt.cu``), for fp32 and for chips before sm_70. Run on an H200."""

from __future__ import annotations

import itertools

import numpy as np

from ..arrays import Array, Arrays
from ..cuda.program import Program
from ..kernel import Call, Target, kernel
from .case import AttentionCase
from .cupy_flash import SEES_ALL

DTYPES = ("fp32", "fp16")
BKV = 32
WIDEST = 128
"""Columns of keys or values: with more, queries and keys do not fit the 48 KiB of shared memory that a block of sm_60 has."""


def program(case: AttentionCase) -> Program:
    """The CUDA program for a case."""
    dim, dim_v = -(-case.head_dim // 4) * 4, -(-case.dim_v // 64) * 64
    bq = 64 if max(dim, dim_v) <= 64 else 32
    defines = (
        ("FP16", int(case.dtype == "fp16")),
        ("DIM", dim),
        ("DIM_V", dim_v),
        ("CAUSAL", int(case.causal)),
        ("BQ", bq),
        ("BKV", BKV),
    )
    shared = 4 * (bq * (dim + 4) + BKV * (max(dim, dim_v) + 4) + bq * (BKV + 4))
    return Program("attention", ("attention/simt.cu",), defines, bq // 4 * 16, shared)


def refuses(case: AttentionCase, target: Target) -> str | None:
    if target.kind != "cuda":
        return "this CUDA C++ is for NVIDIA's chips only; use cupy.attention.unfused"
    if case.backward:
        return "this kernel computes attention forward only"
    if case.dtype not in DTYPES:
        return f"no attention without tensor cores for {case.dtype}; it computes {', '.join(DTYPES)}"
    if max(case.head_dim, case.dim_v) > WIDEST:
        return f"heads wider than {WIDEST} do not fit the shared memory of all chips; use cupy.attention.unfused"
    return None


@kernel("attention", "cupy", "cupy.attention.simt", refuses)
def attention(case: AttentionCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    chosen, heads = program(case), case.batch * case.heads
    queries = dict(chosen.defines)["BQ"]
    assert isinstance(queries, int)
    launch, blocks = chosen.load(), -(-case.seq_q // queries) * heads
    sizes = (heads, case.group, case.seq_q, case.seq_kv, case.head_dim, case.dim_v, case.window or SEES_ALL)
    arguments = (*inputs, output, *(np.int32(size) for size in sizes), np.float32(case.scale))

    def run() -> Array:
        launch(blocks, arguments)
        return output

    return run


def every_program() -> list[Program]:
    """Variants for the compiler's proof: common and ragged widths."""
    found = []
    for dtype, (dim, dim_v) in itertools.product(DTYPES, ((64, 64), (128, 128), (80, 80), (65, 63))):
        case = AttentionCase(
            batch=1, heads=1, kv_heads=1, seq_q=64, seq_kv=64, head_dim=dim, head_dim_v=dim_v, causal=dtype == "fp16", dtype=dtype
        )
        found.append(program(case))
    return found
