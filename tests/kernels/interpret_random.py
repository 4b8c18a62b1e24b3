"""Runs every Triton kernel but those of products in the interpreter on random cases; prints a JSON list a kernel: name, cases passed,
and why there are none.

Started by test_triton.py in a process of its own. Products have ``interpret_triton_matmul.py``, which also tries every form of theirs.
A wrong result raises, with the smallest case that Hypothesis finds.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from chipassay.kernels.kernel import Kernel, Target, kernels

sys.path.insert(0, str(Path(__file__).parent))
from every_case import gathered  # (a script has no package to import from)
from interpret_triton import verdict

PRODUCTS = ("matmul", "batched_matmul", "grouped_matmul")
EXAMPLES = 15
"""Random cases of each kernel."""

CPU = Target("cpu")

passed: Counter[str] = Counter()
refusals: dict[str, dict[str, None]] = {}


def on_random_cases(kernel: Kernel, strategy: Any) -> None:
    def accepts(case: Any) -> bool:
        reason = kernel.refuses(case, CPU)
        if reason is not None:
            refusals.setdefault(kernel.name, {})[reason] = None
        return reason is None

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=strategy.filter(accepts))
    def is_right(case: Any) -> None:
        status, why = verdict(kernel, case)
        assert status == "passed", f"{kernel.name} on {case}: {why}"
        passed[kernel.name] += 1

    # A kernel that refuses every case, as one does whose Triton is too old for it, has none to be wrong on.
    with contextlib.suppress(Unsatisfiable):
        is_right()


if __name__ == "__main__":
    strategies = gathered("STRATEGIES")
    for kernel in kernels(backend="triton"):
        if kernel.op not in PRODUCTS:
            on_random_cases(kernel, strategies[kernel.op])
            print(json.dumps([kernel.name, passed[kernel.name], list(refusals.get(kernel.name, ()))]), flush=True)
