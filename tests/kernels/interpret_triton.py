"""Runs every Triton kernel in Triton's interpreter and prints one JSON list a check: name, case, ``passed``, ``refused`` or ``wrong``, why.

Started by test_triton.py in processes of their own, for TRITON_INTERPRET must be set before Triton is imported: ``interpret_triton.py 0 2``
takes every second case from the first on.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from chipassay.kernels.backends import make_arrays
from chipassay.kernels.case import Case
from chipassay.kernels.kernel import Kernel, Target, kernels

sys.path.insert(0, str(Path(__file__).parent))
from every_case import interpreted  # (a script has no package to import from)

ARRAYS = make_arrays("triton", "cpu")
called_twice: set[str] = set()


def verdict(kernel: Kernel, case: Case) -> tuple[str, str]:
    """Whether the kernel computes the case rightly, and the reason or the check."""
    reason = kernel.refuses(case, Target("cpu"))
    if reason is not None:
        return "refused", reason
    inputs, buffer = case.make_inputs(ARRAYS, seed=1), case.make_output(ARRAYS)
    call = kernel.prepare(case, ARRAYS, inputs, buffer)
    for name in ("first", "second"):  # a kernel that leaves its workspace dirty is right only once
        check = case.check(ARRAYS, inputs, call(), seed=0)
        if not check.passed:
            return "wrong", f"the {name} call: {check}"
        if type(case).refresh is not Case.refresh:  # in place: a second call makes a second step
            break
        case.refresh(ARRAYS, buffer)
    return "passed", str(check)


if __name__ == "__main__":
    first, step = (int(argument) for argument in sys.argv[1:])
    for case in interpreted()[first::step]:
        for kernel in kernels(op=case.op, backend="triton"):
            print(json.dumps([kernel.name, str(case), *verdict(kernel, case)]), flush=True)
