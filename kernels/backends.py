"""Backends: which array libraries can run here, why not the others, and which versions they are."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import shutil
from collections.abc import Callable
from typing import Any

from .arrays import Arrays
from .kernel import Target

BACKENDS = ("torch", "triton", "cupy", "numpy")

INTERPRETER_ONLY = "interpreter only: checks correctness, never timed as a chip; Triton compiles for GPUs"

TORCH_EXTRA = {"cuda": "cuda12", "rocm": "rocm"}
"""Device kind -> the extra of chipassay that brings its PyTorch; other kinds: ``torch``."""

CUPY_MEND = {
    "cuda": "pip install 'chipassay[cuda12]' (or cuda13, as your driver)",
    "rocm": "install the CuPy build for your ROCm release, or use torch",
}


OLDEST_TRITON = (3, 2)
"""The oldest that the kernels are tried with. It comes with torch 2.6."""


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))


def interpreting() -> bool:
    """Whether Triton kernels made from now on run in its interpreter, on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0") not in ("", "0")


def installed(backend: str) -> bool:
    """Whether the backend's library can be imported, without importing it."""
    return importlib.util.find_spec(backend) is not None


def make_arrays(backend: str, device: str) -> Arrays:
    """The array library that a backend's kernels work on. ``device`` as torch writes it: ``cpu``, ``cuda``, ``cuda:1``, ``xpu``, ...

    >>> make_arrays("numpy", "cpu").name
    'numpy'
    """
    if backend in ("torch", "triton"):
        from .arrays_torch import TorchArrays

        return TorchArrays(device)
    if backend == "cupy":
        from .arrays_cupy import CupyArrays

        return CupyArrays(device)
    if backend == "numpy":
        from .arrays_numpy import NumpyArrays

        return NumpyArrays()
    raise ValueError(f"unknown backend {backend!r}; known: {', '.join(BACKENDS)}")


def why_not(backend: str, target: Target) -> str | None:
    """Why no kernel of the backend can run on the target, with the mend; None if some may.

    >>> why_not("numpy", Target("cuda"))
    'numpy computes on the CPU only; use torch or cupy for a cuda device'
    """
    if backend == "numpy":
        return None if target.kind == "cpu" else f"numpy computes on the CPU only; use torch or cupy for a {target.kind} device"
    if backend == "torch":
        return _why_not_torch(target)
    if backend == "triton":
        return _why_not_triton(target)
    if backend == "cupy":
        return _why_not_cupy(target)
    raise ValueError(f"unknown backend {backend!r}; known: {', '.join(BACKENDS)}")


def _why_not_torch(target: Target) -> str | None:
    if not installed("torch"):
        return f"PyTorch is not installed; pip install 'chipassay[{TORCH_EXTRA.get(target.kind, 'torch')}]'"
    try:
        import torch
    except (ImportError, OSError) as error:
        return f"PyTorch is installed but does not load ({error}); reinstall the build for this machine"
    if target.kind == "cpu":
        return None
    if target.kind == "npu" and not installed("torch_npu"):
        return "PyTorch has no NPU without torch_npu; install the torch_npu that matches your CANN toolkit"
    if target.kind == "npu":
        importlib.import_module("torch_npu")
    if target.kind == "mps":
        return None if torch.backends.mps.is_available() else "PyTorch sees no Metal device; it needs macOS on Apple silicon"
    built = {"cuda": torch.version.cuda, "rocm": torch.version.hip}.get(target.kind, "unknown")
    if built is None:
        return f"PyTorch {torch.__version__} is built without {target.kind}; install a {target.kind} build of PyTorch"
    if target.kind == "cuda" and torch.cuda.is_available():
        reason = torch_runs_on_cuda()
        if reason is not None:
            return reason
    module = getattr(torch, {"rocm": "cuda"}.get(target.kind, target.kind), None)
    if module is None or not module.is_available():
        return f"PyTorch {torch.__version__} sees no {target.kind} device; check that the driver is loaded and the device is visible"
    return None


