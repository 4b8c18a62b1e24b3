"""What all Triton kernels share: compiling on first use, so that Triton is not imported before, and where Triton can run."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

from .arrays import Array, Output, each
from .backends import INTERPRETER_ONLY, interpreting
from .kernel import Call, Target

TRITON_DTYPES = {"fp32": "fp32", "tf32": "fp32", "fp16": "fp16", "bf16": "bf16", "int8": "i8", "int32": "i32", "fp64": "fp64"}
TRITON_DTYPES |= {"fp8_e4m3": "fp8e4nv", "fp8_e5m2": "fp8e5"}
"""Our dtypes as Triton writes them in a signature."""

INTERPRETED_PROGRAMS = 3
"""Programs of a persistent kernel in the interpreter: few enough that each has several turns."""


def options() -> dict[str, bool]:
    """Options of every launch: fused multiply-add, whose default differs between Triton versions (off from 3.10 on)."""
    return {} if interpreting() else {"enable_fp_fusion": True}


def launch_options(config: Mapping[str, int]) -> dict[str, int]:
    """What a configuration tells the compiler (its keys in lower case: num_warps, waves_per_eu); nothing in the interpreter."""
    return {**options(), **({} if interpreting() else {name: value for name, value in config.items() if name.islower()})}


def constants(config: Mapping[str, int]) -> dict[str, int]:
    """What a configuration tells the kernel (its keys in upper case: BLOCK_M).

    >>> constants({"BLOCK_M": 128, "num_warps": 8})
    {'BLOCK_M': 128}
    """
    return {name: value for name, value in config.items() if name.isupper()}


class Inlined:
    """A function that kernels call; it takes its jitted form when the first of them is compiled."""

    def __init__(self, body: Callable[..., Any]) -> None:
        self.body = body

    @functools.cached_property
    def compiled(self) -> Any:
        return _jitted(self.body)

    def __call__(self, *arguments: Any, **named_arguments: Any) -> Any:
        raise TypeError(f"{self.body.__name__} is called by Triton kernels only")


def jit(body: Callable[..., Any]) -> Callable[[], Any]:
    """``triton.jit`` that waits: calling the result gives the compiled kernel, and only then Triton is imported.

    The body writes ``tl`` for ``triton.language`` without importing it, and calls functions decorated with ``inlined``.
    """
    return functools.cache(functools.partial(_jitted, body))


def inlined(body: Callable[..., Any]) -> Any:
    """A function for kernels of this or another module to call."""
    return Inlined(body)


def _jitted(body: Callable[..., Any]) -> Any:
    import triton
    import triton.language

    names = body.__globals__
    names["tl"] = triton.language
    for name in body.__code__.co_names:  # attributes are among them: tl.store must not make a function `store` call itself
        if isinstance(names.get(name), Inlined) and names[name].body is not body:
            names[name] = names[name].compiled
    return triton.jit(body)


def triton_version() -> tuple[int, int]:
    """Major and minor version of the installed Triton, without importing it."""
    from importlib.metadata import version

    major, minor = re.findall(r"\d+", version("triton"))[:2]
    return int(major), int(minor)


def refuses_target(target: Target) -> str | None:
    """Why Triton cannot run on the target. On a CPU it runs only in its interpreter (TRITON_INTERPRET=1), for tests."""
    if target.kind == "cpu":
        return None if interpreting() else INTERPRETER_ONLY
    if target.kind not in ("cuda", "rocm", "xpu"):
        return f"Triton has no compiler for {target.kind}"
    if target.kind == "cuda" and target.compute_capability is not None and target.compute_capability < (7, 0):
        return "Triton needs compute capability 7.0"
    return None


NO_OLD_TENSOR_CORES = "Triton multiplies fp16 outside the tensor cores below compute capability 8.0; use cupy's kernels or torch"
"""Seen in the PTX that Triton 3.6 and 3.9 make for sm_70 and sm_75: no mma, and the products one by one."""


def refuses_tensor_dtype(dtype: str, target: Target) -> str | None:
    """Why a matrix kernel in Triton cannot take the dtype on the target."""
    if dtype not in ("fp32", "tf32", "fp16", "bf16"):
        return f"no Triton kernel for {dtype}"
    old = target.compute_capability is not None and target.compute_capability < (8, 0)
    if dtype == "tf32" and target.kind not in ("cuda", "cpu"):
        return "TF32 is arithmetic of NVIDIA tensor cores"
    if dtype == "fp16" and target.kind == "cuda" and old:
        return NO_OLD_TENSOR_CORES
    if dtype in ("tf32", "bf16") and target.kind == "cuda" and old:
        return f"{dtype} on tensor cores needs compute capability 8.0"
    return None


def refuses_descriptors(target: Target) -> str | None:
    """Why a kernel that loads through tensor descriptors (TMA) cannot run: the chip or the installed Triton has none."""
    if target.kind not in ("cuda", "cpu"):
        return "TMA is hardware of NVIDIA chips"
    if target.kind == "cuda" and (target.compute_capability or (9, 0)) < (9, 0):
        return "TMA needs compute capability 9.0"
    try:
        version = triton_version()
    except ImportError:  # then the backend as a whole says so
        return None
    if version < (3, 4):
        return f"tensor descriptors came with Triton 3.4, and {version[0]}.{version[1]} is installed; upgrade triton"
    return None


def dot_precision(dtype: str) -> str:
    """``input_precision`` of tl.dot: matters for fp32 storage only."""
    return "tf32" if dtype == "tf32" else "ieee"


def target_of(array: Array) -> Target:
    """The device that a tensor is on, as kernels see it."""
    import torch

    if array.device.type != "cuda":
        return Target(array.device.type)
    if torch.version.hip:
        name = str(torch.cuda.get_device_properties(array.device).gcnArchName)
        return Target("rocm", architecture=name.split(":")[0])
    major, minor = torch.cuda.get_device_capability(array.device)
    return Target("cuda", (major, minor), architecture=f"sm_{major}{minor}")


def multiprocessors(array: Array) -> int:
    """How many programs of a persistent kernel run side by side on the tensor's device, one on each multiprocessor."""
    import torch

    if array.device.type == "cpu":
        return INTERPRETED_PROGRAMS
    if array.device.type == "xpu":
        return int(torch.xpu.get_device_properties(array.device).gpu_subslice_count)
    return int(torch.cuda.get_device_properties(array.device).multi_processor_count)


