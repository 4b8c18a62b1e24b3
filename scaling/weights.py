"""How many weights one rank holds: dense and expert weights apart, for they are split and replicated over different groups."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .models import Transformer
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
    """Those of the first three that take part in matrix products."""


@lru_cache(maxsize=256)
def layer_weights(model: Transformer, experts: bool) -> LayerWeights:
    """One layer, with experts or without.

    The sum is the layer's parameters. Latent attention by DeepSeek-V2 (arXiv 2405.04434, section 2.1); its down-projections are
    replicated, as in Megatron-LM, since their outputs are too narrow to be worth a collective.
    """
    h = model.hidden
    norm = h if model.rms_norm else 2 * h
    narrow, heads_split, key_value = 0, model.heads * model.head_dim * h * 2, 2 * model.kv_width * h
    replicated = 2 * norm
    if model.latent is not None:
        latent = model.latent
        key = latent.nope_dim + latent.rope_dim
        narrow = h * (latent.kv_rank + latent.rope_dim + (latent.q_rank or 0))
        replicated += latent.kv_rank + (latent.q_rank or 0)  # norms of the narrow vectors
        heads_split = model.heads * (
            (latent.q_rank or h) * key + latent.kv_rank * (latent.nope_dim + latent.value_dim) + latent.value_dim * h
        )
        key_value = 0
    elif model.qk_norm:
        replicated += 2 * model.head_dim
    if model.biases or model.qkv_biases:
        heads_split += model.q_width
        key_value += 2 * model.kv_width
    kinds = model.experts
    width = model.ffn_hidden if kinds is None or not experts else kinds.shared_ffn_hidden
    mlp = model.mlp_matrices * h * width
    products = heads_split + key_value + narrow + mlp
    if model.biases:
        mlp += width * (2 if model.gated else 1)
        replicated += 2 * h
    routed = 0
    if kinds is not None and experts:
        replicated += h * kinds.count
        routed = kinds.count * model.mlp_matrices * h * kinds.ffn_hidden
    return LayerWeights(heads_split + mlp, key_value, replicated + narrow, routed, products)


def padded_vocabulary(model: Transformer, plans: Plans) -> Array:
    """Rows of the token table: a multiple of ``vocab_multiple`` times TP."""
    multiple = model.vocab_multiple * plans.tp
    return -(-model.vocab // multiple) * multiple


def _on_rank(layer: LayerWeights, model: Transformer, plans: Plans) -> Array:
    return layer.split / plans.tp + layer.key_value / np.minimum(plans.tp, model.kv_heads) + layer.replicated


def dense_layer_weights(model: Transformer, plans: Plans, experts: bool) -> Array:
    """Weights of one layer on one rank, its routed experts left out."""
    return _on_rank(layer_weights(model, experts), model, plans)


def expert_layer_weights(model: Transformer, plans: Plans) -> Array:
    """Weights of one layer's routed experts on one rank."""
    return layer_weights(model, True).expert / (plans.ep * plans.expert_tp)


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
    layer, two norms and a projection of 2h to h (DeepSeek-V3, arXiv 2412.19437, section 2.2); off the first stage it needs a copy
    of the token table too.
    """
    h = model.hidden
    norm = h if model.rms_norm else 2 * h
    table = padded_vocabulary(model, plans) * h / plans.tp
    positions = model.seq_len * h if model.learned_positions else 0
    only_last = stages.last * (1 - stages.first)
    head = stages.last * table if not model.tied_embeddings else only_last * table
    deeper = model.mtp_depth * stages.last
    plain, routed = dense_layer_weights(model, plans, False), dense_layer_weights(model, plans, True)
    has_experts = model.experts is not None
    dense_layers = stages.dense_layers * stages.copies + (0 if has_experts else deeper)
    expert_layers = stages.expert_layers * stages.copies + (deeper if has_experts else 0)
    dense = dense_layers * plain + expert_layers * routed
    dense = dense + stages.first * (table + positions) + head + stages.last * norm + deeper * (2 * h * h + 3 * norm)
    if model.mtp_depth and not model.tied_embeddings:
        dense = dense + only_last * table
    expert = expert_layers * expert_layer_weights(model, plans)
    products = dense_layers * (layer_weights(model, False).products / plans.tp)
    products = products + expert_layers * (layer_weights(model, True).products / plans.tp) + expert
    return StageWeights(dense, expert, products)


def _fullest(model: Transformer, plans: Plans) -> tuple[Array, Array]:
    weights = stage_weights(model, plans, candidate_stages(model, plans))
    fullest = np.argmax(weights.dense + weights.expert, axis=0)[None]
    return np.take_along_axis(weights.dense, fullest, 0)[0], np.take_along_axis(weights.expert, fullest, 0)[0]


def dense_parameters(model: Transformer, plans: Plans) -> Array:
    """Weights on one rank of the stage with most, its routed experts left out: replicated over dp * cp."""
    return _fullest(model, plans)[0]


def expert_parameters(model: Transformer, plans: Plans) -> Array:
    """Weights of the routed experts on one rank of the stage with most: replicated over dp * cp * tp / (ep * expert_tp)."""
    return _fullest(model, plans)[1]
