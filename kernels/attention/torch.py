"""torch.nn.functional.scaled_dot_product_attention, one kernel for each backend it can be told to use.

Which backend takes what is torch's own rule (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp): refused here where it is known
beforehand; where torch refuses more, its reasons are told (``torch_trial.py``). Forward, backward and decoding; a backward call
computes the gradients only, from a forward pass made once. All of it has run on an H200.
"""

from __future__ import annotations

from collections.abc import Callable

from ..arrays import Array, Arrays, Output
from ..kernel import Call, Prepare, Target, kernel
from ..torch_settings import refuses_dtype, set_arithmetic, set_sdpa_backend, torch_version
from ..torch_trial import ask
from .case import AttentionCase
from .torch_gradients import gradients_call

Refusal = Callable[[AttentionCase, Target], "str | None"]

BLACKWELL_GPUS_WITH_TENSOR_MEMORY = 10
"""Major compute capability of the data-centre Blackwells, which cuDNN serves like Hopper."""


def refuses_common(case: AttentionCase, target: Target) -> str | None:
    """Why no attention of torch takes the case."""
    if case.dtype == "int8":
        return "torch has no int8 attention"
    if case.kv_heads != case.heads and torch_version() < (2, 5):
        return "grouped heads (kv_heads < heads) need torch 2.5"
    return refuses_dtype(case, target)


def _common(case: AttentionCase, target: Target) -> str | None:
    if case.window is not None:
        return "scaled_dot_product_attention knows a window only as a mask as large as the scores; torch.flex_attention has it"
    return refuses_common(case, target)


def _older_than(target: Target, major: int, minor: int) -> bool:
    return target.compute_capability is not None and target.compute_capability < (major, minor)


def flash_refuses(case: AttentionCase, target: Target) -> str | None:
    if target.kind not in ("cpu", "cuda", "rocm"):
        return f"torch has no flash attention for {target.kind}"
    if case.dim_v != case.head_dim:
        return f"torch's flash attention needs values as wide as keys, not head_dim {case.head_dim} and head_dim_v {case.dim_v}"
    if target.kind != "cpu":
        widest = 512 if target.kind == "rocm" else 256  # AOTriton from 0.9 on
        if case.dtype not in ("fp16", "bf16"):
            return f"flash attention on a GPU takes fp16 and bf16, not {case.dtype}"
        if case.head_dim > widest:
            return f"flash attention takes head_dim up to {widest}, not {case.head_dim}"
        if target.kind == "cuda" and _older_than(target, 8, 0):
            return "flash attention needs compute capability 8.0"
        small = target.compute_capability in ((8, 6), (8, 7), (8, 8), (8, 9), (12, 0), (12, 1))
        if case.backward and small and 192 < case.head_dim <= 224:
            return "torch's flash attention has no gradients for head_dim 193 to 224 on this chip"
    return _common(case, target)


def cudnn_refuses(case: AttentionCase, target: Target) -> str | None:
    if target.kind != "cuda":
        return "cuDNN is for CUDA devices"
    if case.dtype not in ("fp16", "bf16"):
        return f"cuDNN attention takes fp16 and bf16, not {case.dtype}"
    if _older_than(target, 8, 0):
        return "cuDNN attention needs compute capability 8.0"
    if case.head_dim % 8 or case.dim_v % 8:
        return f"cuDNN attention takes head_dim and head_dim_v in multiples of 8, not {case.head_dim} and {case.dim_v}"
    # Whether the installed cuDNN is new enough for the wide ones, torch says when it is called.
    wide = target.compute_capability == (9, 0) or (target.compute_capability or (0, 0))[0] == BLACKWELL_GPUS_WITH_TENSOR_MEMORY
    widest = 256 if wide else 128
    if max(case.head_dim, case.dim_v) > widest:
        return f"cuDNN attention takes head_dim up to {widest} on this chip, not {case.head_dim} and {case.dim_v}"
    if case.backward and max(case.head_dim, case.dim_v) > 128 and (case.head_dim, case.dim_v) not in ((192, 128), (256, 256)):
        return f"cuDNN has no gradients for head_dim {case.head_dim} and head_dim_v {case.dim_v}: up to 128, 192 and 128, or 256"
    if case.seq_kv == 1:
        return "cuDNN attention needs more than one key"
    if torch_version() < (2, 5):
        return "cuDNN attention needs torch 2.5"
    return _common(case, target)


