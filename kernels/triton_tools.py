"""What all Triton kernels share: compiling on first use, so that Triton is not imported before, and where Triton can run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from .arrays import Array
from .backends import INTERPRETER_ONLY, interpreting
from .kernel import Call, Target

TRITON_DTYPES = {"fp32": "fp32", "tf32": "fp32", "fp16": "fp16", "bf16": "bf16", "int8": "i8", "int32": "i32", "fp64": "fp64"}
"""Our dtypes as Triton writes them in a signature."""


def options() -> dict[str, bool]:
    """Options of every launch: fused multiply-add, whose default differs between Triton versions (off from 3.10 on)."""
    return {} if interpreting() else {"enable_fp_fusion": True}


def jit(body: Callable[..., Any]) -> Callable[[], Any]:
    """``triton.jit`` that waits: calling the result gives the compiled kernel, and only then Triton is imported.

    The body writes ``tl`` for ``triton.language`` without importing it.
    """

    @functools.cache
    def compiled() -> Any:
        import triton
        import triton.language

        body.__globals__["tl"] = triton.language
        return triton.jit(body)

    return compiled


def refuses_target(target: Target) -> str | None:
    """Why Triton cannot run on the target. On a CPU it runs only in its interpreter (TRITON_INTERPRET=1), for tests."""
    if target.kind == "cpu":
        return None if interpreting() else INTERPRETER_ONLY
    if target.kind not in ("cuda", "rocm", "xpu"):
        return f"Triton has no compiler for {target.kind}"
    if target.kind == "cuda" and target.compute_capability is not None and target.compute_capability < (7, 0):
        return "Triton needs compute capability 7.0"
    return None


def refuses_tensor_dtype(dtype: str, target: Target) -> str | None:
    """Why a matrix kernel in Triton cannot take the dtype on the target."""
    if dtype not in ("fp32", "tf32", "fp16", "bf16"):
        return f"no Triton kernel for {dtype}"
    old = target.compute_capability is not None and target.compute_capability < (8, 0)
    if dtype == "tf32" and target.kind not in ("cuda", "cpu"):
        return "TF32 is arithmetic of NVIDIA tensor cores"
    if dtype in ("tf32", "bf16") and target.kind == "cuda" and old:
        return f"{dtype} on tensor cores needs compute capability 8.0"
    return None


def dot_precision(dtype: str) -> str:
    """``input_precision`` of tl.dot: matters for fp32 storage only."""
    return "tf32" if dtype == "tf32" else "ieee"


def launcher(launch: Callable[[Array], Any], output: Array) -> Call:
    """A call that launches the kernel on the output buffer.

    Triton's interpreter (3.9) truncates to bf16 where hardware rounds: there the kernel writes fp32, and torch rounds.
    """
    import torch

    def run() -> Array:
        launch(output)
        return output

    def run_interpreted() -> Array:
        wide = torch.full_like(output, float("nan"), dtype=torch.float32)
        launch(wide)
        return output.copy_(wide)

    return run_interpreted if interpreting() and output.dtype == torch.bfloat16 else run


def choose(body: Any, configs: tuple[dict[str, int], ...], key: list[str], try_one: Callable[[Any], Any]) -> dict[str, int]:
    """The fastest of the configs by Triton's own tuner; the interpreter takes the first.

    ``try_one`` launches the kernel it is given, without a config, on a scratch output.
    """
    if interpreting():
        return {name: value for name, value in configs[0].items() if name not in ("num_warps", "num_stages")}
    import triton

    launch_options = ("num_warps", "num_stages")
    tuned = triton.autotune(
        configs=[
            triton.Config(
                {name: value for name, value in config.items() if name not in launch_options},
                **{name: config[name] for name in launch_options},
            )
            for config in configs
        ],
        key=key,
    )(body)
    try_one(tuned)
    best = tuned.best_config
    return {**best.kwargs, "num_warps": best.num_warps, "num_stages": best.num_stages}


def named(run: Call, config: dict[str, int]) -> Call:
    """Write the tuned choice on the call, where the ``config`` column of the results finds it."""
    run.config = ";".join(f"{name}={value}" for name, value in config.items())  # type: ignore[attr-defined]
    return run
