"""Cases of activations, the optimiser's step and the embedding gather for tests; see every_case.py."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st

from chipassay.kernels.activation import GeluCase, SwigluCase
from chipassay.kernels.adam import AdamCase
from chipassay.kernels.case import DTYPE_BYTES, Case
from chipassay.kernels.gather import GatherCase

ALONG = {"gelu": GeluCase, "swiglu": SwigluCase, "adam": AdamCase}
dtypes = st.sampled_from(sorted(DTYPE_BYTES))

STRATEGIES: dict[str, Any] = {
    **{op: st.builds(case, elements=st.integers(1, 40_000), dtype=dtypes) for op, case in ALONG.items()},
    "gather": st.builds(GatherCase, rows=st.integers(1, 70), table_rows=st.integers(1, 300), width=st.integers(1, 300), dtype=dtypes),
}
SMALL: dict[str, dict[str, int]] = {
    **{op: {"elements": 1 << 20} for op in ALONG},
    "gather": {"rows": 1024, "table_rows": 8192, "width": 1024},
}
DTYPES = dict.fromkeys(STRATEGIES, ("fp32",))

INTERPRETED: list[Case] = [
    *(case(elements=n, dtype=dtype) for case, n, dtype in itertools.product(ALONG.values(), (1, 4096, 10_003), ("fp32", "fp16", "bf16"))),
    *(
        GatherCase(rows=rows, table_rows=table_rows, width=width, dtype=dtype)
        for (rows, table_rows, width), dtype in itertools.product(
            ((1, 1, 1), (5, 300, 1), (9, 40, 257), (3, 7, 5001)), ("fp64", "fp32", "fp16", "bf16", "int8", "fp8_e4m3")
        )
    ),
]
