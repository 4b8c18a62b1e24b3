"""RMSNorm and LayerNorm as torch does them: its fused kernels where it has them, one pass over memory each.

``torch.rms_norm`` is fused on GPUs from torch 2.9 on; before, torch runs it as a row of elementary operations, which the rate shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..arrays import Array, Arrays, Output
from ..kernel import Call, Target, kernel
from ..memory.refusing import not_torch
from .case import EPSILON, LayerNormCase, RmsNormCase


@kernel("rms_norm", "torch", "torch.rms_norm", not_torch)
def rms_norm(case: RmsNormCase, arrays: Arrays, inputs: tuple[Array, ...], output: Output) -> Call:
    import torch
    from torch.nn import functional

    shape = [case.width]
    if not case.backward:
        x, w = inputs
        return lambda: functional.rms_norm(x, shape, w, EPSILON)
    x, w, dy = inputs
    if dy.device.type == "cuda" and hasattr(torch.ops.aten, "_fused_rms_norm_backward"):
        root = torch.ops.aten._fused_rms_norm(x, shape, w, EPSILON)[1]
        fused: Callable[..., Any] = torch.ops.aten._fused_rms_norm_backward
        return lambda: fused(dy, x, shape, root, w, [True, True])
    return _autograd(lambda *leaves: functional.rms_norm(leaves[0], shape, leaves[1], EPSILON), (x, w), dy)


def _autograd(forward: Callable[..., Array], inputs: tuple[Array, ...], dy: Array) -> Call:
    """Gradients of ``forward`` through a graph that is built once. 16-bit inputs are widened in it, as autocast does."""
    import torch

    leaves = tuple(array.detach().requires_grad_() for array in inputs)
    y = forward(*(leaf.float() if leaf.element_size() == 2 else leaf for leaf in leaves))
    upstream = dy.to(y.dtype)
    return lambda: torch.autograd.grad(y, leaves, upstream, retain_graph=True)


def layer_norm_refuses(case: LayerNormCase, target: Target) -> str | None:
    if case.backward and target.kind == "cpu" and case.dtype in ("fp16", "bf16"):
        return f"on a CPU torch keeps the statistics of LayerNorm in {case.dtype}, so its gradients are not those of fp32; use fp32"
    return not_torch(case, target)


@kernel("layer_norm", "torch", "torch.layer_norm", layer_norm_refuses)
def layer_norm(case: LayerNormCase, arrays: Arrays, inputs: tuple[Array, ...], output: Output) -> Call:
    import torch
    from torch.nn import functional

    shape = [case.width]
    if not case.backward:
        x, w, b = inputs
        return lambda: functional.layer_norm(x, shape, w, b, EPSILON)
    x, w, dy = inputs
    _, mean, root = torch.native_layer_norm(x, shape, w, w, EPSILON)
    gradients: Callable[..., Any] = torch.ops.aten.native_layer_norm_backward
    return lambda: gradients(dy, x, shape, mean, root, w, w, [True, True, True])  # of the bias it asks the shape alone
