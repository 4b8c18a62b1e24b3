"""What one layer costs one rank for one microbatch: the times of its operations, summed by kind and pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .constants import ATTENTION_KERNELS
from .cut import Cut
from .machine import Machine
from .models import Transformer
from .operations import Core, Pass, Product, layer_operations
from .plans import Plans

if TYPE_CHECKING:
    from chipassay.results.shape_models.product import ProductModel

Array = npt.NDArray[Any]

LOGIT_BYTES = 20
"""Per logit, forward and backward: read 2, kept in fp32 4, softmax and loss read twice 8, gradient written 4 and converted 2."""
ALIGNED = 8
"""Elements of 16 bit that rows must be a multiple of for batched products to run on tensor cores (NVIDIA, "Matrix Multiplication
Background User's Guide", section "Requirements to use Tensor Cores"). Unfused attention with heads of another size is left with vector
units: BLOOM's trials with heads of 150 and 108 ran a third slower (chronicles-prequel)."""
GRADIENT_SUM_BYTES = 8
"""Adding a weight's gradient to an fp32 sum: read and written. The fused product does it as it writes its result."""


@dataclass(frozen=True, eq=False)
class Work:
    """Seconds by kind, and kernels launched; arrays."""

    matmul_s: Any = 0.0
    attention_s: Any = 0.0
    memory_s: Any = 0.0
    launches: Any = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.matmul_s + other.matmul_s,
            self.attention_s + other.attention_s,
            self.memory_s + other.memory_s,
            self.launches + other.launches,
        )

    def times(self, factor: Any) -> Work:
        return Work(self.matmul_s * factor, self.attention_s * factor, self.memory_s * factor, self.launches * factor)

    @property
    def total_s(self) -> Any:
        return self.matmul_s + self.attention_s + self.memory_s


@dataclass(frozen=True, eq=False)
class LayerTimes:
    """The mean layer of a model, by pass."""

    forward: Work
    backward_input: Work
    """The gradients of activations, and all passes over memory."""
    backward_weight: Work
    """The gradients of weights."""
    core_forward: Work
    """The attention core of the forward pass, which selective recomputation repeats where it is unfused."""
    tp_exchanges: Any
    expert_exchanges: Any
    expert_tokens: Any
    dispatched_tokens: Any


@dataclass(frozen=True, eq=False)
class EndTimes:
    """Embedding and logits with the loss, for one microbatch."""

    embedding_forward: Work
    embedding_backward: Work
    head_forward: Work
    head_backward_input: Work
    head_backward_weight: Work


def product_times(products: Sequence[Product], machine: Machine, cut: Cut) -> tuple[Array, Array, Array]:
    """Seconds of each product forward, of its input gradient and of its weight gradient: arrays (products, cuts).

    Weight gradients are summed over microbatches in fp32, read and written as the product ends: never less time than that takes.
    """
    shape = cut.tp.shape
    m, n, k, g = (np.stack([np.broadcast_to(getattr(p, name), shape) for p in products]) for name in ("m", "n", "k", "groups"))
    linear = np.array([p.weights for p in products])
    model = machine.linear_products if linear[0] else machine.products
    sustained = machine.sustained
    if not linear[0] and cut.model.head_dim % ALIGNED and machine.element_bytes == 2:
        model, sustained = machine.vector_products, 1.0
    forward, dgrad, wgrad = _three_passes(model, sustained, m, n, k, g)
    if linear[0]:
        wgrad = np.maximum(wgrad, _summed_s(machine, m, n, k, g))
    return forward, dgrad, wgrad


def _three_passes(model: ProductModel, sustained: float, m: Array, n: Array, k: Array, groups: Array) -> tuple[Array, Array, Array]:
    """Products of (m x k) and (k x n) forward, of the gradient of A and of that of B, in one call: C is m x n, then m x k (layout nn), then
    n x k (layout tn)."""
    times = model.time_s(np.stack([m, m, n]), np.stack([n, k, k]), np.stack([k, n, m]), np.stack([groups] * 3)) / sustained
    return times[0], times[1] * model.layouts.get("nn", 1.0), times[2] * model.layouts.get("tn", 1.0)


def _summed_s(machine: Machine, m: Array, n: Array, k: Array, groups: Array) -> Array:
    """What the bytes of a weight gradient take that is added to an fp32 sum: both operands read, the sum read and written."""
    time_s: Array = machine.memory_s((GRADIENT_SUM_BYTES * n * k + machine.element_bytes * m * (n + k)) * groups)
    return time_s


def pass_times(passes: Sequence[Pass], machine: Machine) -> tuple[Any, Any, float, float]:
    """(forward seconds, backward seconds, kernels forward, kernels backward) of memory-bound operations."""
    forward: Any = 0.0
    backward: Any = 0.0
    for p in passes:
        ahead, back = _curve(machine, p.op, "forward"), _curve(machine, p.op, "backward")
        forward = forward + p.forward_kernels * ahead.overhead_s + p.forward_bytes / ahead.rate
        backward = backward + p.backward_kernels * back.overhead_s + p.backward_bytes / back.rate
    return forward, backward, sum(p.forward_kernels for p in passes), sum(p.backward_kernels for p in passes)


def _curve(machine: Machine, op: str, direction: str) -> Any:
    ops = machine.memory_ops
    return ops.get(f"{op} {direction}") or ops.get(op) or machine.memory


