"""Cases of attention for tests; see every_case.py."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st

from chipassay.kernels.attention import AttentionCase, DecodeCase
from chipassay.kernels.case import DTYPE_BYTES

dtypes = st.sampled_from(sorted(DTYPE_BYTES))
sizes = st.integers(1, 150)
widths = st.integers(1, 80)


@st.composite
def attention_cases(draw: st.DrawFn) -> AttentionCase:
    kv_heads, causal, seq_q = draw(st.integers(1, 2)), draw(st.booleans()), draw(sizes)
    return AttentionCase(
        batch=draw(st.integers(1, 2)),
        heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        seq_q=seq_q,
        seq_kv=seq_q if causal else draw(sizes),
        head_dim=draw(widths),
        head_dim_v=draw(st.none() | widths),
        causal=causal,
        window=draw(st.none() | st.integers(1, 160)) if causal else None,
        direction=draw(st.sampled_from(["forward", "backward"])),
        dtype=draw(dtypes),
    )


@st.composite
def decode_cases(draw: st.DrawFn) -> DecodeCase:
    kv_heads = draw(st.integers(1, 2))
    return DecodeCase(
        batch=draw(st.integers(1, 3)),
        heads=kv_heads * draw(st.integers(1, 4)),
        kv_heads=kv_heads,
        seq_q=draw(st.sampled_from([1, 1, 1, 2, 3])),
        seq_kv=draw(st.integers(1, 600)),
        head_dim=draw(widths),
        head_dim_v=draw(st.none() | widths),
        dtype=draw(dtypes),
    )


STRATEGIES: dict[str, Any] = {"attention": attention_cases(), "decode": decode_cases()}
SMALL = {
    "attention": {"batch": 1, "heads": 4, "kv_heads": 4, "seq_q": 256, "seq_kv": 256, "head_dim": 64, "causal": True},
    "decode": {"batch": 2, "heads": 8, "kv_heads": 2, "seq_kv": 1024, "head_dim": 64},
}
DTYPES = {"attention": ("fp32", "bf16"), "decode": ("fp32", "bf16")}

# The dtypes that cases_attention_triton.py leaves out.
SHAPES: tuple[dict[str, Any], ...] = (
    {"batch": 1, "heads": 1, "kv_heads": 1, "seq_q": 1, "seq_kv": 1, "head_dim": 1, "causal": True},
    {"batch": 1, "heads": 4, "kv_heads": 2, "seq_q": 130, "seq_kv": 130, "head_dim": 64, "causal": True, "window": 50},
    {"batch": 2, "heads": 2, "kv_heads": 1, "seq_q": 77, "seq_kv": 150, "head_dim": 40},
)
INTERPRETED = [
    AttentionCase(dtype=dtype, direction=direction, **shape)
    for dtype, shape, direction in itertools.product(("tf32", "fp16"), SHAPES, ("forward", "backward"))
]
