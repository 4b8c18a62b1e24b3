"""Grouped matmul in torch: its own grouped kernel, and a loop of torch.mm that runs anywhere. Run on an H200.

The rules of the grouped kernel are those of torch's aten/src/ATen/native/cuda/GroupedBlas.cpp (2.8 and 2.9: Blas.cpp). In bf16 on compute
capability 9.0 and 10.0 it is one CUTLASS launch; elsewhere (from torch 2.10 on) torch itself loops over the experts.
"""

from __future__ import annotations

from ..arrays import Array, Arrays
from ..case import DTYPE_BYTES
from ..kernel import Call, Target, kernel
from ..torch_settings import refuses_dtype, set_arithmetic, torch_version
from .grouped_case import GroupedMatmulCase

ALIGNMENT_BYTES = 16
"""What every row in memory must start at."""


def loop_refuses(case: GroupedMatmulCase, target: Target) -> str | None:
    if case.dtype == "int8":
        return "torch.mm sums int8 in int8, and torch._int_mm cannot take every number of rows"
    return refuses_dtype(case, target)


@kernel("grouped_matmul", "torch", "torch.mm.loop", loop_refuses)
def loop(case: GroupedMatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import torch

    set_arithmetic(case.dtype)
    a, b = case.operands(inputs)
    experts = [(a[rows], b[expert], output[rows]) for expert, rows in case.expert_rows()]

    def run() -> Array:
        for rows, weight, result in experts:
            torch.mm(rows, weight, out=result)
        return output

    return run


def refuses(case: GroupedMatmulCase, target: Target) -> str | None:
    version = torch_version()
    if version < (2, 8):
        return "torch.grouped_mm needs torch 2.8"
    if target.kind not in ("cpu", "cuda", "rocm"):
        return f"torch has no grouped product for {target.kind}; use torch.mm.loop"
    if version < (2, 10):
        known = ((9, 0),) if version < (2, 9) else ((9, 0), (10, 0))
        if target.kind != "cuda" or target.compute_capability not in (None, *known):
            return "torch.grouped_mm before torch 2.10 knows compute capability 9.0 only (2.9: and 10.0)"
    if case.dtype not in (("bf16",) if version < (2, 10) else ("bf16", "fp16", "fp32", "tf32")):
        return f"torch.grouped_mm multiplies bf16 (from torch 2.10 on also fp16 and fp32), not {case.dtype}"
    if target.kind == "cuda" and (target.compute_capability or (9, 0)) < (8, 0):
        return "torch.grouped_mm needs compute capability 8.0"
    if case.k * DTYPE_BYTES[case.dtype] % ALIGNMENT_BYTES or case.n * DTYPE_BYTES[case.dtype] % ALIGNMENT_BYTES:
        return f"torch.grouped_mm needs rows of n and of k elements that are multiples of {ALIGNMENT_BYTES} bytes"
    return refuses_dtype(case, target)


@kernel("grouped_matmul", "torch", "torch.grouped_mm", refuses)
def grouped_mm(case: GroupedMatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import torch

    set_arithmetic(case.dtype)
    a, b = case.operands(inputs)
    offsets = inputs[2]
    public = getattr(torch.nn.functional, "grouped_mm", None)
    multiply = public or torch._grouped_mm

    def run() -> Array:
        return multiply(a, b, offs=offsets)

    run.config = "api=torch._grouped_mm" if public is None else "api=torch.nn.functional.grouped_mm"  # type: ignore[attr-defined]
    return run
