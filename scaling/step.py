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
from .layer import EndTimes, LayerTimes, Work, end_times, layer_times
from .machine import Machine
from .models import Transformer
from .pipeline.closed_form import pipeline_s
from .placement import placements
from .plan import Plan
from .plans import Plans
from .sides import Side, message_s, sides
from .update import update_s

Array = npt.NDArray[Any]

KINDS = (
    "matmul", "attention", "memory_bound", "recompute", "host", "tensor_parallel", "context_parallel", "expert_parallel",
    "pipeline_send", "pipeline_bubble", "data_parallel", "optimizer", "offload", "stragglers",
)  # fmt: skip


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
    slowest_heads: Any
    """How often it works out logits for each microbatch."""
    slowest_embeddings: Any
    """How often it looks up tokens for each microbatch."""
    slowest_s: Any
    """The slowest stage, all passes."""
    launches: tuple[tuple[Any, Any], ...]
    """Kernels launched forward and backward by a layer, by the head, by the embedding."""
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


def step(model: Transformer, plans: Plans, machine: Machine, group: Group, known: tuple[LayerTimes, EndTimes, Array] | None = None) -> Step:
    """The step of each plan, which must be legal (``check_plan``).

    ``known``: times of ways of cutting a layer that were worked out before, and which of them each plan has (``distinct_cuts``).
    """
    if known is None:
        shapes, back = distinct_cuts(plans)
        unique, ends = _known_times(model, shapes, machine)
    else:
        unique, ends, back = known
    layer = _gather(unique, back)
    places = placements(plans, group.chips_per_node, group.fabric.pod_nodes)
    forward, backward_input, backward_weight = sides(model, plans, machine, group, layer, places)
    head_f = _take(ends.head_forward, back)
    head_bi = _take(ends.head_backward_input, back)
    head_bw = _take(ends.head_backward_weight, back)
    emb_f, emb_b = _take(ends.embedding_forward, back), _take(ends.embedding_backward, back)
    extra = float(model.mtp_depth)
    send = message_s(model, plans, machine, group, places)

    # The slowest stage: one of the fullest, or the last one with the logits if the cut leaves it fewer layers.
    pp = plans.pp
    most, least = -(-model.layers // pp), model.layers // pp
    layer_s = forward.total_s + backward_input.total_s + backward_weight.total_s
    head_s = head_f.total_s + head_bi.total_s + head_bw.total_s
    alone = pp == 1
    # The host launches kernels while the chip runs; where it is slower, the chip waits for it.
    per_launch = launch_s(plans.settings)
    # A chip of DualPipe holds a stage and its mirror image, and half of the microbatches pass each of them.
    own = np.where((plans.settings.schedule == "dualpipe") & ~alone, 0.5, 1.0)
    last = own * (least + extra) + (1 - own) * most
    logits = own * (1 + extra)
    last_s = last * layer_s + logits * head_s + (1 - own) * (emb_f.total_s + emb_b.total_s)
    layer_n = forward.launches + backward_input.launches + backward_weight.launches
    last_n = last * layer_n + logits * (head_f.launches + head_bi.launches + head_bw.launches)
    full = np.maximum(most * layer_s, per_launch * most * layer_n) >= np.maximum(last_s, per_launch * last_n)
    layers = np.where(alone, most + extra, np.where(full, most, last)).astype(float)
    heads = np.where(alone, 1.0 + extra, np.where(full, 0.0, logits))
    embeds = np.where(alone, 1.0, np.where(full, 0.0, 1.0 - own))

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
    host_f = waiting_s(chip_f, launches_f, per_launch)
    host_b = waiting_s(chip_bi + chip_bw, launches_bi + launches_bw, per_launch)
    stage_f, stage_bi, stage_bw = chip_f + host_f, chip_bi + host_b, chip_bw
    # The other stages have layers alone to launch and to wait for.
    all_layers = model.layers + extra
    layer_b, launches_b = backward_input.total_s + backward_weight.total_s, backward_input.launches + backward_weight.launches
    each = (all_layers - layers) / np.maximum(1, pp - 1)
    others_f = waiting_s(each * forward.total_s, each * forward.launches, per_launch)
    others_b = waiting_s(each * layer_b, each * launches_b, per_launch)
    all_f = all_layers * forward.total_s + (1 + extra) * head_f.total_s + emb_f.total_s + host_f + (pp - 1) * others_f
    all_b = all_layers * layer_b + (1 + extra) * (head_bi.total_s + head_bw.total_s) + emb_b.total_s + host_b + (pp - 1) * others_b
    m = plans.microbatches.astype(float)
    # What does not divide goes to the first stages: so many stages lie behind the last of the fullest.
    behind = np.where(full & ~alone, (pp - model.layers % pp) % pp, 0)
    passes = (stage_f, stage_bi, stage_bw, all_f, all_b)
    shape = (pp, plans.microbatches, plans.interleave, plans.settings.overlap_pp)
    silent = pipeline_s(plans.settings.schedule, *passes, np.zeros(len(plans)), *shape, behind=behind)
    busy = m * (stage_f + stage_bi + stage_bw)
    bubble = np.where(alone, 0.0, np.maximum(0.0, silent - busy))
    sends = np.where(alone, 0.0, pipeline_s(plans.settings.schedule, *passes, send, *shape, behind=behind) - silent)

    data_s, optimizer_s, offload_s = update_s(model, plans, machine, group, places, stage_f, stage_bi + stage_bw)
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
        heads,
        embeds,
        stage_f + stage_bi + stage_bw,
        (
            (forward.launches, launches_b),
            (head_f.launches, head_bi.launches + head_bw.launches),
            (emb_f.launches, emb_b.launches),
        ),
        send,
    )
    return Step({kind: np.broadcast_to(np.asarray(parts[kind], float), len(plans)) for kind in KINDS}, passes_of)


def launch_s(settings: Plan) -> float:
    """What the host takes to launch one kernel; captured graphs launch at no cost."""
    return constants.HOST_S_PER_KERNEL.value if settings.host == "eager" else 0.0


def waiting_s(chip_s: Any, launches: Any, per_launch_s: float) -> Any:
    """How long the chip waits, in one pass of so many kernels, for the host that launches them."""
    return host_lag_s(chip_s, per_launch_s * (launches + constants.HOST_KERNELS_PER_PASS.value))


def host_lag_s(chip_s: Any, host_s: Any) -> Any:
    """How long the chip waits for a host that works beside it.

    Neither the larger of the two nor their sum: large kernels give the host a lead, which small ones and each synchronisation use up.
    """
    sharpness = constants.HOST_SHARPNESS.value
    larger = np.maximum(np.maximum(chip_s, host_s), np.finfo(float).tiny)
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
    found = _KNOWN.get(key)
    if found is None:
        found = _KNOWN[key] = layer_times(model, shapes, machine), end_times(model, shapes, machine)
        if len(_KNOWN) > _KEPT:
            _KNOWN.popitem(last=False)
    return found  # not looked up again: another thread may have pushed it out


def distinct_cuts(plans: Plans) -> tuple[Plans, Array]:
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
