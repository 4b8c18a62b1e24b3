"""Runs every Triton kernel in Triton's interpreter and prints one JSON list a check: name, case, passed or the reason it was refused.

Started by test_triton.py in a process of its own, for TRITON_INTERPRET must be set before Triton is imported.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from chipassay.kernels.backends import make_arrays
from chipassay.kernels.kernel import Target, kernels

sys.path.insert(0, str(Path(__file__).parent))
from every_case import interpreted  # (a script has no package to import from)

if __name__ == "__main__":
    arrays = make_arrays("triton", "cpu")
    for case in interpreted():
        for kernel in kernels(op=case.op, backend="triton"):
            reason = kernel.refuses(case, Target("cpu"))
            if reason is None:
                inputs, buffer = case.make_inputs(arrays, seed=1), case.make_output(arrays)
                check = case.check(arrays, inputs, kernel.prepare(case, arrays, inputs, buffer)(), seed=0)
                reason = "passed" if check.passed else str(check)
            print(json.dumps([kernel.name, str(case), reason]))
