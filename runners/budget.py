"""Sharing out time: how long the next case may sample, and how long to wait for it before it counts as hanging."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CAP_WITHOUT_BUDGET_S = 5.0
CAP_AT_MOST_S = 20.0
CAP_AT_LEAST_S = 0.3
FAIR_SHARE = 0.8
"""Of its fair share of the remaining budget a case may spend this much in the timing engine at most: inputs and the check need the rest,
and where the cases so far needed more than that, so much is left."""
PATIENCE_S = 60.0
"""Beyond this much over twice its cap a case hangs: inputs and the reference check of the largest take seconds."""
PATIENCE_AT_LEAST_S = 45.0
PATIENCE_SHARE = 0.1
"""With a budget, the patience shrinks to this share of it."""
TUNING_BACKENDS = ("triton", "cupy")
"""Their kernels compile and may try many configurations when a case is prepared for the first time on a chip."""
COMPILED_KERNELS = ("torch.flex_attention",)
"""So do these of other backends."""
TUNING_S = 120.0
"""Up to a minute for a search over 16 configurations on a host with many cores, twice that on a small one."""


def compiles(columns: Mapping[str, Any]) -> bool:
    """Whether preparing the kernel of these columns compiles something, which takes seconds to minutes."""
    return columns.get("backend") in TUNING_BACKENDS or columns.get("kernel") in COMPILED_KERNELS


@dataclass(frozen=True)
class Budget:
    """``budget_s`` from ``begin_s`` on; None: each case gets the same, however many there are. ``sustain_s``: calls back to back for
    so long belong to each first visit, beside its samples."""

    budget_s: float | None
    begin_s: float
    sustain_s: float = 0.0

    def too_short_for(self, cases: int) -> str | None:
        """Why so many cases cannot be sustained within the budget, with the mend; None if they can."""
        if self.budget_s is None or not self.sustain_s or self.sustain_s * cases < self.budget_s:
            return None
        return (
            f"{cases} cases sustained for {self.sustain_s:.0f} s each do not fit into a budget of {self.budget_s:.0f} s; "
            "choose some with --only, --backend or --suite, or give more with --budget"
        )

    def left_s(self, now_s: float) -> float:
        """What is left of it; without a budget there is no end."""
        return math.inf if self.budget_s is None else self.budget_s - (now_s - self.begin_s)

    def cap_s(self, now_s: float, remaining: int, remaining_first: int, overhead_s: float = 0.0) -> float | None:
        """Time cap of the next of ``remaining`` visits, ``remaining_first`` of them the first to their case; None: it is spent.

        ``overhead_s``: what visits so far took on average beside measuring. What tuning took is gone from the shares of all that come
        after alike.

        >>> Budget(100.0, begin_s=0.0).cap_s(now_s=0.0, remaining=10, remaining_first=10)
        8.0
        """
        if self.budget_s is None:
            return CAP_WITHOUT_BUDGET_S
        left_s = self.left_s(now_s)
        if left_s <= 0:
            return None
        share_s = max(0.0, left_s - self.sustain_s * remaining_first) / remaining
        return min(CAP_AT_MOST_S, max(CAP_AT_LEAST_S, min(FAIR_SHARE * share_s, share_s - overhead_s)))

    def timeout_s(self, cap_s: float, compiled: bool, first: bool, now_s: float) -> float:
        """How long to wait for a case's answer: a hanging one must not eat a whole budget, a kernel being tuned does not hang.

        One being tuned when the budget is over is not waited for longer than others are.
        """
        patience_s = PATIENCE_S
        if self.budget_s is not None:
            patience_s = min(PATIENCE_S, max(PATIENCE_AT_LEAST_S, PATIENCE_SHARE * self.budget_s))
        tuning_s = min(TUNING_S, max(0.0, self.left_s(now_s))) if first and compiled else 0.0
        return 2 * cap_s + patience_s + tuning_s + (self.sustain_s if first else 0.0)
