"""What the forward pass leaves in memory for the backward pass, per token of one layer on one rank, in bytes.

Korthikanti et al. 2022 (arXiv 2205.05198), section 4, written out for gated MLPs, grouped and latent heads, experts, and fused
attention. With 16 bit, dropout, biases, a 4h MLP and unfused attention the sum is their h (10 + 24/t + 5 a s / (h t)), eq. 2, and with
sequence parallelism h (34 + 5 a s / h) / t, eq. 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .models import Transformer
from .plan import RECOMPUTES
from .plans import Array, Plans

ROW_STATISTIC_BYTES = 4
"""A fused attention kernel keeps the fp32 log-sum-exp of each row and head (Dao et al. 2022, arXiv 2205.14135)."""

FULL, OPERATORS, SELECTIVE = (RECOMPUTES.index(kind) for kind in ("full", "operators", "selective"))


@dataclass(frozen=True, eq=False)
class LayerActivations:
    """Bytes per token of the replica's microbatch share (cut by CP) on one rank."""

    all: Array
    """Nothing recomputed."""
    kept: Array
    """What stays until the backward pass under the plan's recomputation, in a layer that it is done for."""
    gradients: Array
    """The widest moment of the layer's backward pass: gradients of the MLP's inner width and its input gathered anew, and with experts
    the gradients of the dispatched tokens on both sides of the exchange."""


def spread(plans: Plans) -> Array:
    """Ranks over which the activations between the blocks are split: TP with sequence parallelism, else 1."""
    return np.where(plans.sequence_parallel == 1, plans.tp, 1)


def _core(model: Transformer, plans: Plans, element: int) -> tuple[Array, Array, Array]:
    """(queries, keys and values), the attention core's output with what it keeps inside, and the scores part of that."""
    tp = plans.tp
    if model.latent is None:
        operands = element * (model.q_width / tp + 2 * model.kv_width / np.minimum(tp, model.kv_heads))
        output = element * model.q_width / tp
        if model.qk_norm:  # the norms keep their inputs
            operands = operands + element * (model.q_width / tp + model.kv_width / np.minimum(tp, model.kv_heads))
    else:
        latent = model.latent
        key = latent.nope_dim + latent.rope_dim
        operands = element * model.heads * (2 * key + latent.value_dim) / tp
        output = element * model.heads * latent.value_dim / tp
    if plans.settings.attention == "unfused":
        # probabilities; with dropout also its mask of one byte and its output
        scores = (2 * element + 1 if model.dropout else element) * model.heads * model.seq_len / tp
    else:
        scores = ROW_STATISTIC_BYTES * model.heads / tp
    return operands, output, scores


def _narrow(model: Transformer, element: int) -> float:
    """Latent attention's narrow vectors before and after their norms."""
    latent = model.latent
    return 0.0 if latent is None else element * (2 * (latent.kv_rank + (latent.q_rank or 0)) + latent.rope_dim)


def _inner(model: Transformer, width: float, element: int, operand: int, fused: bool) -> float:
    """An MLP's inner width: outputs of the first products, and the input of the last; unfused gates keep the activated gate too."""
    before = 2 if model.gated else 1
    kept = before + (1 if model.gated and not fused else 0)
    return width * (kept * element + operand)


def dispatched(model: Transformer, plans: Plans) -> Array:
    """Tokens that one rank's experts see, per token of its layers.

    ``active`` copies of each on average, times the imbalance, or the capacity (GShard, arXiv 2006.16668, section 2.2). A rank brings
    its TP share of the tokens where the experts' TP is smaller, as Megatron-LM has it.
    """
    experts = model.experts
    if experts is None:
        return np.zeros(len(plans))
    factor = experts.capacity_factor if experts.capacity_factor is not None else experts.imbalance
    return experts.active * factor * plans.expert_tp / plans.tp


def _experts(model: Transformer, plans: Plans, element: int, operand: int) -> Array:
    """Routed experts: copies of the tokens that this rank's experts see, their inner width, their outputs (the weights of the
    router's choice need them), and the router's scores in fp32."""
    experts = model.experts
    if experts is None:
        return np.zeros(len(plans))
    inner = _inner(model, experts.ffn_hidden, element, operand, plans.settings.fused) / plans.expert_tp
    outer = (operand + element) * model.hidden
    return dispatched(model, plans) * (inner + outer) + 2 * 4 * experts.count / spread(plans)


def layer_activations(model: Transformer, plans: Plans, element: int, operand: int, experts: bool) -> LayerActivations:
    """One layer, with experts or without.

    ``element``: bytes of an activation; ``operand``: of the input of a linear layer's product (1 in fp8: Transformer Engine keeps
    those inputs cast; else the same).

    Kept by each recomputation: ``selective`` all but the core's scores; ``operators`` the layer's input, the core with its queries
    and values, one of the MLP's inner products and its output (torchtitan's default: every second product); ``full`` the input.
    """
    h, tp, settings = model.hidden, plans.tp, plans.settings
    outside = spread(plans)
    operands, output, scores = _core(model, plans, element)
    kinds = model.experts
    width = model.ffn_hidden if kinds is None or not experts else kinds.shared_ffn_hidden
    mlp = _inner(model, width, element, operand, settings.fused) / tp
    if experts:
        mlp = mlp + _experts(model, plans, element, operand)
    masks = 2 if model.dropout else 0
    norms = model.norms * element + min(model.norms, 2) * operand  # inputs of all, outputs where a product reads them
    between = (h * (norms + masks) + _narrow(model, element)) / outside
    narrower_copy = output * operand / element if operand != element else 0.0
    everything = between + operands + output + narrower_copy + scores + mlp

    block = element * h / outside
    sent = dispatched(model, plans) if experts else np.zeros(len(plans))
    inner = width / tp + sent * (kinds.ffn_hidden if kinds is not None else 0) / plans.expert_tp
    keys = element * model.kv_width / np.minimum(tp, model.kv_heads)
    some = 2 * block + operands - keys + output + scores + element * (inner + sent * h)
    kept = np.select(
        [plans.recompute == FULL, plans.recompute == OPERATORS, plans.recompute == SELECTIVE],
        [block, np.minimum(some, everything), everything - scores],
        everything,
    )
    gradients = element * (inner * ((2 if model.gated else 1) + 1) + 2 * h + 2 * sent * h)
    return LayerActivations(everything, kept, gradients)


def key_value_width(model: Transformer, plans: Plans) -> Array:
    """Columns of the keys and values of one rank, those of latent attention once they are expanded."""
    if model.latent is None:
        return 2 * model.kv_width / np.minimum(plans.tp, model.kv_heads)
    return model.heads * (model.head_dim + model.latent.value_dim) / plans.tp


def exchanged_bytes(model: Transformer, plans: Plans, element: int) -> Array:
    """Keys and values from other ranks of a context-parallel group, per token on one rank: two parts of the sequence in a ring (one in
    use, one under way; Liu et al. 2023, arXiv 2310.01889), all of them where they are gathered (Llama 3, arXiv 2407.21783, section 3.3.2).
    """
    parts = 2 if plans.settings.context_parallel == "ring" else plans.cp
    return np.where(plans.cp > 1, element * key_value_width(model, plans) * parts, 0.0)
