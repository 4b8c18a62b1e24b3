"""fp8 with scales in torch: cuBLASLt, CUTLASS (row-wise scales, by version and chip), hipBLASLt or oneDNN. Run on an H200.

From torch 2.10 on the public ``torch.nn.functional.scaled_mm``, before it ``torch._scaled_mm``; the ``config`` of the row says which.
The rules are those of torch's aten/src/ATen/native/cuda/ScaledBlas.cpp (before 2.10: Blas.cpp).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from ..torch_settings import torch_version
from ..torch_trial import ask
from .case import MatmulCase
from .product import FLOAT8

OCP_ARCHITECTURES = ("gfx950", "gfx1200", "gfx1201")
"""AMD's chips with the fp8 formats of the Open Compute Project, as NVIDIA's; MI300 (gfx942) has others (fnuz) with the same names."""


def refuses(case: MatmulCase, target: Target) -> str | None:
    if case.dtype not in FLOAT8:
        return f"torch.scaled_mm multiplies fp8, not {case.dtype}"
    if torch_version() < (2, 5):
        return "torch.scaled_mm here needs torch 2.5"  # before, torch._scaled_mm had other arguments and two results
    return _target_refuses(case, target) or _shape_refuses(case, target)


def _target_refuses(case: MatmulCase, target: Target) -> str | None:
    capability = target.compute_capability
    if target.kind not in ("cpu", "cuda", "rocm", "xpu"):
        return f"torch has no fp8 products for {target.kind}"
    if target.kind in ("cpu", "xpu") and torch_version() < (2, 10):
        return f"fp8 products on {target.kind} need torch 2.10"
    if target.kind == "rocm" and target.architecture not in (None, *OCP_ARCHITECTURES):
        return f"{target.architecture} has not the fp8 formats of this case (OCP e4m3fn and e5m2)"
    if capability is not None and capability < (8, 9):
        return "fp8 needs compute capability 8.9"
    if case.math_mode == "fast_accum" and (target.kind != "cuda" or (capability or (9, 0)) >= (10, 0)):
        return "fast_accum is a mode of NVIDIA's Ada and Hopper; leave math_mode out"
    if case.scaling == "row_wise" and capability not in (None, (9, 0)) and torch_version() < (2, 7):
        return "row-wise scales need torch 2.7 or compute capability 9.0"
    return None


def _shape_refuses(case: MatmulCase, target: Target) -> str | None:
    if target.kind == "cpu":
        return None
    if case.layout != "nt":
        return f"torch.scaled_mm on a GPU multiplies rows by rows: layout nt, not {case.layout}"
    if case.n % 16 or case.k % 16:
        return "torch.scaled_mm on a GPU needs n and k that are multiples of 16"
    return None


@kernel("matmul", "torch", "torch.scaled_mm", refuses)
def scaled_mm(case: MatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import torch

    a, b = case.operands(inputs)
    scale_a, scale_b = inputs[2:]
    fast = case.math_mode == "fast_accum"
    public = getattr(torch.nn.functional, "scaled_mm", None)
    # Private, it can write into a buffer; public, it makes a new one.
    multiply: Callable[..., Array]
    if public is None:
        multiply = functools.partial(torch._scaled_mm, a, b, scale_a, scale_b, out_dtype=torch.bfloat16, use_fast_accum=fast)
        run = functools.partial(multiply, out=output)
    else:
        kinds = torch.nn.functional.ScalingType
        recipe = kinds.RowWise if case.scaling == "row_wise" else kinds.TensorWise
        arguments = (a, b, scale_a, recipe, scale_b, recipe)
        run = multiply = functools.partial(public, *arguments, output_dtype=torch.bfloat16, use_fast_accum=fast)
    if a.device.type != "cpu":
        # Row-wise scales are in cuBLASLt for some chips only (PyTorch issue 192707: not on compute capability 12.0).
        ask(multiply, "" if case.scaling == "per_tensor" else "scaling='per_tensor' is taken by every chip with fp8")
    run.config = "api=torch._scaled_mm" if public is None else "api=torch.nn.functional.scaled_mm"  # type: ignore[attr-defined]
    return run
