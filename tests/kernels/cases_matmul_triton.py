"""More cases of matrix products for Triton's interpreter: shapes that TMA takes, whole tiles, several turns; see every_case.py."""

from __future__ import annotations

import itertools

from chipassay.kernels.case import Case
from chipassay.kernels.matmul import BatchedMatmulCase, GroupedMatmulCase, MatmulCase

SHAPES = (
    (64, 128, 128),  # whole tiles
    (80, 144, 96),  # ragged in each, yet rows of a multiple of 16 bytes in every dtype and layout
    (16, 208, 640),  # more columns than a turn of programs, and a long k to split
)

INTERPRETED: list[Case] = [
    *(
        MatmulCase(m=m, n=n, k=k, dtype=dtype, layout=layout)
        for dtype, layout, (m, n, k) in itertools.product(("tf32", "bf16", "int8"), ("nn", "nt", "tn"), SHAPES)
        if (dtype, layout) != ("tf32", "nn")  # the same as fp32 in the interpreter: once is enough
    ),
    *(
        MatmulCase(m=m, n=n, k=k, dtype=dtype, layout="nt", scaling=scaling)
        for dtype, scaling, (m, n, k) in itertools.product(("fp8_e4m3", "fp8_e5m2"), ("per_tensor", "row_wise"), SHAPES[1:2])
    ),
    BatchedMatmulCase(groups=2, m=64, n=64, k=32, dtype="int8", layout="nt"),
    GroupedMatmulCase(groups=130, m=200, n=40, k=32, dtype="bf16", layout="nt", split="uneven"),  # more experts than most have rows
    GroupedMatmulCase(groups=3, m=2, n=64, k=32, dtype="int8", layout="nn", split="even"),  # fewer rows than experts
]
