"""What all torch kernels share: the global switches that decide how torch computes, and the dtypes that no torch kernel can do.

torch keeps these switches per process, not per call. Each kernel sets those it depends on when it is prepared, so they hold until the
next kernel is prepared: time one kernel at a time. ``torch_as_it_was`` puts everything back.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .case import Case
from .kernel import Target

SDPA_SWITCHES = {
    "flash": "enable_flash_sdp",
    "efficient": "enable_mem_efficient_sdp",
    "math": "enable_math_sdp",
    "cudnn": "enable_cudnn_sdp",
}


def torch_version() -> tuple[int, int]:
    """Of the installed torch, the two numbers that decide what it has."""
    import torch

    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def refuses_dtype(case: Case, target: Target) -> str | None:
    """Why torch on the target cannot compute in the dtype at all."""
    if case.dtype.startswith("fp8"):
        return f"torch computes in {case.dtype} only in products with scales, which is torch.scaled_mm"
    if case.dtype == "tf32" and (target.kind != "cuda" or (target.compute_capability or (8, 0)) < (8, 0)):
        return "TF32 is arithmetic of NVIDIA tensor cores from compute capability 8.0 on"
    if case.dtype == "fp64" and target.kind == "mps":
        return "Metal has no fp64"
    return None


def set_arithmetic(dtype: str, fp16_sums: bool = False) -> None:
    """Make torch compute matrix products in just this arithmetic: fp32 is IEEE, tf32 is TF32, fp16 and bf16 are summed in fp32.

    ``fp16_sums``: on CUDA fp16 is summed in fp16, which needs torch 2.7.
    """
    import torch

    # The one switch that torch 2.4 to 2.13 share: from 2.9 on reading or mixing allow_tf32 and fp32_precision raises.
    torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
    matmul = torch.backends.cuda.matmul
    # By default cuBLAS may add the parts of a split sum in the output's dtype, which the check rightly calls wrong.
    matmul.allow_bf16_reduced_precision_reduction = False
    matmul.allow_fp16_reduced_precision_reduction = False
    if hasattr(matmul, "allow_fp16_accumulation"):  # torch 2.7
        matmul.allow_fp16_accumulation = fp16_sums
    set_blas_library(None)


@functools.cache
def _first_blas_library() -> Any:
    """What torch (or TORCH_BLAS_PREFER_CUBLASLT) chose before any kernel did."""
    import torch

    return torch.backends.cuda.preferred_blas_library()


def set_blas_library(name: str | None) -> None:
    """Make torch call ``cublas`` or ``cublaslt`` for products on CUDA; None: what it began with. ``set_arithmetic`` sets None."""
    import torch

    if not hasattr(torch.backends.cuda, "preferred_blas_library"):  # before torch 2.4
        return
    choice = _first_blas_library() if name is None else name
    if choice != torch.backends.cuda.preferred_blas_library():  # setting it, even to what it is, warns
        torch.backends.cuda.preferred_blas_library(choice)


def set_sdpa_backend(name: str) -> None:
    """Make ``scaled_dot_product_attention`` use this backend or fail."""
    import torch

    for switch, function in SDPA_SWITCHES.items():
        if hasattr(torch.backends.cuda, function):  # cudnn: from torch 2.5
            getattr(torch.backends.cuda, function)(switch == name)


@contextmanager
def torch_as_it_was() -> Iterator[None]:
    """Restore all of torch's switches on leaving."""
    import torch

    cuda, matmul = torch.backends.cuda, torch.backends.cuda.matmul
    precision = torch.get_float32_matmul_precision()
    reductions = ("allow_bf16_reduced_precision_reduction", "allow_fp16_reduced_precision_reduction", "allow_fp16_accumulation")
    matmul_before = {name: getattr(matmul, name) for name in reductions if hasattr(matmul, name)}
    library = cuda.preferred_blas_library() if hasattr(cuda, "preferred_blas_library") else None
    enabled = {name: function.replace("enable_", "") + "_enabled" for name, function in SDPA_SWITCHES.items()}
    sdpa_before = {name: getattr(cuda, function)() for name, function in enabled.items() if hasattr(cuda, function)}
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        for name, value in matmul_before.items():
            setattr(matmul, name, value)
        if library is not None and library != cuda.preferred_blas_library():
            cuda.preferred_blas_library(library)
        for name, value in sdpa_before.items():
            getattr(cuda, SDPA_SWITCHES[name])(value)
