"""Shapes of published products and attention as columns: typical figures to be fitted, and best ones to be held against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chipassay.results.evidence import Evidence
from chipassay.results.published_cases import PublishedKernel, load_published_kernels
from chipassay.results.reference_shapes import BACKWARD_FLOPS

from ..fitting.shapes import AttentionShapes, ProductShapes

BEST_OF_MANY = ("stas00/ml-engineering",)
"""Sources that tell the luckiest of many shapes: never fitted beside typical ones."""
USUAL_WIDTH, USUAL_TOKENS = 2048, 16384
"""Heads times head size, and batch times sequence, of FlashAttention's own benchmark: where a figure tells neither, it is taken to be of it
(Dao et al., arXiv:2205.14135; benchmarks/benchmark_flash_attention.py)."""


def _evidence(rows: Sequence[PublishedKernel]) -> Evidence:
    sources = "; ".join(dict.fromkeys(row.source for row in rows))
    return Evidence("published", f"{sources}: {len(rows)} shapes")


def published_products(chip_id: str, dtype: str, best: bool = False) -> tuple[ProductShapes, Evidence] | None:
    """Typical products of a chip (``best``: the luckiest ones), or None."""
    rows = [
        row
        for row in load_published_kernels()
        if (row.chip_id, row.op, row.dtype, row.suspect) == (chip_id, "matmul", dtype, "")
        and row.source.startswith(BEST_OF_MANY) == best
        and (row.time_s or row.rate_flops_per_s)
        and row.flops
    ]
    if not rows:
        return None
    m, n, k = (np.array([getattr(row, name) for row in rows], dtype=float) for name in ("m", "n", "k"))
    time_s = np.array([row.time_s or (row.flops or 0.0) / (row.rate_flops_per_s or 1.0) for row in rows])
    layout = np.array([row.layout or "nt" for row in rows])
    return ProductShapes(m, n, k, time_s, layout=layout if np.any(layout != "nt") else None), _evidence(rows)


def published_attention(chip_id: str, dtype: str) -> tuple[AttentionShapes, Evidence] | None:
    """Forward and backward passes that are told apart, the fastest software of each shape; None where no forward pass is told."""
    rows = [
        row
        for row in load_published_kernels()
        if (row.chip_id, row.op, row.dtype, row.suspect) == (chip_id, "attention", dtype, "")
        and row.direction in ("forward", "backward")
        and row.seq
        and row.head_dim
        and row.causal is not None
        and row.rate_flops_per_s
        and row.head_dim_v in (None, row.head_dim)
    ]
    if not rows or not any(row.direction == "forward" for row in rows):
        return None
    best: dict[tuple[Any, ...], float] = {}
    for row in rows:
        seq, head_dim = row.seq or 1, row.head_dim or 1
        heads = row.heads or max(1, USUAL_WIDTH // head_dim)
        batch = row.batch or max(1, USUAL_TOKENS // seq)
        passes = BACKWARD_FLOPS if row.direction == "backward" else 1.0
        flops = 4.0 * batch * heads * seq * seq * head_dim * (0.5 if row.causal else 1.0) * passes
        shape = (batch, heads, row.kv_heads or heads, seq, head_dim, row.causal, row.direction == "backward")
        best[shape] = min(best.get(shape, float("inf")), flops / (row.rate_flops_per_s or 1.0))
    batches, all_heads, kv_heads, seqs, head_dims, causal, backward = zip(*best, strict=True)
    sizes = np.array([batches, all_heads, kv_heads, seqs, head_dims], dtype=float)
    shapes = AttentionShapes(
        batch=sizes[0],
        heads=sizes[1],
        kv_heads=sizes[2],
        seq_q=sizes[3],
        seq_kv=sizes[3],
        head_dim=sizes[4],
        causal=np.array(causal, dtype=bool),
        backward=np.array(backward, dtype=bool),
        time_s=np.array(list(best.values())),
    )
    return shapes, _evidence(rows)
