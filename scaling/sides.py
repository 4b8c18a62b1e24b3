"""One direction through one layer for one microbatch: the passes, what is recomputed, and the traffic that compute does not hide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import constants
from .activations import key_value_width
from .cluster import Group
from .communication import collective_s, send_s
from .layer import LayerTimes, Work
from .machine import Machine
from .models import Transformer
from .overlap import exposed_s
from .plan import RECOMPUTES
from .plans import Plans

OPERATORS_PRODUCT_SHARE = 0.5
"""``operators`` keeps every second product's result."""
OPERATORS_LAUNCH_SHARE = 0.8
"""Kernels of a layer's forward pass that ``operators`` launches again: all passes over memory, half of the products, not the core (of a
gated layer with rotary embedding 9 of 12 where they are fused, 22 of 25 where not)."""


@dataclass(frozen=True, eq=False)
class Side:
    """One direction through one layer for one microbatch, per plan: seconds on the rank by kind."""

    work: Work
    recompute_s: Any
    tp_s: Any
    cp_s: Any
    ep_s: Any
    launches: Any
    """Kernels and collectives that the host launches."""

    @property
    def total_s(self) -> Any:
        return self.work.total_s + self.recompute_s + self.tp_s + self.cp_s + self.ep_s


def sides(
    model: Transformer, plans: Plans, machine: Machine, group: Group, layer: LayerTimes, places: Mapping[str, Any]
) -> tuple[Side, Side, Side]:
    """Forward, gradients of activations (with what is recomputed), gradients of weights, of the mean layer."""
    settings, element = plans.settings, machine.element_bytes
    tokens = plans.microbatch * model.seq_len / plans.cp
    size = tokens * model.hidden * float(element)

    def pair_s(place: str, size_bytes: Any, split: Any) -> Any:
        """One exchange: all-gather and reduce-scatter, or where the ranks keep all tokens one all-reduce."""
        reduce_s, gather_s, scatter_s = (
            collective_s(pattern, size_bytes, places[place], machine, group.fabric)
            for pattern in ("all_reduce", "all_gather", "reduce_scatter")
        )
        return np.where(split, gather_s + scatter_s, reduce_s)

    tp_once: Any = np.zeros(len(plans))
    shared_once: Any = 0.0
    if np.any(plans.tp > 1):
        tp_once = pair_s("tp", size, plans.sequence_parallel > 0) * layer.tp_exchanges
        if np.any(layer.expert_exchanges > 0):
            each = layer.expert_tokens / np.maximum(layer.expert_exchanges, np.finfo(float).tiny) * model.hidden * float(element)
            # What was sent to experts elsewhere is in parts, whether the layer's tokens are or not.
            shared_once = pair_s("expert_tp", each, (plans.sequence_parallel > 0) | (plans.ep > 1)) * layer.expert_exchanges
    ep_once: Any = 0.0
    if model.experts is not None and np.any(plans.ep > 1):
        sent = layer.dispatched_tokens * model.hidden * float(element)
        ep_once = 2 * np.where(plans.ep > 1, collective_s("all_to_all", sent, places["ep"], machine, group.fabric), 0.0)
    cp_once: Any = 0.0
    cp_again: Any = 0.0
    if np.any(plans.cp > 1):
        cp_once, cp_again = _context_s(model, plans, machine, group, places, layer)

    code = plans.recompute
    repeats = np.where(code == RECOMPUTES.index("none"), 0.0, settings.recompute_share)
    full, selective, operators = (repeats * (code == RECOMPUTES.index(kind)) for kind in ("full", "selective", "operators"))
    unfused = settings.attention == "unfused"
    again = full * layer.forward.total_s + operators * (layer.forward.memory_s + OPERATORS_PRODUCT_SHARE * layer.forward.matmul_s)
    if unfused:
        again = again + (selective + operators) * layer.core_forward.total_s
    again_launches = (full + OPERATORS_LAUNCH_SHARE * operators) * layer.forward.launches + (
        selective * layer.core_forward.launches if unfused else 0.0
    )
    tp_back = tp_once * (1 + full)
    ep_back = ep_once * (1 + full)
    cp_back = cp_again + full * cp_once
    if settings.schedule == "dualpipe":
        hidden = _paired_share(plans)
        compute_s = layer.forward.total_s + layer.backward_input.total_s + layer.backward_weight.total_s + again
        left = exposed_s(ep_once + ep_back, compute_s, hidden) / np.maximum(ep_once + ep_back, np.finfo(float).tiny)
        ep_once, ep_back = ep_once * left, ep_back * left

    if settings.overlap_tp:
        tp_forward = exposed_s(tp_once, layer.forward.matmul_s, constants.TP_HIDDEN_SHARE.value)
        products_s = layer.backward_input.matmul_s + (full + OPERATORS_PRODUCT_SHARE * operators) * layer.forward.matmul_s
        tp_backward = exposed_s(tp_back, products_s, constants.TP_HIDDEN_SHARE.value)
    else:
        tp_forward, tp_backward = tp_once, tp_back
    # Tokens on their way to experts leave nothing to multiply meanwhile.
    tp_forward, tp_backward = tp_forward + shared_once, tp_backward + shared_once * (1 + full)
    # A collective is launched from the host like a kernel.
    pairs = layer.tp_exchanges + layer.expert_exchanges
    exchanges = np.where(plans.tp > 1, pairs * np.where(plans.sequence_parallel > 0, 2, 1), 0) + 0.0
    forward = Side(layer.forward, 0.0, tp_forward, cp_once, ep_once, layer.forward.launches + exchanges)
    launches = layer.backward_input.launches + again_launches + exchanges * (1 + full)
    backward = Side(layer.backward_input, again, tp_backward, cp_back, ep_back, launches)
    return forward, backward, Side(layer.backward_weight, 0.0, 0.0, 0.0, 0.0, layer.backward_weight.launches)


