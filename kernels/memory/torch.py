"""Copy and triad as torch does them: one pass over memory each."""

from __future__ import annotations

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from ..torch_settings import refuses_dtype
from .case import TRIAD_SCALAR, CopyCase, TriadCase


def copy_refuses(case: CopyCase, target: Target) -> str | None:
    return "Metal has no fp64" if case.dtype == "fp64" and target.kind == "mps" else None


@kernel("copy", "torch", "torch.copy_", copy_refuses)
def copy(case: CopyCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    (a,) = inputs
    return lambda: output.copy_(a)


def triad_refuses(case: TriadCase, target: Target) -> str | None:
    if case.dtype in ("int8", "tf32"):
        return f"triad is floating-point arithmetic, and {case.dtype} is not a format to add in"
    return refuses_dtype(case, target)


@kernel("triad", "torch", "torch.add", triad_refuses)
def triad(case: TriadCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import torch

    a, b = inputs
    return lambda: torch.add(a, b, alpha=TRIAD_SCALAR, out=output)
