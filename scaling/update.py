"""The end of a step: gradients reduced, weights gathered, the optimizer, and what offloading adds.

ZeRO: Rajbhandari et al. 2020 (arXiv 1910.02054), section 7: stages 1 and 2 move as much as an all-reduce, stage 3 half as much again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from . import constants
from .cluster import Group
from .communication import collective_s
from .errors import MissingCell
from .machine import Machine
from .models import Transformer
from .overlap import exposed_s
from .plans import Plans
from .weights import fullest_stage, gradient_bytes, sharded

OPTIMIZER_BYTES: Mapping[str, float] = {"adam": 34.0, "adam-bf16": 26.0, "adam-8bit": 22.0, "sgd": 26.0}
"""Bytes moved per weight: gradient 4 read twice (norm, update), moments and fp32 weights read and written, 16-bit weight written."""
EXPERTS: Mapping[str, str] = {"dp_cp": "expert_dp", "shard": "expert_shard"}
"""Group of ranks -> the group that does the same for routed experts."""


def update_s(
    model: Transformer, plans: Plans, machine: Machine, group: Group, places: Mapping[str, Any], forward_s: Any, backward_s: Any
) -> tuple[Any, Any, Any]:
    """Exposed traffic of the data-parallel dimension, the optimizer, and what offloading adds, of one step."""
    dense, expert = fullest_stage(model, plans)
    m = plans.microbatches.astype(float)
    owned = sharded(plans, dense, expert, 1)
    optimizer_s = machine.memory_s(OPTIMIZER_BYTES[plans.settings.optimizer] * owned, "adam")
    offload_s: Any = 0.0
    if plans.settings.offload != "none":
        optimizer_s, offload_s = _offloaded_s(plans, machine, group, owned, sharded(plans, dense, expert, 3))
    traffic = 0.0
    if np.any((plans.dp * plans.cp > 1) | ((expert > 0) & (places["expert_dp"].members > 1))):
        traffic = _traffic_s(model, plans, machine, group, places, dense, expert, forward_s, backward_s, m)
    ends = np.zeros(len(plans))
    if model.tied_embeddings and np.any(plans.pp > 1):
        # The first and the last stage both hold the token table and add up its gradients (Narayanan et al. 2021).
        table = float(model.vocab) * model.hidden / plans.tp * gradient_bytes(plans, machine)
        ends = np.where(plans.pp > 1, collective_s("all_reduce", table, places["embedding"], machine, group.fabric), 0.0)
    return traffic + ends, optimizer_s, offload_s


def _offloaded_s(plans: Plans, machine: Machine, group: Group, owned: Any, weights: Any) -> tuple[Any, Any]:
    """(optimizer on the host, traffic to and from it): gradients go there and new weights come back once a step; with ``all`` the weights
    also come for both passes of each microbatch, and its gradients go (ZeRO-Offload: Ren et al. 2021, arXiv 2101.06840; ZeRO-Infinity).
    """
    if machine.host_link is None:
        raise MissingCell(f"profile {machine.chip_id}: the link to its host is unknown, so offloading cannot be timed; measure host copies")
    element, m = float(machine.element_bytes), plans.microbatches
    moved = owned * (gradient_bytes(plans, machine) + element)
    if plans.settings.offload == "all":
        moved = moved + m * weights * 3 * element
    on_host = constants.HOST_ADAM_S_PER_WEIGHT.value * np.minimum(plans.chips, group.chips_per_node) * owned
    return on_host, moved / machine.host_link.value


def _traffic_s(
    model: Transformer,
    plans: Plans,
    machine: Machine,
    group: Group,
    places: Mapping[str, Any],
    dense: Any,
    expert: Any,
    forward_s: Any,
    backward_s: Any,
    m: Any,
) -> Any:
    element = float(machine.element_bytes)
    bytes_each = gradient_bytes(plans, machine)

    zero = plans.zero_stage
    share = constants.DP_HIDDEN_SHARE.value if plans.settings.overlap_dp else 0.0

    def collective(pattern: str, place: str, size: Any) -> Any:
        return collective_s(pattern, size, places[place], machine, group.fabric)

    # Sharded weights are gathered, and their gradients scattered, layer by layer: each is a collective of its own.
    pieces = np.where(zero >= 3, np.ceil(model.layers / plans.pp), 1.0)

    def both(pattern: str, place: str, each: Any) -> Any:
        """Of the weights that all ranks hold, and of the experts that fewer do."""
        time_s = pieces * collective(pattern, place, each * dense / pieces)
        return time_s + pieces * collective(pattern, EXPERTS[place], each * expert / pieces) if np.any(expert > 0) else time_s

    unsharded: Any = 0.0
    if np.any(zero == 0):
        unsharded = exposed_s(both("all_reduce", "dp_cp", bytes_each), backward_s, share)
        if np.all(zero == 0):
            return unsharded
    scatter_s, gather_s = both("reduce_scatter", "shard", bytes_each), both("all_gather", "shard", element)
    if np.any(plans.shard < plans.dp * plans.cp):
        scatter_s = scatter_s + pieces * collective("all_reduce", "replica", bytes_each * dense / plans.shard / pieces)
        scatter_s = scatter_s + pieces * collective("all_reduce", "expert_replica", bytes_each * expert / plans.expert_shard / pieces)
    back_s, ahead_s = exposed_s(scatter_s, backward_s, share), exposed_s(gather_s, forward_s, share)
    # Gradients are scattered after the last microbatch (ZeRO-1) or after each (2); ZeRO-3 gathers the weights for each pass as well.
    often = np.where(zero >= 2, m, 1.0)
    sharded = often * back_s + ahead_s
    if np.any(zero >= 3):
        three = m * (ahead_s + exposed_s(gather_s + scatter_s, backward_s, share))
        sharded = np.where(zero >= 3, three, sharded)
    return np.where(zero == 0, unsharded, sharded)
