"""Cases of overheads for tests; see every_case.py."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from chipassay.kernels.case import DTYPE_BYTES, Case
from chipassay.kernels.overhead import LaunchCase, TransferCase

dtypes = st.sampled_from(sorted(DTYPE_BYTES))
lengths = st.integers(1, 40_000)

STRATEGIES: dict[str, Any] = {
    "launch": st.just(LaunchCase(dtype="fp32")),
    "transfer": st.one_of(
        st.builds(
            TransferCase,
            elements=lengths,
            path=st.sampled_from(["host_to_device", "device_to_host"]),
            host_memory=st.sampled_from(["pageable", "pinned"]),
            dtype=dtypes,
        ),
        st.builds(TransferCase, elements=lengths, path=st.just("device_to_device"), dtype=dtypes),
    ),
}
SMALL: dict[str, Any] = {
    "launch": {},
    "transfer": {"elements": 1 << 20, "path": "host_to_device", "host_memory": "pinned"},
}
DTYPES = {"launch": ("fp32",), "transfer": ("int8",)}

INTERPRETED: list[Case] = [LaunchCase(dtype="fp32")]
