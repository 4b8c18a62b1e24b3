"""Attention in plain NumPy, unfused: for machines without torch."""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Arrays, Output
from ..kernel import Call, Target, kernel
from .case import AttentionCase


def refuses(case: AttentionCase, target: Target) -> str | None:
    if target.kind != "cpu":
        return "NumPy computes on the CPU only"
    if case.dtype not in ("fp64", "fp32"):
        return f"NumPy has a BLAS for fp64 and fp32 only, not for {case.dtype}"
    return None


def hidden_keys(case: AttentionCase) -> np.ndarray | None:
    """Which keys (columns) each query (row) must not see; None: it sees all."""
    if not case.causal:
        return None
    hidden = np.triu(np.ones((case.seq_q, case.seq_kv), dtype=bool), k=1)
    if case.window is not None:
        hidden |= np.tri(case.seq_q, k=-case.window, dtype=bool)
    return hidden


@kernel("attention", "numpy", "numpy.attention.unfused", refuses)
def attention(case: AttentionCase, arrays: Arrays, inputs: tuple[Array, ...], output: Output) -> Call:
    return _backward(case, inputs, output) if case.backward else _forward(case, inputs, output)


def _forward(case: AttentionCase, inputs: tuple[Array, ...], output: Array) -> Call:
    q, k, v = inputs
    scale = q.dtype.type(case.scale)
    scores = np.empty((case.seq_q, case.seq_kv), dtype=q.dtype)  # of one head, so that it can stay in cache
    hidden = hidden_keys(case)

    def run() -> Array:
        for b in range(case.batch):
            for head in range(case.heads):
                np.matmul(q[b, head], k[b, head // case.group].T, out=scores)
                np.multiply(scores, scale, out=scores)
                if hidden is not None:
                    scores[hidden] = -np.inf
                np.subtract(scores, scores.max(axis=1, keepdims=True), out=scores)
                np.exp(scores, out=scores)
                np.matmul(scores, v[b, head // case.group], out=output[b, head])
                output[b, head] /= scores.sum(axis=1, keepdims=True)
        return output

    return run


def _backward(case: AttentionCase, inputs: tuple[Array, ...], output: tuple[Array, ...]) -> Call:
    """The weights are computed again from the log-sum-exp of each row, as fused kernels do."""
    (q, k, v, d_o), (dq, dk, dv) = inputs, output
    scale, hidden = q.dtype.type(case.scale), hidden_keys(case)
    weights = np.empty((case.seq_q, case.seq_kv), dtype=q.dtype)
    d_scores = np.empty_like(weights)
    logsumexp = np.empty((case.batch, case.heads, case.seq_q, 1), dtype=q.dtype)
    delta = np.empty_like(logsumexp)

    def scores(b: int, head: int) -> None:
        np.matmul(q[b, head], k[b, head // case.group].T, out=weights)
        np.multiply(weights, scale, out=weights)
        if hidden is not None:
            weights[hidden] = -np.inf

    for b in range(case.batch):
        for head in range(case.heads):
            scores(b, head)
            top = weights.max(axis=1, keepdims=True)
            np.exp(np.subtract(weights, top, out=weights), out=weights)
            total = weights.sum(axis=1, keepdims=True)
            logsumexp[b, head] = top + np.log(total)
            delta[b, head] = (d_o[b, head] * (weights @ v[b, head // case.group] / total)).sum(axis=1, keepdims=True)

    def run() -> tuple[Array, ...]:
        for b in range(case.batch):
            for head in range(case.heads):
                kv_head = head // case.group
                scores(b, head)
                np.exp(np.subtract(weights, logsumexp[b, head], out=weights), out=weights)
                np.matmul(d_o[b, head], v[b, kv_head].T, out=d_scores)
                np.subtract(d_scores, delta[b, head], out=d_scores)
                np.multiply(d_scores, weights, out=d_scores)
                np.multiply(d_scores, scale, out=d_scores)
                np.matmul(d_scores, k[b, kv_head], out=dq[b, head])
                if head % case.group == 0:
                    np.matmul(d_scores.T, q[b, head], out=dk[b, kv_head])
                    np.matmul(weights.T, d_o[b, head], out=dv[b, kv_head])
                else:
                    dk[b, kv_head] += d_scores.T @ q[b, head]
                    dv[b, kv_head] += weights.T @ d_o[b, head]
        return output

    return run


@kernel("decode", "numpy", "numpy.attention.unfused", refuses)
def decode(case: AttentionCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    """Query heads that share a key/value head are rows of one matrix, so that the cache is read once for all of them."""
    q, k, v = inputs
    queries = q.reshape(case.batch, case.kv_heads, case.group * case.seq_q, case.head_dim)
    grouped_output = output.reshape(case.batch, case.kv_heads, case.group * case.seq_q, case.dim_v)
    scale = q.dtype.type(case.scale)
    scores = np.empty((case.group * case.seq_q, case.seq_kv), dtype=q.dtype)

    def run() -> Array:
        for b in range(case.batch):
            for kv_head in range(case.kv_heads):
                np.matmul(queries[b, kv_head], k[b, kv_head].T, out=scores)
                np.multiply(scores, scale, out=scores)
                np.subtract(scores, scores.max(axis=1, keepdims=True), out=scores)
                np.exp(scores, out=scores)
                np.matmul(scores, v[b, kv_head], out=grouped_output[b, kv_head])
                grouped_output[b, kv_head] /= scores.sum(axis=1, keepdims=True)
        return output

    return run
