"""Which dtypes memory-bound operations take with each backend, and why not others. A copy takes all; arithmetic does not."""

from __future__ import annotations

from ..case import Case
from ..kernel import Target
from ..torch_settings import refuses_dtype
from ..triton_tools import refuses_target


def not_torch(case: Case, target: Target) -> str | None:
    """For arithmetic in torch."""
    if case.dtype in ("int8", "tf32"):
        return f"{case.op} is elementary floating-point arithmetic, and {case.dtype} is not a format to do it in"
    return refuses_dtype(case, target)


def not_triton(case: Case, target: Target) -> str | None:
    """For arithmetic in Triton, done in fp32."""
    if case.dtype not in ("fp32", "fp16", "bf16"):
        return f"the Triton kernel computes in fp32, so it takes fp32, fp16 and bf16, not {case.dtype}"
    if case.dtype == "bf16" and target.kind == "cuda" and target.compute_capability is not None and target.compute_capability < (8, 0):
        return "Triton converts bf16 with instructions of compute capability 8.0; use torch"
    return refuses_target(target)


def not_numpy(case: Case, target: Target) -> str | None:
    """For arithmetic in NumPy."""
    if target.kind != "cpu":
        return "NumPy computes on the CPU only"
    if case.dtype not in ("fp64", "fp32"):
        return f"NumPy computes at the speed of memory in fp64 and fp32 only, not in {case.dtype}"
    return None


def not_numpy_moves(case: Case, target: Target) -> str | None:
    """For moving elements in NumPy as they are."""
    if target.kind != "cpu":
        return "NumPy computes on the CPU only"
    if case.dtype not in ("fp64", "fp32", "fp16", "int8"):
        return f"NumPy has no {case.dtype}"
    return None
