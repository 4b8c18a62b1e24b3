"""Attention in plain NumPy, unfused: for machines without torch."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from .case import AttentionCase


def refuses(case: AttentionCase, target: Target) -> str | None:
    if target.kind != "cpu":
        return "NumPy computes on the CPU only"
    if case.dtype not in ("fp64", "fp32"):
        return f"NumPy has a BLAS for fp64 and fp32 only, not for {case.dtype}"
    return "no backward kernel of NumPy yet" if case.backward else None


@kernel("decode", "numpy", "numpy.attention.unfused", refuses)
@kernel("attention", "numpy", "numpy.attention.unfused", refuses)
def attention(case: AttentionCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    q, k, v = inputs
    scale = q.dtype.type(case.scale)
    scores = np.empty((case.seq_q, case.seq_kv), dtype=q.dtype)  # of one head, so that it can stay in cache
    future = np.triu(np.ones((case.seq_q, case.seq_kv), dtype=bool), k=1) if case.causal else None
    if case.window is not None:
        future |= np.tri(case.seq_q, k=-case.window, dtype=bool)
    group = case.group

    def run() -> Array:
        for b in range(case.batch):
            for head in range(case.heads):
                np.matmul(q[b, head], k[b, head // group].T, out=scores)
                np.multiply(scores, scale, out=scores)
                if future is not None:
                    scores[future] = -np.inf
                np.subtract(scores, scores.max(axis=1, keepdims=True), out=scores)
                np.exp(scores, out=scores)
                np.matmul(scores, v[b, head // group], out=output[b, head])
                output[b, head] /= scores.sum(axis=1, keepdims=True)
        return output

    return run
