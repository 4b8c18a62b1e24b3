"""One training step of many plans at once: passes, pipeline, traffic, optimizer. Seconds by kind, which sum to the step.

Per stage and microbatch: the passes of its layers (``layer.py``), what of the TP, CP and EP traffic they do not hide, and the host where
it is slower than the chip. The pipeline's fill and drain come from closed forms (``pipeline/closed_form.py``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from . import constants
from .cluster import Group
from .communication import collective_s, send_s
from .errors import MissingCell
from .layer import EndTimes, LayerTimes, Work, end_times, layer_times
from .machine import Machine
from .models import Transformer
from .pipeline.closed_form import pipeline_s
from .placement import placements
from .plan import RECOMPUTES
from .plans import Plans
from .weights import fullest_stage

Array = npt.NDArray[Any]

KINDS = (
    "matmul", "attention", "memory_bound", "recompute", "host", "tensor_parallel", "context_parallel", "expert_parallel",
    "pipeline_send", "pipeline_bubble", "data_parallel", "optimizer", "offload", "stragglers",
)  # fmt: skip

OPTIMIZER_BYTES: Mapping[str, float] = {"adam": 34.0, "adam-bf16": 26.0, "adam-8bit": 22.0, "sgd": 26.0}
"""Bytes moved per weight: gradient 4 read twice (norm, update), moments and fp32 weights read and written, 16-bit weight written."""
OPERATORS_PRODUCT_SHARE = 0.5
"""``operators`` keeps every second product's result."""


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


@dataclass(frozen=True, eq=False)
class Passes:
    """Seconds of one microbatch: (forward, gradients of activations with recomputation, gradients of weights), per plan."""

    layer_s: tuple[Any, Any, Any]
    head_s: tuple[Any, Any, Any]
    """Final norm, logits, loss."""
    embedding_s: tuple[Any, Any, Any]
    waiting_s: tuple[Any, Any]
    """What the chip waits for the host in the slowest stage, forward and backward."""
    slowest_layers: Any
    """Layers of the slowest stage."""
    slowest_s: Any
    """The slowest stage, all passes."""
    send_s: Any
    """One message between stages."""


@dataclass(frozen=True, eq=False)
class Step:
    """The steps of a batch of plans."""

    parts_s: Mapping[str, Array]
    """KINDS -> seconds; they sum to ``step_time_s``."""
    passes: Passes
    """What the pipeline is made of."""

    @property
    def step_time_s(self) -> Array:
        total: Array = sum(self.parts_s.values())  # type: ignore[assignment]
        return total


