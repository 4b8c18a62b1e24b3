"""Cases of matrix products for tests; see every_case.py."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st

from chipassay.kernels.case import DTYPE_BYTES
from chipassay.kernels.matmul import MatmulCase

dtypes = st.sampled_from(sorted(DTYPE_BYTES))
sizes = st.integers(1, 150)

STRATEGIES: dict[str, Any] = {
    "matmul": st.builds(MatmulCase, m=sizes, n=st.integers(1, 600), k=sizes, layout=st.sampled_from(["nn", "nt", "tn"]), dtype=dtypes),
}
SMALL = {"matmul": {"m": 256, "n": 256, "k": 256}}
DTYPES = {"matmul": ("fp32", "bf16", "fp64")}

INTERPRETED = [
    MatmulCase(m=m, n=n, k=k, dtype=dtype, layout=layout)
    for dtype, layout, (m, n, k) in itertools.product(
        ("fp32", "tf32", "fp16", "bf16"), ("nn", "nt", "tn"), ((1, 1, 1), (70, 130, 45), (600, 64, 32))
    )
]