def _paired_share(plans: Plans) -> Any:
    """Share of the microbatches whose forward pass DualPipe runs beside another's backward pass, the exchanges of each beside the compute
    of the other (DeepSeek-V3, arXiv 2412.19437, section 3.2.1): all but p / 2 + 2 of them (its published code, deepseek-ai/DualPipe)."""
    return np.where(plans.pp > 1, np.maximum(0.0, 1 - (plans.pp / 2 + 2) / plans.microbatches), 0.0)


def _context_s(
    model: Transformer, plans: Plans, machine: Machine, group: Group, places: Mapping[str, Any], layer: LayerTimes
) -> tuple[Any, Any]:
    """What the attention does not hide of the passage of keys and values over the CP group (forward), and of their second passage and that
    of their gradients (backward). Ring: each block's way runs beside the scores of another (Liu et al. 2023, arXiv 2310.01889). All-gather:
    exposed (Llama 3, arXiv 2407.21783, section 3.3.2), and in the backward pass again before the gradients are scattered: what was gathered
    is not kept (Transformer Engine, attention/dot_product_attention/context_parallel.py)."""
    size = plans.microbatch * model.seq_len * key_value_width(model, plans) * machine.element_bytes
    gathered = np.where(plans.cp > 1, collective_s("all_gather", size, places["cp"], machine, group.fabric), 0.0)
    if plans.settings.context_parallel == "ring":
        others = (plans.cp - 1) / plans.cp
        ahead, back = layer.core_forward.attention_s * others, layer.backward_input.attention_s * others
        return np.maximum(0.0, gathered - ahead), np.maximum(0.0, 2 * gathered - back)
    return gathered, 2 * gathered


def message_s(model: Transformer, plans: Plans, machine: Machine, group: Group, places: Mapping[str, Any]) -> Any:
    """One send of a microbatch's activations to the next stage."""
    if not np.any(plans.pp > 1):
        return np.zeros(len(plans))
    size = np.where(plans.pp > 1, plans.microbatch * model.seq_len / plans.cp * model.hidden * float(machine.element_bytes), 0.0)
    place = places["pp"]
    split = plans.tp if plans.settings.scatter_gather else np.where(plans.sequence_parallel > 0, plans.tp, 1)
    time_s = send_s(
        size / split, place.members_per_node < place.members, place.groups_per_node, machine, group.fabric, group.chips_per_node
    )
    if plans.settings.scatter_gather and np.any(plans.tp > 1):
        gather = collective_s("all_gather", size, places["tp"], machine, group.fabric)
        time_s = time_s + np.where((plans.tp > 1) & (plans.sequence_parallel == 0), gather, 0.0)
    return np.where(plans.pp > 1, time_s, 0.0)
