"""What one chip must hold, by kind: weights, gradients, optimizer state, activations, and the working space of the step.

Activations follow Korthikanti et al. 2022 (arXiv 2205.05198), tables and eq. 1 to 6, written out for gated MLPs and grouped heads.
"""

from __future__ import annotations

from functools import lru_cache

from .machine import Machine
from .models import Transformer
from .plan import Plan

ADAM_BYTES = 12
"""Adam in mixed precision: fp32 weights and two fp32 moments. In fp32 the weights are counted once, 8."""

RESERVED_SHARE = 0.06
"""Memory that the model cannot use: context, library workspaces, communication buffers, fragmentation (assumed)."""

FP32_LOGIT_BYTES = 4


def gradient_bytes(dtype: str, zero_stage: int) -> int:
    """Bytes of one gradient kept and reduced: bf16 accumulates in fp32 (Megatron-LM's default), sharded gradients do not."""
    if dtype == "bf16":
        return 4 if zero_stage < 2 else 2
    return 2 if dtype == "fp16" else 4


@lru_cache(maxsize=1024)
def activation_bytes_per_token(model: Transformer, element: int, tp: int, sequence_parallel: bool, flash: bool, selective: bool) -> float:
    """Activations of one layer kept for the backward pass, per token on one rank.

    With 16 bit, dropout, 4h and neither flash nor selective this is Korthikanti's h(10 + 24/t + 5as/(ht)).
    """
    mask = 1 if model.dropout else 0
    outside = 2 * element + 2 * element + 2 * mask  # inputs of both norms, inputs of both blocks, two dropout masks
    whole = model.hidden * outside / (tp if sequence_parallel else 1)
    kv_width = model.kv_width / min(tp, model.kv_heads)
    attention = element * (model.q_width / tp + 2 * kv_width + model.q_width / tp)  # q, k, v, and the core's output
    inner = element * model.ffn_hidden * (3 if model.gated else 2) / tp
    scores = 0.0
    if flash:
        scores = 4.0 * model.heads / tp  # the fp32 log-sum-exp of each row
    elif not selective:
        scores = (2 * element + mask) * model.heads * model.seq_len / tp
    return whole + attention + inner + scores


def stage_parameters(model: Transformer, plan: Plan) -> float:
    """Weights on one rank of the fullest stage: its layers, and the larger of the embedding and the head (both without a pipeline)."""
    layers = plan.layers_per_stage(model) * model.layer_parameters
    head = 0 if model.tied_embeddings and plan.pp == 1 else model.vocab * model.hidden
    ends = model.embedding_parameters + head if plan.pp == 1 else max(model.embedding_parameters, head)
    final_norm = model.hidden * (2 if model.biases else 1)
    return (layers + ends + final_norm) / plan.tp


def in_flight(plan: Plan) -> float:
    """Microbatches whose activations the first stage holds under 1F1B; interleaving holds more (Korthikanti et al., section 4.2.3)."""
    held = min(plan.microbatches, plan.pp)
    if plan.interleave > 1:
        return held * (1.0 + (plan.pp - 1) / (plan.pp * plan.interleave))
    return float(held)


def memory_by_kind(model: Transformer, plan: Plan, machine: Machine) -> dict[str, float]:
    """Bytes on the fullest chip, by kind."""
    element = machine.element_bytes
    parameters = stage_parameters(model, plan)
    shard = plan.dp
    weights = element * parameters / (shard if plan.zero_stage >= 3 else 1)
    gradients = gradient_bytes(machine.dtype, plan.zero_stage) * parameters / (shard if plan.zero_stage >= 2 else 1)
    optimizer = (ADAM_BYTES if element == 2 else 8) * parameters / (shard if plan.zero_stage >= 1 else 1)

    tokens = plan.microbatch * model.seq_len
    layer_bytes = tokens * activation_bytes_per_token(
        model, element, plan.tp, plan.sequence_parallel, plan.attention == "flash", plan.recompute == "selective"
    )
    layers = plan.layers_per_stage(model)
    checkpoint = tokens * element * model.hidden / (plan.tp if plan.sequence_parallel else 1)
    if plan.recompute == "full":
        activations = layers * in_flight(plan) * checkpoint + layer_bytes
    else:
        activations = layers * in_flight(plan) * layer_bytes
    logits = tokens * (element + FP32_LOGIT_BYTES) * model.vocab / plan.tp
    working = logits
    if plan.zero_stage >= 3:
        working += 2 * element * model.layer_parameters / plan.tp  # the layer in use and the one being gathered
    return {
        "weights": weights,
        "gradients": gradients,
        "optimizer": optimizer,
        "activations": activations,
        "working": working,
        "reserved": RESERVED_SHARE * machine.memory_bytes,
    }