def widened(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    """The inputs of a kernel. Triton's interpreter (3.9) multiplies bf16 wrongly and lacks fp8: there they are fp32, exactly."""
    import torch

    narrow = (torch.bfloat16, *(getattr(torch, name) for name in ("float8_e4m3fn", "float8_e5m2") if hasattr(torch, name)))
    return tuple(array.float() if interpreting() and array.dtype in narrow else array for array in arrays)


def launcher(launch: Callable[[Output], Any], output: Output) -> Call:
    """A call that launches the kernel on the output buffer, or on the tuple of them.

    Triton's interpreter (3.9) truncates to bf16 where hardware rounds: there the kernel writes fp32, and torch rounds.
    """
    return bound_launcher(lambda out: functools.partial(launch, out), output)


def bound_launcher(bind: Callable[[Output], Callable[[], Any]], output: Output) -> Call:
    """``launcher`` for a kernel with work to do once for each output buffer, such as making its tensor descriptor."""
    import torch

    outputs = each(output)
    if interpreting() and any(array.dtype == torch.bfloat16 for array in outputs):

        def run_interpreted() -> Output:
            wide = tuple(x.float() if x.dtype == torch.bfloat16 else x for x in outputs)
            bind(wide if isinstance(output, tuple) else wide[0])()
            for narrow, written in zip(outputs, wide, strict=True):
                if written is not narrow:
                    narrow.copy_(written)
            return output

        return run_interpreted

    launch = bind(output)

    def run() -> Output:
        launch()
        return output

    return run


def named(run: Call, config: dict[str, int]) -> Call:
    """Write the tuned choice on the call, where the ``config`` column of the results finds it."""
    run.config = ";".join(f"{name}={value}" for name, value in config.items())  # type: ignore[attr-defined]
    return run
