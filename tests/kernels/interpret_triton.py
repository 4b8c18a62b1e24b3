"""Runs every Triton kernel in Triton's interpreter and prints one JSON list a check: name, case, passed or the reason it was refused.

Started by test_triton.py in a process of its own, for TRITON_INTERPRET must be set before Triton is imported.
"""

from __future__ import annotations

import itertools
import json

from chipassay.kernels.attention import AttentionCase
from chipassay.kernels.backends import make_arrays
from chipassay.kernels.case import Case
from chipassay.kernels.kernel import Target, kernels
from chipassay.kernels.matmul import MatmulCase
from chipassay.kernels.memory import CopyCase, TriadCase

MATRIX_DTYPES = ("fp32", "tf32", "fp16", "bf16")
MATMUL_SHAPES = ((1, 1, 1), (70, 130, 45), (600, 64, 32))
ATTENTION_SHAPES = (
    # batch, heads, kv_heads, seq_q, seq_kv, head_dim, causal
    (1, 1, 1, 1, 1, 1, True),
    (1, 4, 2, 130, 130, 64, True),
    (2, 2, 1, 77, 150, 40, False),
    (1, 2, 2, 64, 64, 32, False),
)


def some_cases() -> list[Case]:
    found: list[Case] = [
        MatmulCase(m=m, n=n, k=k, dtype=dtype, layout=layout)
        for dtype, layout, (m, n, k) in itertools.product(MATRIX_DTYPES, ("nn", "nt", "tn"), MATMUL_SHAPES)
    ]
    names = ("batch", "heads", "kv_heads", "seq_q", "seq_kv", "head_dim", "causal")
    found += [
        AttentionCase(dtype=dtype, **dict(zip(names, shape, strict=True)))
        for dtype, shape in itertools.product(MATRIX_DTYPES, ATTENTION_SHAPES)
    ]
    found += [CopyCase(elements=n, dtype=dtype) for n, dtype in itertools.product((1, 10_003), ("fp64", "fp32", "fp16", "bf16", "int8"))]
    found += [TriadCase(elements=n, dtype=dtype) for n, dtype in itertools.product((1, 10_003), ("fp32", "fp16", "bf16"))]
    return found


if __name__ == "__main__":
    arrays = make_arrays("triton", "cpu")
    for case in some_cases():
        for kernel in kernels(op=case.op, backend="triton"):
            reason = kernel.refuses(case, Target("cpu"))
            if reason is None:
                inputs, buffer = case.make_inputs(arrays, seed=1), case.make_output(arrays)
                check = case.check(arrays, inputs, kernel.prepare(case, arrays, inputs, buffer)(), seed=0)
                reason = "passed" if check.passed else str(check)
            print(json.dumps([kernel.name, str(case), reason]))
