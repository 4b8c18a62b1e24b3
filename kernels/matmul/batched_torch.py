"""torch.bmm: cuBLAS's strided batches, rocBLAS's, MKL's, or whatever the device's torch calls."""

from __future__ import annotations

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from ..torch_settings import refuses_dtype, set_arithmetic
from ..torch_trial import ask
from .batched_case import BatchedMatmulCase


def refuses(case: BatchedMatmulCase, target: Target) -> str | None:
    if case.dtype == "int8":
        return "torch.bmm sums int8 in int8; torch has no batches that are summed in int32"
    return refuses_dtype(case, target)


@kernel("batched_matmul", "torch", "torch.bmm", refuses)
def bmm(case: BatchedMatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import torch

    set_arithmetic(case.dtype)
    a, b = case.operands(inputs)
    if case.dtype == "bf16" and a.device.type != "cpu":
        ask(lambda: torch.bmm(a, b))  # chips from before bf16
    return lambda: torch.bmm(a, b, out=output)
