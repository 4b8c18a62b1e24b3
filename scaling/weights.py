"""How many weights one rank holds: dense and expert weights apart, for they are split and replicated over different groups."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .machine import Machine
from .models import Block, Transformer
from .plans import Array, Plans
from .stages import Stages, candidate_stages


@dataclass(frozen=True)
class LayerWeights:
    """Weights of one layer, by how they are split."""

    split: int
    """Over the TP group: projections of queries and output, the MLP, shared experts."""
    key_value: int
    """Over the TP group, but one head at the least."""
    replicated: int
    """On every rank: norms, biases of outputs, latent down-projections, the router."""
    expert: int
    """Over expert parallelism and the experts' own TP."""
    products: int
    """Of the first three, those that take part in matrix products (biases of split products are counted with them)."""


@lru_cache(maxsize=256)
def both_layers(model: Transformer) -> tuple[LayerWeights, LayerWeights]:
    """A layer without experts, and one with them (the same in a dense model)."""
    return layer_weights(model, False), layer_weights(model, True)


def layer_weights(model: Transformer, experts: bool) -> LayerWeights:
    """One layer, with experts or without; the sum is the layer's parameters.

    Latent attention's down-projections are replicated, as in Megatron-LM: their outputs are too narrow to be worth a collective.
    """
    h, latent = model.hidden, model.latent
    block = Block(1, has_experts=experts and model.experts is not None)
    replicated = model.norms * model.norm_parameters + (2 * model.head_dim if model.qk_norm else 0)
    vectors = replicated
    if model.biases:
        replicated += 2 * h
        vectors = replicated
    if latent is None:
        key_value = 2 * model.kv_width * (h + (1 if model.biases or model.qkv_biases else 0))
    else:
        key_value = 0
        vectors += latent.kv_rank + (latent.q_rank or 0)
        replicated = vectors + h * (latent.kv_rank + latent.rope_dim + (latent.q_rank or 0))
    if block.has_experts and model.experts is not None:
        replicated += h * model.experts.count
    expert = model.expert_parameters(block)
    everything = model.block_parameters(block)
    return LayerWeights(everything - expert - key_value - replicated, key_value, replicated, expert, everything - expert - vectors)


def on_rank(layer: LayerWeights, model: Transformer, plans: Plans) -> Array:
    """Weights of one layer on one rank, its routed experts left out."""
    return layer.split / plans.tp + layer.key_value / np.minimum(plans.tp, model.kv_heads) + layer.replicated


def experts_on_rank(layer: LayerWeights, plans: Plans) -> Array:
    """Weights of one layer's routed experts on one rank."""
    return layer.expert / (plans.ep * plans.expert_tp)


@dataclass(frozen=True, eq=False)
class StageWeights:
    """Weights on one rank of each candidate stage, shape (stages, plans)."""

    dense: Array
    expert: Array
    products: Array
    """Of both, those in the linear layers' matrix products (what fp8 keeps further copies of)."""


def stage_weights(model: Transformer, plans: Plans, stages: Stages) -> StageWeights:
    """Layers, token and position tables, head, final norm, and the layers of multi-token prediction.

    The head of tied tables costs nothing where the embedding lies on the same chip, and a copy where not (Megatron-LM). Position
    tables are not split over TP. Multi-token prediction lies on the last stage, shares tables and head, and adds per depth one
    layer, three norms and a projection of 2h to h, cut by TP (DeepSeek-V3, arXiv 2412.19437, section 2.2); off the first stage it needs
    a copy of the token table too.
    """
    h = model.hidden
    table = model.padded_vocab(plans.tp) * h / plans.tp
    positions = model.seq_len * h if model.learned_positions else 0
    only_last = stages.last * (1 - stages.first)
    head = stages.last * table if not model.tied_embeddings else only_last * table
    deeper = model.mtp_depth * stages.last
    plain, routed = both_layers(model)
    has_experts = model.experts is not None
    dense_layers = stages.dense_layers * stages.copies + (0 if has_experts else deeper)
    expert_layers = stages.expert_layers * stages.copies + (deeper if has_experts else 0)
    dense = dense_layers * on_rank(plain, model, plans)
    if has_experts:
        dense = dense + expert_layers * on_rank(routed, model, plans)
    after = model.norm_parameters + model.head_layers * (h + 1) * h
    dense = dense + stages.first * (table + positions) + head + stages.last * after
    dense = dense + deeper * (2 * h * h / plans.tp + 3 * model.norm_parameters)
    if model.mtp_depth and not model.tied_embeddings:
        dense = dense + only_last * table
    expert = expert_layers * experts_on_rank(routed, plans)
    products = (dense_layers * plain.products + expert_layers * routed.products) / plans.tp + expert
    return StageWeights(dense, expert, products)


def fullest_stage(model: Transformer, plans: Plans) -> tuple[Array, Array]:
    """(dense_parameters, expert_parameters)."""
    weights = stage_weights(model, plans, candidate_stages(model, plans))
    fullest = np.argmax(weights.dense + weights.expert, axis=0)[None]
    return np.take_along_axis(weights.dense, fullest, 0)[0], np.take_along_axis(weights.expert, fullest, 0)[0]


def sharded(plans: Plans, dense: Array, expert: Array, stage: int) -> Array:
    """Weights of one rank, dense and expert ones, spread where the plan's ZeRO is at least of that stage."""
    return np.where(plans.zero_stage >= stage, dense / plans.shard + expert / plans.expert_shard, dense + expert)


def gradient_bytes(plans: Plans, machine: Machine) -> Array:
    """Bytes of one weight's gradient as it is kept and reduced: the plan's; else 4 where bf16 is summed in fp32 (Megatron-LM), which
    sharded gradients are not; else those of the dtype."""
    usual = np.where(plans.zero_stage < 2, 4, 2) if machine.dtype in ("bf16", "fp8") else np.asarray(machine.element_bytes)
    return np.broadcast_to(plans.settings.gradient_bytes or usual, len(plans)).astype(float)


def dense_parameters(model: Transformer, plans: Plans) -> Array:
    """Weights on one rank of the stage with most, its routed experts left out: replicated over dp * cp."""
    return fullest_stage(model, plans)[0]


def expert_parameters(model: Transformer, plans: Plans) -> Array:
    """Weights of the routed experts on one rank of the stage with most: replicated over dp * cp * tp / (ep * expert_tp)."""
    return fullest_stage(model, plans)[1]
