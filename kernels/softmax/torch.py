"""Softmax as torch does it: one kernel, which holds a row on chip where it fits."""

from __future__ import annotations

from ..arrays import Array, Arrays
from ..kernel import Call, kernel
from ..memory.refusing import not_torch
from .case import SoftmaxCase


@kernel("softmax", "torch", "torch.softmax", not_torch)
def softmax(case: SoftmaxCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import torch

    (x,) = inputs
    return lambda: torch.softmax(x, dim=1, out=output)
