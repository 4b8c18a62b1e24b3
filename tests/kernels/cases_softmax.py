"""Cases of softmax and cross-entropy for tests; see every_case.py."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st

from chipassay.kernels.case import DTYPE_BYTES, Case
from chipassay.kernels.cross_entropy import CrossEntropyCase
from chipassay.kernels.softmax import SoftmaxCase

dtypes = st.sampled_from(sorted(DTYPE_BYTES))
rows, widths = st.integers(1, 70), st.integers(1, 600)

STRATEGIES: dict[str, Any] = {
    "softmax": st.builds(SoftmaxCase, rows=rows, width=widths, dtype=dtypes),
    "cross_entropy": st.builds(CrossEntropyCase, rows=rows, width=widths, direction=st.sampled_from(["forward", "backward"]), dtype=dtypes),
}
SMALL = {"softmax": {"rows": 512, "width": 1024}, "cross_entropy": {"rows": 64, "width": 32_000}}
DTYPES = dict.fromkeys(STRATEGIES, ("fp32", "bf16"))

SHAPES = ((1, 1), (5, 1), (1, 100), (7, 129), (33, 64), (3, 5000), (2, 20_011))
INTERPRETED: list[Case] = [
    *(SoftmaxCase(rows=m, width=n, dtype=dtype) for (m, n), dtype in itertools.product(SHAPES, ("fp32", "fp16", "bf16"))),
    *(
        CrossEntropyCase(rows=m, width=n, direction=direction, dtype=dtype)
        for (m, n), direction, dtype in itertools.product(SHAPES, ("forward", "backward"), ("fp32", "fp16", "bf16"))
    ),
]
