"""Cases of matrix products for tests; see every_case.py."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st

from chipassay.kernels.case import DTYPE_BYTES
from chipassay.kernels.matmul import BatchedMatmulCase, GroupedMatmulCase, MatmulCase

FLOAT8 = ("fp8_e4m3", "fp8_e5m2")
wide_dtypes = st.sampled_from(sorted(set(DTYPE_BYTES) - set(FLOAT8)))
layouts = st.sampled_from(["nn", "nt", "tn"])
sizes = st.integers(1, 150)
sixteens = st.integers(1, 10).map(lambda n: 16 * n)

STRATEGIES: dict[str, Any] = {
    "matmul": st.one_of(
        st.builds(MatmulCase, m=sizes, n=st.integers(1, 600), k=sizes, layout=layouts, dtype=wide_dtypes),
        st.builds(
            MatmulCase,
            m=sizes,
            n=st.one_of(sizes, sixteens),
            k=st.one_of(sizes, sixteens),
            layout=layouts,
            dtype=st.sampled_from(FLOAT8),
            scaling=st.sampled_from(["per_tensor", "row_wise"]),
            math_mode=st.sampled_from([None, "fast_accum"]),
        ),
    ),
    "batched_matmul": st.builds(BatchedMatmulCase, groups=st.integers(1, 9), m=sizes, n=sizes, k=sizes, layout=layouts, dtype=wide_dtypes),
    "grouped_matmul": st.builds(
        GroupedMatmulCase,
        groups=st.integers(1, 9),
        m=sizes,
        n=st.one_of(sizes, sixteens),
        k=st.one_of(sizes, sixteens),
        layout=st.sampled_from(["nn", "nt"]),
        split=st.sampled_from(["even", "uneven"]),
        dtype=wide_dtypes,
    ),
}
SMALL = {
    "matmul": {"m": 256, "n": 256, "k": 256},
    "batched_matmul": {"groups": 8, "m": 128, "n": 128, "k": 64},
    "grouped_matmul": {"groups": 8, "m": 512, "n": 128, "k": 128, "split": "uneven"},
}
DTYPES = {"matmul": ("fp32", "bf16", "fp64"), "batched_matmul": ("fp32", "bf16"), "grouped_matmul": ("fp32", "bf16")}

LAYOUTS = ("nn", "nt", "tn")
ODD = {"m": 70, "n": 130, "k": 45}

INTERPRETED = [
    *(
        MatmulCase(m=m, n=n, k=k, dtype=dtype, layout=layout)
        for dtype, layout, (m, n, k) in itertools.product(
            ("fp32", "tf32", "fp16", "bf16"), LAYOUTS, ((1, 1, 1), (70, 130, 45), (600, 64, 32))
        )
    ),
    *(MatmulCase(dtype="int8", layout=layout, **ODD) for layout in LAYOUTS),
    *(
        MatmulCase(dtype=dtype, layout=layout, scaling=scaling, math_mode=mode, **ODD)
        for dtype, layout, scaling, mode in itertools.product(FLOAT8, ("nn", "nt"), ("per_tensor", "row_wise"), (None, "fast_accum"))
    ),
    *(BatchedMatmulCase(groups=3, dtype=dtype, layout=layout, **ODD) for dtype, layout in itertools.product(("fp32", "bf16"), LAYOUTS)),
    *(
        GroupedMatmulCase(groups=groups, split=split, dtype=dtype, layout=layout, **ODD)
        for groups, split, dtype, layout in itertools.product((1, 7), ("even", "uneven"), ("fp32", "bf16"), ("nn", "nt"))
    ),
]
