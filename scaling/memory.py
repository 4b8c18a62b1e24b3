"""What one chip must hold, by kind: weights, gradients, optimizer state, activations, and the working space of the step.

The fullest of the pipeline's stages counts, at the fuller of two moments: at the loss, beside the logits, or in a layer's backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import overload

import numpy as np

from .activations import LayerActivations, exchanged_bytes, layer_activations, spread
from .machine import Machine
from .models import Transformer
from .plan import Loss, Plan
from .plans import Array, Plans
from .stages import Stages, candidate_stages
from .weights import (
    both_layers,
    dense_parameters,
    expert_parameters,
    experts_on_rank,
    gradient_bytes,
    on_rank,
    stage_weights,
)

MASTER_BYTES = 4
"""fp32 copy of a narrower weight, which the optimizer updates."""
STATE_BYTES = {"adam": 8, "adam-bf16": 4, "adam-8bit": 2, "sgd": 4}
"""The optimizer's own state per weight: Adam's two moments in fp32, bf16 or 8 bit (Dettmers et al. 2021, arXiv 2110.02861), one fp32
moment of SGD."""
FP8_COPY_BYTES = 2
"""Transformer Engine keeps the weights in bf16 and caches each product's in fp8 twice over a step's microbatches: as they are and
transposed, since Hopper's fp8 products take both operands in one layout."""
FP8_OPERAND_BYTES = 1

LOSS_BYTES: dict[Loss, int] = {"fused": 2, "in-place": 4, "torch": 12}
"""Per logit, beside the logit itself: its 16-bit gradient from one fused kernel (Transformer Engine, flash-attn); one fp32 copy that is
overwritten (Megatron-LM; Korthikanti et al. 2022, section 4.3); or the fp32 copy, its log-softmax and its gradient (PyTorch's own)."""

FRAGMENTATION_SHARE = 0.04
"""Memory that PyTorch's allocator holds over what is allocated: about the middle of eleven runs (SimuMax v1.2, B200, max reserved over max
allocated: 1.03 to 1.09)."""
CONTEXT_BYTES = 1.5e9
"""CUDA context, library workspaces and NCCL's buffers (assumed)."""

KINDS = (
    "weights",
    "gradients",
    "optimizer",
    "activations",
    "recompute",
    "logits",
    "workspace",
    "fresh gradients",
    "gathered",
    "buffers",
    "reserved",
)


def optimizer_bytes(optimizer: str, dtype: str) -> int:
    """State per weight: 12 for Adam in mixed precision (ZeRO, arXiv 1910.02054, section 3.1), 8 in fp32, whose weights count once."""
    return STATE_BYTES[optimizer] + (0 if dtype in ("fp32", "tf32") else MASTER_BYTES)


@overload
def stage_parameters(model: Transformer, plans: Plan) -> float: ...
@overload
def stage_parameters(model: Transformer, plans: Plans) -> Array: ...
def stage_parameters(model: Transformer, plans: Plan | Plans) -> float | Array:
    """Weights on one rank of the stage with most of them."""
    if isinstance(plans, Plan):
        return float(stage_parameters(model, Plans.of([plans]))[0])
    return dense_parameters(model, plans) + expert_parameters(model, plans)


@overload
def memory_by_kind(model: Transformer, plans: Plan, machine: Machine, *, loss: Loss | None = ...) -> dict[str, float]: ...
@overload
def memory_by_kind(model: Transformer, plans: Plans, machine: Machine, *, loss: Loss | None = ...) -> dict[str, Array]: ...
def memory_by_kind(
    model: Transformer, plans: Plan | Plans, machine: Machine, *, loss: Loss | None = None
) -> dict[str, float] | dict[str, Array]:
    """Bytes on the fullest chip, by kind (KINDS); for one plan numbers, for many arrays of their length.

    ``loss``: how the cross entropy is made, in place of the plan's; see LOSS_BYTES.
    """
    if isinstance(plans, Plan):
        return {kind: float(value[0]) for kind, value in memory_by_kind(model, Plans.of([plans]), machine, loss=loss).items()}
    held = at_each_stage(model, plans, machine, candidate_stages(model, plans), loss or plans.settings.loss)
    shape = (3, len(plans))
    stacked = {kind: np.broadcast_to(held[kind], shape) for kind in KINDS}
    fullest = (np.argmax(total_bytes(stacked), axis=0), np.arange(len(plans)))
    return {kind: value[fullest] for kind, value in stacked.items()}


def total_bytes(held: Mapping[str, Array]) -> Array:
    """All kinds together."""
    total: Array = reduce(np.add, held.values())
    return total


def at_each_stage(model: Transformer, plans: Plans, machine: Machine, stages: Stages, loss: Loss = "in-place") -> dict[str, Array]:
    """Bytes on a chip of each candidate stage, by kind: arrays that broadcast to (stages, plans)."""
    states = _states(model, plans, machine, stages)
    activations = _activations(model, plans, machine, stages, loss)
    held = {**states, **activations}
    return {**held, "reserved": CONTEXT_BYTES + FRAGMENTATION_SHARE * total_bytes(held)}


