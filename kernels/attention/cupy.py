"""Attention composed of cupy.matmul and a softmax, unfused: the scores travel through memory. Not yet run on a GPU."""

from __future__ import annotations

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from .case import AttentionCase


def refuses(case: AttentionCase, target: Target) -> str | None:
    if target.kind not in ("cuda", "rocm"):
        return "CuPy computes on CUDA and ROCm devices only"
    if case.dtype not in ("fp64", "fp32", "fp16"):
        return f"cupy.matmul calls a BLAS for fp64, fp32 and fp16 only, not for {case.dtype}; use the torch backend"
    return None


@kernel("attention", "cupy", "cupy.attention.unfused", refuses)
def attention(case: AttentionCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import cupy

    # Query heads that share a key/value head are rows of one longer matrix, so that no key is copied.
    q, k, v = inputs
    group_rows = case.heads // case.kv_heads * case.seq_q
    queries = q.reshape(case.batch, case.kv_heads, group_rows, case.head_dim)
    grouped_output = output.reshape(queries.shape)
    keys = k.swapaxes(-1, -2)
    scale = q.dtype.type(case.scale)
    future = cupy.arange(case.seq_kv) > (cupy.arange(group_rows) % case.seq_q)[:, None] if case.causal else None

    def run() -> Array:
        scores = cupy.matmul(queries, keys)
        scores *= scale
        if future is not None:
            scores[..., future] = -cupy.inf
        scores -= scores.max(axis=-1, keepdims=True)
        cupy.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        cupy.matmul(scores, v, out=grouped_output)
        return output

    return run
