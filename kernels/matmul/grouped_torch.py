"""Grouped matmul in torch: a loop of torch.mm, which runs anywhere."""

from __future__ import annotations

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from ..torch_settings import refuses_dtype, set_arithmetic
from .grouped_case import GroupedMatmulCase


def loop_refuses(case: GroupedMatmulCase, target: Target) -> str | None:
    if case.dtype == "int8":
        return "torch.mm sums int8 in int8"
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
