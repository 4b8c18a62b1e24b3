"""Cases of attention for Triton's interpreter; see every_case.py. Together they take every branch of every kernel."""

from __future__ import annotations

import itertools
from typing import Any

from chipassay.kernels.attention import AttentionCase, DecodeCase

SHAPES: tuple[dict[str, Any], ...] = (
    {"heads": 2, "kv_heads": 1, "seq_q": 130, "seq_kv": 130, "head_dim": 64, "causal": True},
    {"heads": 2, "kv_heads": 2, "seq_q": 70, "seq_kv": 128, "head_dim": 16},
    {"heads": 1, "kv_heads": 1, "seq_q": 150, "seq_kv": 150, "head_dim": 24, "head_dim_v": 40, "causal": True, "window": 40},
    {"heads": 3, "kv_heads": 1, "seq_q": 33, "seq_kv": 90, "head_dim": 48, "head_dim_v": 32},
    {"heads": 2, "kv_heads": 1, "seq_q": 128, "seq_kv": 128, "head_dim": 32, "causal": True},
    {"heads": 4, "kv_heads": 2, "seq_q": 256, "seq_kv": 256, "head_dim": 16, "causal": True, "window": 70},
    {"heads": 1, "kv_heads": 1, "seq_q": 1, "seq_kv": 1, "head_dim": 16, "causal": True},
)
DTYPES_IN_TURN = (("fp32", "bf16"), ("tf32", "fp16"), ("bf16",), ("fp16",), ("fp32",), ("fp32",), ("fp32",))
"""Two of the four for the shapes with the most branches: the interpreter is slow, and a dtype changes no branch."""
INTERPRETED = [
    AttentionCase(batch=1, dtype=dtype, direction=direction, **shape)
    for shape, dtypes in zip(SHAPES, DTYPES_IN_TURN, strict=True)
    for dtype, direction in itertools.product(dtypes, ("forward", "backward"))
]
DECODED: tuple[dict[str, Any], ...] = (
    {"heads": 6, "kv_heads": 2, "seq_kv": 700, "head_dim": 64},
    {"heads": 2, "kv_heads": 2, "seq_q": 3, "seq_kv": 65, "head_dim": 24, "head_dim_v": 40},
    {"heads": 20, "kv_heads": 1, "seq_kv": 100, "head_dim": 144, "head_dim_v": 128},
    {"heads": 4, "kv_heads": 1, "seq_kv": 40, "head_dim": 576, "head_dim_v": 512},
)
INTERPRETED += [DecodeCase(batch=2, dtype=dtype, **shape) for dtype, shape in itertools.product(("fp32", "bf16"), DECODED)]