@functools.cache
def torch_runs_on_cuda() -> str | None:
    """Why this torch's kernels do not run on the GPU that it sees, None if they do: new builds drop old chips, yet list them."""
    import torch

    try:
        torch.zeros(1, device="cuda").add_(1).item()
    except RuntimeError as error:
        words = str(error).splitlines()[0]
        return f"PyTorch {torch.__version__} cannot run on this GPU ({words}); install a build for it, or use cupy"
    return None


def _why_not_triton(target: Target) -> str | None:
    if not installed("triton"):
        return "Triton is not installed; pip install triton (Linux; the GPU builds of PyTorch bring it)"
    from .triton_tools import triton_version  # which imports this module

    version = triton_version()
    if version < OLDEST_TRITON:
        return f"the kernels need Triton {_dotted(OLDEST_TRITON)}, and {_dotted(version)} is installed; upgrade torch, which brings it"
    if target.kind == "cpu":
        return INTERPRETER_ONLY
    if target.kind not in ("cuda", "rocm", "xpu"):
        return f"Triton has no compiler for {target.kind}; use torch"
    if not os.environ.get("CC") and not any(map(shutil.which, ("gcc", "clang"))):
        return "Triton builds its launchers with a C compiler, and none is found; install gcc, or name one in the variable CC"
    return _why_not_torch(target)


def _why_not_cupy(target: Target) -> str | None:
    if target.kind not in ("cuda", "rocm"):
        return f"CuPy computes on CUDA and ROCm devices only, and this is {target.kind}; use torch or numpy"
    if not installed("cupy"):
        return f"CuPy is not installed; {CUPY_MEND[target.kind]}"
    try:
        import cupy
    except (ImportError, OSError) as error:
        return f"CuPy is installed but does not load ({error}); reinstall the build for your driver"
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        return f"CuPy {cupy.__version__} finds no device ({error}); check that the driver is loaded and the device is visible"
    if count == 0:
        return f"CuPy {cupy.__version__} finds no device; check that the driver is loaded and the device is visible"
    if bool(cupy.cuda.runtime.is_hip) != (target.kind == "rocm"):
        return f"this CuPy is built for {'ROCm' if cupy.cuda.runtime.is_hip else 'CUDA'}; install the build for {target.kind}"
    return None


def library_versions(backend: str) -> dict[str, str]:
    """Name -> version of what computes: the library itself and the math libraries that it says it uses."""
    return {"torch": _torch_versions, "triton": _triton_versions, "cupy": _cupy_versions, "numpy": _numpy_versions}[backend]()


def _known(versions: dict[str, Callable[[], Any]]) -> dict[str, str]:
    found = {name: version() for name, version in versions.items()}
    return {name: str(version) for name, version in found.items() if version is not None}


def _torch_versions() -> dict[str, str]:
    import torch

    return _known(
        {
            "torch": lambda: torch.__version__,
            "cuda": lambda: torch.version.cuda,
            "rocm": lambda: torch.version.hip,
            "cudnn": lambda: torch.backends.cudnn.version() if torch.version.cuda else None,
            "blas": lambda: "mkl" if torch.backends.mkl.is_available() else None,
        }
    )


def _triton_versions() -> dict[str, str]:
    import triton

    return {"triton": str(triton.__version__), **_torch_versions()}


def _cupy_versions() -> dict[str, str]:
    import cupy

    return _known(
        {
            "cupy": lambda: cupy.__version__,
            "rocm" if cupy.cuda.runtime.is_hip else "cuda": cupy.cuda.runtime.runtimeGetVersion,
        }
    )


def _numpy_versions() -> dict[str, str]:
    import numpy

    config = getattr(numpy, "__config__", None)
    blas = getattr(config, "CONFIG", {}).get("Build Dependencies", {}).get("blas", {})
    return {"numpy": numpy.__version__} | ({blas["name"]: str(blas.get("version", "unknown"))} if blas.get("name") else {})
