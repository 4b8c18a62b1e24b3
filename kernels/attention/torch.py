"""torch.nn.functional.scaled_dot_product_attention, one kernel for each backend it can be told to use.

Which backend takes what is torch's own rule (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp): refused here where it is known
beforehand; where torch refuses more, it raises on the first call.
"""

from __future__ import annotations

from collections.abc import Callable

from ..arrays import Array, Arrays
from ..kernel import Call, Prepare, Target, kernel
from ..torch_settings import refuses_dtype, set_arithmetic, set_sdpa_backend
from .case import AttentionCase

Refusal = Callable[[AttentionCase, Target], "str | None"]


def _version() -> tuple[int, int]:
    import torch

    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def _common(case: AttentionCase, target: Target) -> str | None:
    if case.dtype == "int8":
        return "torch has no int8 attention"
    if case.backward:
        return "no backward kernel of torch yet"
    if case.window is not None:
        return "scaled_dot_product_attention knows no window; use torch.flex_attention"
    if case.dim_v != case.head_dim:
        return "head_dim_v other than head_dim: not yet"
    if case.kv_heads != case.heads and _version() < (2, 5):
        return "grouped heads (kv_heads < heads) need torch 2.5"
    return refuses_dtype(case, target)


def _older_than(target: Target, major: int, minor: int) -> bool:
    return target.compute_capability is not None and target.compute_capability < (major, minor)


def flash_refuses(case: AttentionCase, target: Target) -> str | None:
    if target.kind not in ("cpu", "cuda", "rocm"):
        return f"torch has no flash attention for {target.kind}"
    if target.kind != "cpu":
        if case.dtype not in ("fp16", "bf16"):
            return f"flash attention on a GPU takes fp16 and bf16, not {case.dtype}"
        if case.head_dim > 256:
            return f"flash attention takes head_dim up to 256, not {case.head_dim}"
        if target.kind == "cuda" and _older_than(target, 8, 0):
            return "flash attention needs compute capability 8.0"
    return _common(case, target)


def cudnn_refuses(case: AttentionCase, target: Target) -> str | None:
    if target.kind != "cuda":
        return "cuDNN is for CUDA devices"
    if case.dtype not in ("fp16", "bf16"):
        return f"cuDNN attention takes fp16 and bf16, not {case.dtype}"
    if _older_than(target, 8, 0):
        return "cuDNN attention needs compute capability 8.0"
    widest = 256 if target.compute_capability == (9, 0) else 128
    if case.head_dim % 8 or case.head_dim > widest:
        return f"cuDNN attention takes head_dim up to {widest} in multiples of 8, not {case.head_dim}"
    if _version() < (2, 5):
        return "cuDNN attention needs torch 2.5"
    return _common(case, target)


def efficient_refuses(case: AttentionCase, target: Target) -> str | None:
    if target.kind not in ("cuda", "rocm"):
        return f"torch has no memory-efficient attention for {target.kind}"
    if case.dtype not in ("fp32", "tf32", "fp16", "bf16"):
        return f"memory-efficient attention takes fp32, fp16 and bf16, not {case.dtype}"
    if case.kv_heads != case.heads:
        return "memory-efficient attention has no grouped heads (kv_heads < heads)"
    if target.kind == "cuda" and case.dtype == "bf16" and _older_than(target, 8, 0):
        return "memory-efficient attention in bf16 needs compute capability 8.0"
    return _common(case, target)


def math_refuses(case: AttentionCase, target: Target) -> str | None:
    return _common(case, target)


def _sdpa(backend: str) -> Prepare:
    def prepare(case: AttentionCase, arrays: Arrays, inputs: tuple[Array, ...], output: Array) -> Call:
        import torch

        set_arithmetic(case.dtype)
        set_sdpa_backend(backend)
        q, k, v = inputs
        options = {"is_causal": case.causal}
        if case.kv_heads != case.heads:
            options["enable_gqa"] = True
        attention = torch.nn.functional.scaled_dot_product_attention
        return lambda: attention(q, k, v, **options)

    return prepare


for _name, _refuses in {"flash": flash_refuses, "cudnn": cudnn_refuses, "efficient": efficient_refuses, "math": math_refuses}.items():
    for _op in ("attention", "decode"):
        kernel(_op, "torch", f"torch.sdpa.{_name}", _refuses)(_sdpa(_name))
