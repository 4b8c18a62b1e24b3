"""Attention forward composed of cupy.matmul and a softmax, unfused: the scores travel through memory. Run on an H200.

cupy.matmul copies the transposed keys before each product: that is part of what this way of computing costs.
"""

from __future__ import annotations

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from .case import AttentionCase


def refuses(case: AttentionCase, target: Target) -> str | None:
    if target.kind not in ("cuda", "rocm"):
        return "CuPy computes on CUDA and ROCm devices only"
    if case.backward:
        return "composed of cupy.matmul there is attention forward only; use the torch backend"
    if case.dtype not in ("fp64", "fp32", "fp16"):
        return f"cupy.matmul calls a BLAS for fp64, fp32 and fp16 only, not for {case.dtype}; use the torch backend"
    return None


@kernel("attention", "cupy", "cupy.attention.unfused", refuses)
def attention(case: AttentionCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import cupy

    # Query heads that share a key/value head are rows of one longer matrix, so that no key is copied for each of them.
    q, k, v = inputs
    group_rows = case.group * case.seq_q
    queries = q.reshape(case.batch, case.kv_heads, group_rows, case.head_dim)
    grouped_output = output.reshape(case.batch, case.kv_heads, group_rows, case.dim_v)
    keys = k.swapaxes(-1, -2)
    scale = q.dtype.type(case.scale)
    hidden = None
    if case.causal:
        key, query = cupy.arange(case.seq_kv), (cupy.arange(group_rows) % case.seq_q)[:, None]
        hidden = key > query
        if case.window is not None:
            hidden |= key <= query - case.window

    def run() -> Array:
        scores = cupy.matmul(queries, keys)
        scores *= scale
        if hidden is not None:
            scores[..., hidden] = -cupy.inf
        scores -= scores.max(axis=-1, keepdims=True)
        cupy.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        cupy.matmul(scores, v, out=grouped_output)
        return output

    return run
