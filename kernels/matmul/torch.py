"""torch.mm, and torch._int_mm for int8: cuBLAS, rocBLAS, MKL or whatever the device's torch calls. For fp8 see ``scaled_torch.py``."""

from __future__ import annotations

from ..arrays import Array, Arrays
from ..kernel import Call, Target, kernel
from ..torch_settings import refuses_dtype, set_arithmetic, set_blas_library, torch_version
from ..torch_trial import ask
from .case import MatmulCase
from .product import FP16_ACCUM, refuses_fp16_sums


def refuses(case: MatmulCase, target: Target) -> str | None:
    if case.dtype == "int8":
        return "torch.mm sums int8 in int8; torch._int_mm does it in int32"
    if case.math_mode == FP16_ACCUM and target.kind != "cuda":
        return "torch sums fp16 in fp16 on CUDA devices only"
    if case.math_mode == FP16_ACCUM and torch_version() < (2, 7):
        return "summing fp16 in fp16 needs torch 2.7; upgrade torch, or use cupy.matmul.half2 on a P100"
    return refuses_dtype(case, target)


@kernel("matmul", "torch", "torch.mm", refuses)
def mm(case: MatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import torch

    set_arithmetic(case.dtype, fp16_sums=case.math_mode == FP16_ACCUM)
    a, b = case.operands(inputs)
    if case.dtype == "bf16" and a.device.type != "cpu":
        ask(lambda: torch.mm(a, b))  # chips from before bf16
    return lambda: torch.mm(a, b, out=output)


def cublaslt_refuses(case: MatmulCase, target: Target) -> str | None:
    if target.kind != "cuda":
        return "cuBLASLt is for CUDA devices; elsewhere torch.mm calls what there is"
    if case.dtype == "int8":
        return "torch calls cuBLASLt for int8 in torch._int_mm"
    if torch_version() < (2, 4):
        return "preferring cuBLASLt needs torch 2.4"
    return refuses_fp16_sums(case) or refuses_dtype(case, target)


@kernel("matmul", "torch", "torch.mm.cublaslt", cublaslt_refuses)
def mm_cublaslt(case: MatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    """As torch.mm, but by the library that torch.mm calls only when told to. Run on an H200."""
    call = mm(case, arrays, inputs, output)
    set_blas_library("cublaslt")
    return call


def int_refuses(case: MatmulCase, target: Target) -> str | None:
    if case.dtype != "int8":
        return f"torch._int_mm multiplies int8, not {case.dtype}"
    if target.kind not in ("cpu", "cuda", "rocm", "xpu"):
        return f"torch._int_mm has no implementation for {target.kind}"
    if target.kind == "cpu" and case.layout != "nn" and min(case.m, case.n, case.k) == 1:
        return "torch._int_mm on a CPU leaves the output unwritten where a transposed operand has a side of 1 (PyTorch issue 195066)"
    if target.kind != "cpu" and (case.m <= 16 or case.k % 8 or case.n % 8):
        return "torch._int_mm on a GPU needs m > 16, and n and k that are multiples of 8"
    return None


@kernel("matmul", "torch", "torch._int_mm", int_refuses)
def int_mm(case: MatmulCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
    import torch

    a, b = case.operands(inputs)
    if a.device.type != "cpu":
        # cuBLASLt multiplies int8 rows by rows; what else it takes differs by chip and version (PyTorch issue 169956).
        ask(lambda: torch._int_mm(a, b), "" if case.layout == "nt" else "write layout='nt', which tensor cores multiply")
    return lambda: torch._int_mm(a, b, out=output)
