"""GELU and SwiGLU as torch does them. Eager torch has no SwiGLU: SiLU and the product are two kernels, which move 5 arrays, not 3."""

from __future__ import annotations

from ..arrays import Array, Arrays
from ..kernel import Call, kernel
from ..memory.refusing import not_torch
from .case import GeluCase, SwigluCase


@kernel("gelu", "torch", "torch.gelu", not_torch)
def gelu(case: GeluCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import torch

    (x,) = inputs
    function = torch.ops.aten.gelu.out
    return lambda: function(x, approximate="tanh", out=output)


@kernel("swiglu", "torch", "torch.silu.mul", not_torch)
def swiglu(case: SwigluCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import torch

    a, b = inputs
    silu = torch.ops.aten.silu.out
    return lambda: silu(a, out=output).mul_(b)