def core_times(cores: Sequence[Core], machine: Machine, cut: Cut) -> tuple[Any, Any]:
    """(forward, backward) seconds of the fused attention calls. With context parallelism each rank computes 1/cp of the scores,
    balanced by giving it one early and one late part of the sequence."""
    model, attentions = cut.model, machine.attentions
    forward: Any = 0.0
    backward: Any = 0.0
    kernel = ATTENTION_KERNELS[cut.settings.attention]
    share = machine.attention_share(kernel.later_share if machine.later_than_ampere else kernel.share)
    for core in cores:
        call = (cut.microbatch, core.heads, float(model.seq_len), float(model.seq_len), core.head_dim, core.kv_heads, model.causal)
        once = attentions.time_s(*call, window=core.window)
        ratio = float(np.interp(core.head_dim, *_sizes(attentions.backward)))
        forward = forward + once / cut.cp / share
        backward = backward + once * ratio / cut.cp / share
    return forward, backward


def _sizes(values: Any) -> tuple[list[float], list[float]]:
    found = sorted((float(size), float(value)) for size, value in values.items())
    return [size for size, _ in found], [value for _, value in found]


def layer_times(model: Transformer, plans: Plans, machine: Machine) -> LayerTimes:
    """The mean layer, one entry per plan. Raises what the profile's models raise for sizes of nothing."""
    cut = Cut.of(model, plans, machine.element_bytes)
    total: dict[str, Any] = {}
    for block in model.blocks:
        share = block.count / model.layers
        for name, value in _block_times(cut, block, machine).items():
            part = value.times(share) if isinstance(value, Work) else value * share
            total[name] = part if name not in total else total[name] + part
    return LayerTimes(**total)


def _block_times(cut: Cut, block: Any, machine: Machine) -> dict[str, Any]:
    ops = layer_operations(cut, block)
    forward_s, dgrad_s, wgrad_s = (x.sum(axis=0) for x in product_times(ops.products, machine, cut))
    memory_f, memory_b, kernels_f, kernels_b = pass_times(ops.passes, machine)
    if ops.cores:
        core_f, core_b = core_times(ops.cores, machine, cut)
        core_kernels = float(len(ops.cores))
        core_backward_kernels = 3.0 * len(ops.cores)  # the sum of output times gradient, the core, the conversion of dQ
    else:
        score_f, score_dgrad, score_wgrad = (x.sum(axis=0) for x in product_times(ops.score_products, machine, cut))
        pass_f, pass_b, core_kernels, core_backward_kernels = pass_times(ops.scores, machine)
        core_f, core_b = score_f + pass_f, score_dgrad + score_wgrad + pass_b
        core_kernels += 2
        core_backward_kernels += 4
    count = len(ops.products)
    return {
        "forward": Work(forward_s, core_f, memory_f, count + core_kernels + kernels_f),
        "backward_input": Work(dgrad_s, core_b, memory_b, count + core_backward_kernels + kernels_b),
        "backward_weight": Work(wgrad_s, 0.0, 0.0, float(count)),
        "core_forward": Work(0.0, core_f, 0.0, float(core_kernels)),
        "tp_exchanges": ops.tp_exchanges,
        "expert_exchanges": ops.expert_exchanges,
        "expert_tokens": ops.expert_tokens,
        "dispatched_tokens": ops.dispatched_tokens,
    }


def end_times(model: Transformer, plans: Plans, machine: Machine) -> EndTimes:
    """The embedding (one row read and written each way) and the logits with their loss.

    Logits of further tokens come with a projection of 2h to h, cut by TP (Megatron-LM, multi_token_prediction.py): the mean over all
    logits of a microbatch.
    """
    cut = Cut.of(model, plans, machine.element_bytes)
    row_bytes = machine.element_bytes * cut.rows * model.hidden
    columns = model.padded_vocab(cut.tp) / cut.tp
    tokens = cut.tokens * model.predicted_share
    h = np.full_like(tokens, float(model.hidden))
    forward_s, dgrad_s, wgrad_s = _head_products(machine, tokens, columns, h)
    if model.mtp_depth:
        share = model.mtp_depth / (1 + model.mtp_depth)
        projection = _head_products(machine, cut.tokens, h / cut.tp, 2 * h)
        forward_s, dgrad_s, wgrad_s = (a + share * b for a, b in zip((forward_s, dgrad_s, wgrad_s), projection, strict=True))
    loss_s = machine.memory_s(LOGIT_BYTES * tokens * columns)
    norm_f, norm_b = machine.memory_s(2 * row_bytes, "layer_norm forward"), machine.memory_s(3 * row_bytes, "layer_norm backward")
    return EndTimes(
        Work(0.0, 0.0, machine.memory_s(2 * row_bytes, "gather"), 3.0),
        Work(0.0, 0.0, machine.memory_s(3 * row_bytes, "gather"), 3.0),
        Work(forward_s, 0.0, loss_s / 2 + norm_f, 8.0),
        Work(dgrad_s, 0.0, loss_s / 2 + norm_b, 6.0),
        Work(wgrad_s, 0.0, 0.0, 1.0),
    )


def _head_products(machine: Machine, m: Array, n: Array, k: Array) -> tuple[Array, Array, Array]:
    """The three passes of a product that is never narrower than 16 bit."""
    one = np.ones_like(m)
    forward_s, dgrad_s, wgrad_s = _three_passes(machine.products, machine.sustained, m, n, k, one)
    return forward_s, dgrad_s, np.maximum(wgrad_s, _summed_s(machine, m, n, k, one))
