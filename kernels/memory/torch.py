"""Read, copy, scale and triad as torch does them: one pass over memory each."""

from __future__ import annotations

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from .case import SCALAR, CopyCase, ReadCase, ScaleCase, TriadCase
from .checking import arithmetic_dtype
from .refusing import not_torch


@kernel("read", "torch", "torch.sum", not_torch)
def read(case: ReadCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import torch

    (a,) = inputs
    total, wide = output[:1], {"fp64": torch.float64, "fp32": torch.float32}[arithmetic_dtype(case.dtype)]
    return lambda: torch.sum(a, dim=(0,), keepdim=True, dtype=wide, out=total)


def copy_refuses(case: CopyCase, target: Target) -> str | None:
    return "Metal has no fp64" if case.dtype == "fp64" and target.kind == "mps" else None


@kernel("copy", "torch", "torch.copy_", copy_refuses)
def copy(case: CopyCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    (a,) = inputs
    return lambda: output.copy_(a)


@kernel("scale", "torch", "torch.mul", not_torch)
def scale(case: ScaleCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import torch

    (a,) = inputs
    return lambda: torch.mul(a, SCALAR, out=output)


@kernel("triad", "torch", "torch.add", not_torch)
def triad(case: TriadCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import torch

    a, b = inputs
    return lambda: torch.add(a, b, alpha=SCALAR, out=output)