def efficient_refuses(case: AttentionCase, target: Target) -> str | None:
    if target.kind not in ("cuda", "rocm"):
        return f"torch has no memory-efficient attention for {target.kind}"
    if case.dtype == "tf32":
        return "memory-efficient attention makes each fp32 product of three in TF32, whatever torch is told: its row is that of fp32"
    if case.dtype not in ("fp32", "fp16", "bf16"):
        return f"memory-efficient attention takes fp32, fp16 and bf16, not {case.dtype}"
    if case.kv_heads != case.heads:
        return "memory-efficient attention has no grouped heads (kv_heads < heads)"
    if target.kind == "cuda" and case.dtype == "bf16" and _older_than(target, 8, 0):
        return "memory-efficient attention in bf16 needs compute capability 8.0"
    half = case.dtype in ("fp16", "bf16")
    multiple = 8 if half else 4
    aligned = case.head_dim % multiple == 0 and case.dim_v % multiple == 0
    if not aligned and not _older_than(target, *((7, 0) if half else (8, 0))):
        return f"memory-efficient attention in {case.dtype} takes head_dim and head_dim_v in multiples of {multiple}"
    return _common(case, target)


def math_refuses(case: AttentionCase, target: Target) -> str | None:
    return _common(case, target)


SDPA_BACKENDS: dict[str, Refusal] = {
    "flash": flash_refuses,
    "cudnn": cudnn_refuses,
    "efficient": efficient_refuses,
    "math": math_refuses,
}


def sdpa_call(case: AttentionCase, backend: str, q: Array, k: Array, v: Array) -> Call:
    """A call of scaled_dot_product_attention that uses this backend. Raises Refused where torch says that the backend cannot."""
    import torch

    set_arithmetic(case.dtype)
    set_sdpa_backend(backend)
    options = {"is_causal": case.causal}
    if case.kv_heads != case.heads:
        options["enable_gqa"] = True
    attention = torch.nn.functional.scaled_dot_product_attention

    def run() -> Array:
        return attention(q, k, v, **options)

    ask(run)
    return run


def makes_fp32_of_tf32(q: Array) -> bool:
    """Whether memory-efficient attention makes each product of three on tensor cores in TF32, nearly as exact as fp32: CUTLASS's
    OpMultiplyAddFastF32 (aten/src/ATen/native/transformers/cuda/mem_eff_attention/gemm_kernel_utils.h)."""
    import torch

    nvidia = q.device.type == "cuda" and torch.version.hip is None
    return nvidia and q.dtype == torch.float32 and torch.cuda.get_device_capability(q.device) >= (8, 0)


def _prepare(backend: str) -> Prepare:
    def prepare(case: AttentionCase, arrays: Arrays, inputs: tuple[Array, ...], output: Output) -> Call:
        if case.backward:
            *leaves, d_o = (array.detach() for array in inputs)
            for leaf in leaves:
                leaf.requires_grad_()
            call = gradients_call(sdpa_call(case, backend, *leaves)(), leaves, d_o)
        else:
            call = sdpa_call(case, backend, *inputs)
        if backend == "efficient" and makes_fp32_of_tf32(inputs[0]):
            call.config = "fp32=3xtf32"  # type: ignore[attr-defined]
        return call

    return prepare


for _name, _refuses in SDPA_BACKENDS.items():
    for _op in ("attention", "decode"):
        kernel(_op, "torch", f"torch.sdpa.{_name}", _refuses)(_prepare(_name))
