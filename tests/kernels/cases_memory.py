"""Cases of memory operations for tests; see every_case.py."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import strategies as st

from chipassay.kernels.case import DTYPE_BYTES, Case
from chipassay.kernels.memory import CopyCase, TriadCase

dtypes = st.sampled_from(sorted(DTYPE_BYTES))
lengths = st.integers(1, 40_000)

STRATEGIES: dict[str, Any] = {
    "copy": st.builds(CopyCase, elements=lengths, dtype=dtypes),
    "triad": st.builds(TriadCase, elements=lengths, dtype=dtypes),
}
SMALL = {"copy": {"elements": 1 << 20}, "triad": {"elements": 1 << 20}}
DTYPES = {"copy": ("fp32",), "triad": ("fp32",)}

INTERPRETED: list[Case] = [
    *(CopyCase(elements=n, dtype=dtype) for n, dtype in itertools.product((1, 10_003), ("fp64", "fp32", "fp16", "bf16", "int8"))),
    *(TriadCase(elements=n, dtype=dtype) for n, dtype in itertools.product((1, 10_003), ("fp32", "fp16", "bf16"))),
]