def step(model: Transformer, plans: Plans, machine: Machine, group: Group) -> Step:
    """The step of each plan, which must be legal (``check_plan``)."""
    shapes, back = _distinct(plans)
    unique, ends = _known_times(model, shapes, machine)
    layer = _gather(unique, back)
    places = placements(plans, group.chips_per_node, group.fabric.pod_nodes)
    forward, backward_input, backward_weight = _sides(model, plans, machine, group, layer, places)
    head_f = _take(ends.head_forward, back)
    head_bi = _take(ends.head_backward_input, back)
    head_bw = _take(ends.head_backward_weight, back)
    emb_f, emb_b = _take(ends.embedding_forward, back), _take(ends.embedding_backward, back)
    extra = float(model.mtp_depth)
    send = _send_s(model, plans, machine, group, places)

    # The slowest stage: one of the fullest, or the last one with the logits if the cut leaves it fewer layers.
    pp = plans.pp
    most, least = -(-model.layers // pp), model.layers // pp
    layer_s = forward.total_s + backward_input.total_s + backward_weight.total_s
    head_s = head_f.total_s + head_bi.total_s + head_bw.total_s
    last_s = head_s * (1 + extra) + extra * layer_s
    alone = pp == 1
    full = most * layer_s >= least * layer_s + last_s
    layers = np.where(alone, most + extra, np.where(full, most, least + extra)).astype(float)
    heads = np.where(alone | ~full, 1.0 + extra, 0.0)
    embeds = np.where(alone, 1.0, 0.0)

    def stage(side: Side, head: Work, embedding: Work | None) -> tuple[Any, Any]:
        """(seconds of the chip, launches) of one pass of one microbatch through the slowest stage."""
        total = layers * side.total_s + heads * head.total_s
        launches = layers * side.launches + heads * head.launches
        if embedding is None:
            return total, launches
        return total + embeds * embedding.total_s, launches + embeds * embedding.launches

    chip_f, launches_f = stage(forward, head_f, emb_f)
    chip_bi, launches_bi = stage(backward_input, head_bi, emb_b)
    chip_bw, launches_bw = stage(backward_weight, head_bw, None)
    # The host runs ahead of the chip within a pass; where it is slower, the chip waits for it.
    per_launch = constants.HOST_S_PER_KERNEL.value if plans.settings.host == "eager" else 0.0
    around = constants.HOST_KERNELS_PER_PASS.value
    host_f = _waiting(chip_f, per_launch * (launches_f + around))
    host_b = _waiting(chip_bi + chip_bw, per_launch * (launches_bi + launches_bw + around))
    stage_f, stage_bi, stage_bw = chip_f + host_f, chip_bi + host_b, chip_bw
    # All other stages wait as much as this one, each by its share of the layers.
    others = model.layers / np.maximum(1.0, layers)
    all_layers = model.layers + extra
    all_f = all_layers * forward.total_s + (1 + extra) * head_f.total_s + emb_f.total_s + others * host_f
    all_b = all_layers * (backward_input.total_s + backward_weight.total_s) + (1 + extra) * (head_bi.total_s + head_bw.total_s)
    all_b = all_b + emb_b.total_s + others * host_b
    m = plans.microbatches.astype(float)
    passes = (stage_f, stage_bi, stage_bw, all_f, all_b)
    shape = (pp, plans.microbatches, plans.interleave, plans.settings.overlap_pp)
    silent = pipeline_s(plans.settings.schedule, *passes, np.zeros(len(plans)), *shape)
    busy = m * (stage_f + stage_bi + stage_bw)
    bubble = np.where(alone, 0.0, np.maximum(0.0, silent - busy))
    sends = np.where(alone, 0.0, pipeline_s(plans.settings.schedule, *passes, send, *shape) - silent)

    data_s, optimizer_s, offload_s = _update(model, plans, machine, group, places, stage_f, stage_bi + stage_bw)
    both = forward.work + backward_input.work + backward_weight.work
    ends_work = head_f + head_bi + head_bw
    parts: dict[str, Any] = {
        "matmul": m * (layers * both.matmul_s + heads * ends_work.matmul_s),
        "attention": m * layers * both.attention_s,
        "memory_bound": m * (layers * both.memory_s + heads * ends_work.memory_s + embeds * (emb_f + emb_b).memory_s),
        "recompute": m * layers * backward_input.recompute_s,
        "host": m * (host_f + host_b),
        "tensor_parallel": m * layers * (forward.tp_s + backward_input.tp_s),
        "context_parallel": m * layers * (forward.cp_s + backward_input.cp_s),
        "expert_parallel": m * layers * (forward.ep_s + backward_input.ep_s),
        "pipeline_send": sends,
        "pipeline_bubble": bubble,
        "data_parallel": data_s,
        "optimizer": optimizer_s,
        "offload": offload_s,
    }
    subtotal = sum(parts.values())
    parts["stragglers"] = subtotal * straggler_share(plans.chips)
    passes_of = Passes(
        (forward.total_s, backward_input.total_s, backward_weight.total_s),
        (head_f.total_s, head_bi.total_s, head_bw.total_s),
        (emb_f.total_s, emb_b.total_s, 0.0),
        (host_f, host_b),
        layers,
        stage_f + stage_bi + stage_bw,
        send,
    )
    return Step({kind: np.broadcast_to(np.asarray(parts[kind], float), len(plans)) for kind in KINDS}, passes_of)


def _waiting(chip_s: Any, host_s: Any) -> Any:
    """How long the chip waits for a host that works beside it.

    Neither the larger of the two nor their sum: large kernels give the host a lead, which small ones and each synchronisation use up.
    """
    sharpness = constants.HOST_SHARPNESS.value
    larger = np.maximum(chip_s, host_s)
    return larger * (1 + (np.minimum(chip_s, host_s) / larger) ** sharpness) ** (1 / sharpness) - chip_s


def straggler_share(chips: Any) -> Any:
    """How much later the slowest of so many chips is done than the mean one: the expected maximum of n normal deviates (Blom 1958,
    Statistical Estimates and Transformed Beta-Variables: the quantile of (n - 0.375) / (n + 0.25))."""
    counts, back = np.unique(chips, return_inverse=True)
    latest = np.array([NormalDist().inv_cdf((n - 0.375) / (n + 0.25)) for n in counts.tolist()])
    return constants.STRAGGLER_SIGMA.value * latest[back.reshape(-1)]


_KNOWN: OrderedDict[tuple[Any, ...], tuple[LayerTimes, EndTimes]] = OrderedDict()
_KEPT = 512
_CUT = ("tp", "sequence_parallel", "cp", "ep", "expert_tp", "microbatch")


def _known_times(model: Transformer, shapes: Plans, machine: Machine) -> tuple[LayerTimes, EndTimes]:
    """Times of the layer and of the ends; those of single plans are kept, since sweeps ask for them again."""
    if len(shapes) > 1:
        return layer_times(model, shapes, machine), end_times(model, shapes, machine)
    settings = shapes.settings
    cut = (int(getattr(shapes, name)[0]) for name in _CUT)
    key = (model, machine, settings.attention, settings.fused, settings.dtype, *cut)
    if key not in _KNOWN:
        _KNOWN[key] = layer_times(model, shapes, machine), end_times(model, shapes, machine)
        if len(_KNOWN) > _KEPT:
            _KNOWN.popitem(last=False)
    return _KNOWN[key]


def _distinct(plans: Plans) -> tuple[Plans, Array]:
    """One plan per distinct way of cutting a layer, and for each plan which of them is its own."""
    if len(plans) == 1:
        return plans, np.zeros(1, np.intp)
    key = np.zeros(len(plans), np.int64)
    for name in _CUT:
        values, codes = np.unique(getattr(plans, name), return_inverse=True)
        key = key * len(values) + codes
    _, first, back = np.unique(key, return_index=True, return_inverse=True)
    return plans.take(first), back


def _take(work: Work, back: Array) -> Work:
    return Work(
        *(x[back] if isinstance(x, np.ndarray) and x.ndim else x for x in (work.matmul_s, work.attention_s, work.memory_s, work.launches))
    )


def _gather(times: LayerTimes, back: Array) -> LayerTimes:
    def of(value: Any) -> Any:
        if isinstance(value, Work):
            return _take(value, back)
        return value[back] if isinstance(value, np.ndarray) and value.ndim else value

    return LayerTimes(**{name: of(value) for name, value in vars(times).items()})


def _sides(
    model: Transformer, plans: Plans, machine: Machine, group: Group, layer: LayerTimes, places: Mapping[str, Any]
) -> tuple[Side, Side, Side]:
    """Forward, gradients of activations (with what is recomputed), gradients of weights, of the mean layer."""
    settings, element = plans.settings, machine.element_bytes
    tokens = plans.microbatch * model.seq_len / plans.cp
    size = tokens * model.hidden * float(element)

    pair = np.zeros(len(plans))
    gather_once = np.zeros(len(plans))
    if np.any(plans.tp > 1):
        reduce_s = collective_s("all_reduce", size, places["tp"], machine, group.fabric)
        gather_once = collective_s("all_gather", size, places["tp"], machine, group.fabric)
        split = gather_once + collective_s("reduce_scatter", size, places["tp"], machine, group.fabric)
        pair = np.where(plans.tp > 1, np.where(plans.sequence_parallel > 0, split, reduce_s), 0.0)
    tp_once = pair * layer.tp_exchanges
    ep_once: Any = 0.0
    if model.experts is not None and np.any(plans.ep > 1):
        sent = layer.dispatched_tokens * model.hidden * float(element)
        ep_once = 2 * np.where(plans.ep > 1, collective_s("all_to_all", sent, places["ep"], machine, group.fabric), 0.0)
    cp_once: Any = 0.0
    if np.any(plans.cp > 1):
        cp_once = _context_s(model, plans, machine, group, places, layer)

    code = plans.recompute
    repeats = np.where(code == RECOMPUTES.index("none"), 0.0, settings.recompute_share)
    full, selective, operators = (repeats * (code == RECOMPUTES.index(kind)) for kind in ("full", "selective", "operators"))
    unfused = settings.attention == "unfused"
    again = full * layer.forward.total_s + operators * (layer.forward.memory_s + OPERATORS_PRODUCT_SHARE * layer.forward.matmul_s)
    if unfused:
        again = again + (selective + operators) * layer.core_forward.total_s
    again_launches = (full + 0.8 * operators) * layer.forward.launches + (selective * layer.core_forward.launches if unfused else 0.0)
    tp_back = tp_once * (1 + full)
    ep_back = ep_once * (1 + full)
    cp_back = cp_once * (2 + full) if settings.context_parallel == "ring" else cp_once * (1 + full)

    if settings.overlap_tp:
        tp_forward = _exposed(tp_once, layer.forward.matmul_s, constants.TP_HIDDEN_SHARE.value)
        tp_backward = _exposed(tp_back, layer.backward_input.matmul_s + again, constants.TP_HIDDEN_SHARE.value)
    else:
        tp_forward, tp_backward = tp_once, tp_back
    # A collective is launched from the host like a kernel.
    exchanges = np.where(plans.tp > 1, layer.tp_exchanges * np.where(plans.sequence_parallel > 0, 2, 1), 0) + 0.0
    forward = Side(layer.forward, 0.0, tp_forward, cp_once, ep_once, layer.forward.launches + exchanges)
    launches = layer.backward_input.launches + again_launches + exchanges * (1 + full)
    backward = Side(layer.backward_input, again, tp_backward, cp_back, ep_back, launches)
    return forward, backward, Side(layer.backward_weight, 0.0, 0.0, 0.0, 0.0, layer.backward_weight.launches)


def _context_s(model: Transformer, plans: Plans, machine: Machine, group: Group, places: Mapping[str, Any], layer: LayerTimes) -> Any:
    """What of one passage of keys and values over the CP group the attention does not hide (ring: Liu et al. 2023, arXiv 2310.01889;
    all-gather: Llama 3, arXiv 2407.21783, section 3.3.2: exposed)."""
    width = 2.0 * np.maximum(model.kv_width / plans.tp, model.head_dim)
    own = plans.microbatch * model.seq_len / plans.cp * width * machine.element_bytes
    gathered = np.where(plans.cp > 1, collective_s("all_gather", own * plans.cp, places["cp"], machine, group.fabric), 0.0)
    if plans.settings.context_parallel == "ring":
        return np.maximum(0.0, gathered - layer.core_forward.attention_s * (plans.cp - 1) / plans.cp)
    return gathered


def _exposed(communication_s: Any, hideable_s: Any, share: float) -> Any:
    """What of a communication does not run beside ``hideable_s`` of compute, if at most ``share`` of it can; and what compute loses."""
    hidden = np.minimum(hideable_s, share * communication_s)
    return communication_s - hidden + constants.OVERLAP_COST.value * hidden


def _send_s(model: Transformer, plans: Plans, machine: Machine, group: Group, places: Mapping[str, Any]) -> Any:
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


def reduced_bytes(plans: Plans, machine: Machine) -> Any:
    """Bytes of one gradient as it is reduced: the plan's, else 4 where bf16 is summed in fp32 (Megatron-LM), else the dtype's."""
    if plans.settings.gradient_bytes:
        return float(plans.settings.gradient_bytes)
    if machine.dtype in ("bf16", "fp8"):
        return np.where(plans.zero_stage < 2, 4.0, 2.0)
    return float(machine.element_bytes)


def _update(
    model: Transformer, plans: Plans, machine: Machine, group: Group, places: Mapping[str, Any], forward_s: Any, backward_s: Any
) -> tuple[Any, Any, Any]:
    """Exposed traffic of the data-parallel dimension, the optimizer, and what offloading adds, of one step."""
    dense, expert = fullest_stage(model, plans)
    m = plans.microbatches.astype(float)
    kept = np.where(plans.zero_stage >= 1, plans.shard, 1)
    experts_over = np.maximum(1, plans.dp * plans.cp * plans.tp // (plans.ep * plans.expert_tp))
    owned = dense / kept + expert / np.where(plans.zero_stage >= 1, np.minimum(experts_over, np.maximum(1, plans.shard)), 1)
    optimizer_s = machine.memory_s(OPTIMIZER_BYTES[plans.settings.optimizer] * owned, "adam")
    offload_s: Any = 0.0
    if plans.settings.offload != "none":
        optimizer_s, offload_s = _offloaded_s(
            plans, machine, group, owned, (dense + expert) / np.where(plans.zero_stage >= 3, plans.shard, 1)
        )
    traffic = 0.0
    if np.any((plans.dp * plans.cp > 1) | ((expert > 0) & (experts_over > 1))):
        traffic = _traffic_s(plans, machine, group, places, dense, expert, forward_s, backward_s, m)
    ends = np.zeros(len(plans))
    if model.tied_embeddings and np.any(plans.pp > 1):
        # The first and the last stage both hold the token table and add up its gradients (Narayanan et al. 2021).
        table = float(model.vocab) * model.hidden / plans.tp * reduced_bytes(plans, machine)
        ends = np.where(plans.pp > 1, collective_s("all_reduce", table, places["embedding"], machine, group.fabric), 0.0)
    return traffic + ends, optimizer_s, offload_s


def _offloaded_s(plans: Plans, machine: Machine, group: Group, owned: Any, weights: Any) -> tuple[Any, Any]:
    """(optimizer on the host, traffic to and from it): gradients go there and new weights come back once a step; with ``all`` the weights
    also come for both passes of each microbatch, and its gradients go (ZeRO-Offload: Ren et al. 2021, arXiv 2101.06840; ZeRO-Infinity).
    """
    if machine.host_link is None:
        raise MissingCell(f"profile {machine.chip_id}: the link to its host is unknown, so offloading cannot be timed; measure host copies")
    element, m = float(machine.element_bytes), plans.microbatches
    moved = owned * (reduced_bytes(plans, machine) + element)
    if plans.settings.offload == "all":
        moved = moved + m * weights * 3 * element
    on_host = constants.HOST_ADAM_S_PER_WEIGHT.value * np.minimum(plans.chips, group.chips_per_node) * owned
    return on_host, moved / machine.host_link.value


def _traffic_s(
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
    bytes_each = reduced_bytes(plans, machine)

    zero = plans.zero_stage
    share = constants.DP_HIDDEN_SHARE.value if plans.settings.overlap_dp else 0.0

    def collective(pattern: str, place: str, size: Any) -> Any:
        return collective_s(pattern, size, places[place], machine, group.fabric)

    def both(pattern: str, place: str, each: Any) -> Any:
        """Of the weights that all ranks hold, and of the experts that fewer do."""
        time_s = collective(pattern, place, each * dense)
        return time_s + collective(pattern, "expert_dp", each * expert) if np.any(expert > 0) else time_s

    unsharded: Any = 0.0
    if np.any(zero == 0):
        unsharded = _exposed(both("all_reduce", "dp_cp", bytes_each), backward_s, share)
        if np.all(zero == 0):
            return unsharded
    scatter_s, gather_s = both("reduce_scatter", "shard", bytes_each), both("all_gather", "shard", element)
    if np.any(plans.shard < plans.dp * plans.cp):
        scatter_s = scatter_s + collective("all_reduce", "replica", bytes_each * dense / plans.shard)
    back_s, ahead_s = _exposed(scatter_s, backward_s, share), _exposed(gather_s, forward_s, share)
    # Gradients are scattered after the last microbatch (ZeRO-1) or after each (2); ZeRO-3 gathers the weights for each pass as well.
    often = np.where(zero >= 2, m, 1.0)
    sharded = often * back_s + ahead_s
    if np.any(zero >= 3):
        three = m * (ahead_s + _exposed(gather_s + scatter_s, backward_s, share))
        sharded = np.where(zero >= 3, three, sharded)
    return np.where(zero == 0, unsharded, sharded)