def _states(model: Transformer, plans: Plans, machine: Machine, stages: Stages) -> dict[str, Array]:
    """Weights, gradients, optimizer state, and the layers that sharded weights are gathered for.

    ZeRO (arXiv 1910.02054): stage 1 shards the optimizer's state, 2 the gradients, 3 the weights, over ``shard`` chips; experts over
    as many of theirs, dp * cp * tp / (ep * expert_tp) in all. Stage 3 is DeepSpeed's 2 + 2 + 12 bytes with Adam; PyTorch's FSDP
    (arXiv 2304.11277) shards fp32 weights and gradients and gathers in the training dtype, 4 + 4 + 8, which is as much. Gathered are
    two layers' weights (one in use, one prefetched) with one's gradients, or the token table or head.
    Weight gradients are made apart and then added to those of the step: one layer's, of the experts one's (Transformer Engine keeps
    such buffers, one for each shape of a weight).
    """
    weights, settings, element = stage_weights(model, plans, stages), plans.settings, machine.element_bytes
    zero = plans.zero_stage

    def sharded(each: Array | float, stage: int) -> Array:
        dense = np.where(zero >= stage, plans.shard, 1)
        expert = np.where(zero >= stage, plans.expert_shard, 1)
        return each * (weights.dense / dense + weights.expert / expert)

    whole = zero >= 3
    per_gradient = np.where(whole, element, gradient_bytes(plans, machine))
    kept = {
        "weights": sharded(element, 3),
        "gradients": sharded(per_gradient, 2),
        "optimizer": sharded(optimizer_bytes(settings.optimizer, machine.dtype), 1),
    }
    if machine.dtype == "fp8":
        kept["weights"] = kept["weights"] + np.where(whole, 0, FP8_COPY_BYTES) * weights.products
    _, fullest = both_layers(model)
    dense, experts = on_rank(fullest, model, plans), experts_on_rank(fullest, plans)
    tables = np.maximum(stages.first, stages.last) * model.padded_vocab(plans.tp) * model.hidden / plans.tp
    gathered = np.where(whole, element * np.maximum(3 * (dense + experts), 2 * tables), 0.0)
    one_expert = fullest.expert / (model.experts.count * plans.expert_tp) if model.experts else 0.0
    fresh = np.where(whole, 0.0, element * (dense + one_expert))
    if settings.offload != "none":
        kept["optimizer"] = kept["optimizer"] * 0.0
    if settings.offload == "all":
        kept["weights"], kept["gradients"] = kept["weights"] * 0.0, kept["gradients"] * 0.0
        gathered, fresh = 3 * element * (dense + experts), 0.0 * dense
    return {**kept, "gathered": gathered, "fresh gradients": fresh}


def _activations(model: Transformer, plans: Plans, machine: Machine, stages: Stages, loss: Loss) -> dict[str, Array]:
    """Activations of all microbatches in flight, the layer that is recomputed, the logits or a layer's gradients, and buffers
    of the pipeline's sends (one each way) and of context parallelism.
    """
    element = machine.element_bytes
    operand = FP8_OPERAND_BYTES if machine.dtype == "fp8" else element
    tokens = plans.microbatch * model.seq_len / plans.cp
    share = plans.settings.recompute_share
    plain = layer_activations(model, plans, element, operand, experts=False)
    routed = layer_activations(model, plans, element, operand, experts=True) if model.experts is not None else plain

    def mixed(layer: LayerActivations) -> Array:
        return share * layer.kept + (1.0 - share) * layer.all

    deeper = stages.last * model.mtp_depth
    held = stages.dense_layers * mixed(plain) + stages.expert_layers * mixed(routed)
    width = element * model.hidden / spread(plans)
    ends = stages.first * (model.hidden / spread(plans) if model.dropout else 0.0) * stages.in_flight  # mask after the embedding
    ends = ends + stages.last * 2 * width + deeper * (3 * width + mixed(routed))  # the head's norm; layers of further tokens
    again = np.maximum(plain.all - plain.kept, routed.all - routed.kept)

    columns = model.predicted_share * model.padded_vocab(plans.tp) / plans.tp
    logits = stages.last * (1 + model.mtp_depth) * columns * (element + LOSS_BYTES[loss])
    backward = np.maximum(plain.gradients, routed.gradients)
    at_loss = logits > again + backward
    return {
        "activations": tokens * (held * stages.in_flight + ends),
        "recompute": tokens * np.where(at_loss, 0.0, again),
        "logits": tokens * np.where(at_loss, logits, 0.0),
        "workspace": tokens * np.where(at_loss, 0.0, backward),
        "buffers": tokens * (np.where(plans.pp > 1, 2 * width, 0.0) + exchanged_bytes(model, plans, element)),
    }
