"""Cases of streaming memory operations for tests; see every_case.py."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st

from chipassay.kernels.case import DTYPE_BYTES, Case
from chipassay.kernels.memory import CopyCase, ReadCase, ScaleCase, TriadCase

dtypes = st.sampled_from(sorted(DTYPE_BYTES))
lengths = st.integers(1, 40_000)

STRATEGIES: dict[str, Any] = {
    "read": st.builds(ReadCase, elements=lengths, dtype=st.sampled_from(sorted(set(DTYPE_BYTES) - {"fp8_e5m2"}))),
    "copy": st.builds(CopyCase, elements=lengths, dtype=dtypes),
    "scale": st.builds(ScaleCase, elements=lengths, dtype=dtypes),
    "triad": st.builds(TriadCase, elements=lengths, dtype=dtypes),
}
SMALL = {op: {"elements": 1 << 20} for op in STRATEGIES}
DTYPES = dict.fromkeys(STRATEGIES, ("fp32",))

INTERPRETED: list[Case] = [
    *(CopyCase(elements=n, dtype=dtype) for n, dtype in itertools.product((1, 10_003), sorted(DTYPE_BYTES))),
    *(
        case(elements=n, dtype=dtype)
        for case, n, dtype in itertools.product((ReadCase, ScaleCase, TriadCase), (1, 4096, 20_003), ("fp32", "fp16", "bf16"))
    ),
]
