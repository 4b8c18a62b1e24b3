"""Whole attention and its gradients in float64, with the mistakes that a kernel may make, for the tests of the checks."""

from __future__ import annotations

import numpy as np

from chipassay.kernels.attention import AttentionCase


def _weights(case: AttentionCase, q: np.ndarray, k: np.ndarray, scale: float, diagonal: int, window: int | None) -> np.ndarray:
    """softmax(Q K' scale); ``diagonal`` moves the causal mask, ``window`` replaces the case's. A row that sees nothing is zero."""
    scores = q @ k.swapaxes(-1, -2) * scale
    if case.causal:
        i, j = np.arange(case.seq_q)[:, None], np.arange(case.seq_kv)
        seen = j <= i + diagonal
        if window is not None:
            seen &= j > i - window
        scores = np.where(seen, scores, -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(top), top, 0.0))
    return np.divide(weights, weights.sum(axis=-1, keepdims=True), out=np.zeros_like(weights), where=weights > 0)


def output(
    case: AttentionCase, inputs: tuple[np.ndarray, ...], *, scale: float | None = None, diagonal: int = 0, window: int | None = None
) -> np.ndarray:
    q, k, v = (x.astype(np.float64) for x in inputs[:3])
    k, v = (np.repeat(x, case.group, axis=1) for x in (k, v))
    return _weights(case, q, k, case.scale if scale is None else scale, diagonal, case.window if window is None else window) @ v


def gradients(
    case: AttentionCase,
    inputs: tuple[np.ndarray, ...],
    *,
    diagonal: int = 0,
    window: int | None = None,
    dq_factor: float = 1.0,
    dk_factor: float = 1.0,
    delta_in_dq: bool = True,
    delta_in_dk: bool = True,
    queries_left_out: slice = slice(0, 0),
    keys_left_out: slice = slice(0, 0),
    summed: str = "group",
) -> tuple[np.ndarray, ...]:
    """dQ, dK, dV; ``queries_left_out`` give nothing to dK and dV, ``keys_left_out`` nothing to dQ.

    ``summed``: over each ``group`` as is right, over ``interleaved`` heads, or only the ``first`` head of each group.
    """
    q, k, v, d_o = (x.astype(np.float64) for x in inputs)
    k, v = (np.repeat(x, case.group, axis=1) for x in (k, v))
    weights = _weights(case, q, k, case.scale, diagonal, case.window if window is None else window)
    dp = d_o @ v.swapaxes(-1, -2)
    delta = (weights * dp).sum(axis=-1, keepdims=True)
    ds_for_q, ds_for_k = weights * (dp - delta * delta_in_dq), weights * (dp - delta * delta_in_dk)
    ds_for_q[..., keys_left_out] = 0
    ds_for_k[..., queries_left_out, :] = 0
    weights[..., queries_left_out, :] = 0

    def over_heads(x: np.ndarray) -> np.ndarray:
        if summed == "interleaved":
            return x.reshape(case.batch, case.group, case.kv_heads, *x.shape[2:]).sum(axis=1)
        grouped = x.reshape(case.batch, case.kv_heads, case.group, *x.shape[2:])
        return grouped[:, :, 0] if summed == "first" else grouped.sum(axis=2)

    dq = case.scale * dq_factor * ds_for_q @ k
    dk = case.scale * dk_factor * ds_for_k.swapaxes(-1, -2) @ q
    return dq, over_heads(dk), over_heads(weights.swapaxes(-1, -2) @ d_o)
