"""Cases of RMSNorm and LayerNorm for tests; see every_case.py."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st

from chipassay.kernels.case import DTYPE_BYTES, Case
from chipassay.kernels.norm import LayerNormCase, RmsNormCase

NORMS = {"rms_norm": RmsNormCase, "layer_norm": LayerNormCase}

STRATEGIES: dict[str, Any] = {
    op: st.builds(
        case,
        rows=st.integers(1, 70),
        width=st.integers(1, 600),
        direction=st.sampled_from(["forward", "backward"]),
        dtype=st.sampled_from(sorted(DTYPE_BYTES)),
    )
    for op, case in NORMS.items()
}
SMALL = {op: {"rows": 512, "width": 1024} for op in NORMS}
DTYPES = dict.fromkeys(NORMS, ("fp32", "bf16"))

SHAPES = ((1, 1), (5, 1), (1, 100), (7, 129), (33, 64), (3, 1030), (2, 9001))
INTERPRETED: list[Case] = [
    case(rows=rows, width=width, direction=direction, dtype=dtype)
    for case, (rows, width), direction, dtype in itertools.product(
        NORMS.values(), SHAPES, ("forward", "backward"), ("fp32", "fp16", "bf16")
    )
]
