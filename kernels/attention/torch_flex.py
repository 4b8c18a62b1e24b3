"""torch.nn.attention.flex_attention, compiled: torch's own way to a sliding window that skips what no query sees.

Run on an H200. torch.compile writes and compiles the kernel while it is prepared, which takes seconds to a minute for each shape:
too much of an hour that is paid for where a backend of SDPA does the same, so it is offered for windows only.
The gradients come from torch's engine, which works on the stream of the forward pass: they cannot be captured into a CUDA graph.
"""

from __future__ import annotations

from typing import Any

from ..arrays import Array, Arrays, Output
from ..backends import installed
from ..kernel import Call, Target, kernel
from ..torch_settings import set_arithmetic, torch_version
from .case import AttentionCase
from .torch import refuses_common

NARROWEST = 16
"""tl.dot takes no shorter sums (torch/_inductor/kernel/flex/flex_attention.py)."""
LARGEST_EAGER_MASK = 2**30
"""Elements of the whole mask that ``create_block_mask`` may spread out in memory; compiled it does not."""


def refuses(case: AttentionCase, target: Target) -> str | None:
    if target.kind == "cpu":
        return "flex_attention has no gradients on a CPU and takes long to compile there; numpy.attention.unfused has windows"
    if target.kind not in ("cuda", "rocm"):
        return f"flex_attention is not tried on {target.kind}; use a backend of scaled_dot_product_attention"
    if case.window is None:
        return "flex_attention compiles for up to a minute a shape; without a window use a backend of scaled_dot_product_attention"
    if torch_version() < (2, 5):
        return "flex_attention needs torch 2.5"
    if not installed("triton"):
        return "flex_attention is compiled through Triton, which is not installed; pip install triton"
    if case.dtype not in ("fp32", "tf32", "fp16", "bf16"):
        return f"flex_attention takes fp32, fp16 and bf16, not {case.dtype}"
    if target.compute_capability is not None and target.compute_capability < (8, 0):
        return "flex_attention is not tried below compute capability 8.0, where Triton's matrix products are slow or missing"
    widths = (case.head_dim, case.dim_v)
    if min(widths) < NARROWEST:
        return f"flex_attention takes head_dim and head_dim_v from {NARROWEST} on, not {case.head_dim} and {case.dim_v}"
    if torch_version() < (2, 7) and any(width & (width - 1) for width in widths):
        return "flex_attention takes other head_dim than powers of 2 from torch 2.7 on"
    if case.group & (case.group - 1):
        return f"flex_attention takes groups of 1, 2, 4, ... query heads, not {case.group}"
    return refuses_common(case, target)


def block_mask(case: AttentionCase, device: Any) -> Any:
    """Which tiles of keys each tile of queries sees."""
    from torch.nn.attention.flex_attention import create_block_mask

    window = case.seq_kv if case.window is None else case.window  # all

    def seen(b: Array, h: Array, i: Array, j: Array) -> Array:
        return (j <= i) & (j > i - window)

    compiled = case.seq_q * case.seq_kv > LARGEST_EAGER_MASK
    return create_block_mask(seen, None, None, case.seq_q, case.seq_kv, device=device, _compile=compiled)


@kernel("attention", "torch", "torch.flex_attention", refuses)
def flex(case: AttentionCase, arrays: Arrays, inputs: tuple[Array, ...], output: Output) -> Call:
    import torch
    import torch._inductor.config as inductor
    from torch.nn.attention.flex_attention import flex_attention

    set_arithmetic(case.dtype)
    # After eight shapes torch would go on without compiling, unfused, with no more than a warning.
    torch.compiler.reset()
    # Else a process for each core is started to compile one kernel, and lives on beside what is timed.
    inductor.compile_threads = 1
    compiled = torch.compile(flex_attention, dynamic=False)
    options = {"block_mask": block_mask(case, inputs[0].device), "enable_gqa": case.kv_heads != case.heads}
    if not case.backward:
        q, k, v = inputs
        compiled(q, k, v, **options)
        return lambda: compiled(q, k, v, **options)

    import torch._functorch.config as functorch

    if hasattr(functorch, "donated_buffer"):
        functorch.donated_buffer = False  # else torch gives away what a second backward pass needs, and refuses one
    *leaves, d_o = (array.detach() for array in inputs)
    for leaf in leaves:
        leaf.requires_grad_()
    result = compiled(*leaves, **options)

    def run() -> Output:
        return torch.autograd.grad(result, leaves, d_o, retain_graph=True)

    run()
    return run
