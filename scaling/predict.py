"""The step: model x cluster x plan -> time, tokens per second, memory, and how sure all that is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from chipassay.results.profile import Evidence, Profile

from .cluster import Cluster, Group, parse_cluster
from .communication import collective_s, data_placement, exposed_s, send_s, tensor_placement
from .compute import Work, embedding_cost, head_cost, layer_cost
from .errors import NotModelled
from .machine import Input, Machine
from .memory import gradient_bytes, memory_by_kind, stage_parameters
from .models import Transformer, load_model
from .plan import Plan, check_plan
from .ready import ready
from .uncertainty import MODEL_BIAS, log_sigma

HIDDEN_SHARE = 0.9
"""Share of the data-parallel communication that can hide behind compute: all but the first and last buckets (assumed)."""

OPTIMIZER_BYTES = 34
"""Adam in mixed precision, bytes moved per weight: gradient 4 read twice (norm, update), moments 8 and weights 4 read and written,
16-bit weight written."""

Z90 = 1.6449
"""Normal quantile of a two-sided 90 % interval."""


@dataclass(frozen=True)
class Prediction:
    """One training step of a model on a cluster by a plan."""

    model: str
    cluster: str
    plan: Plan
    dtype: str
    chips: int
    step_time_s: float
    low_s: float
    high_s: float
    """90 % interval of the real step time: shifted by what real runs lose over the model (see uncertainty.py)."""
    tokens_per_s: float
    mfu: float | None
    """Model FLOPs over peak, attention counted in full (the convention of PaLM and Megatron-LM). None: the peak is unknown."""
    mfu_causal: float | None
    """The same with the causal half of the attention (the convention of the FlashAttention papers)."""
    hfu: float | None
    """Like mfu, with what is recomputed counted too."""
    breakdown_s: Mapping[str, float]
    """Seconds by kind; they sum to step_time_s."""
    memory_bytes: Mapping[str, float]
    memory_total_bytes: float
    memory_limit_bytes: float
    fits: bool
    largest_memory: str
    """The kind of memory that takes most."""
    inputs: tuple[Input, ...]
    """What the prediction rests on, each with its evidence."""

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return asdict(self)


def stage_times(model: Transformer, plan: Plan, machine: Machine, group: Group) -> tuple[Work, Work, float, float, float]:
    """(forward, backward, recomputed, TP communication, forward share of it) of one layer and microbatch."""
    cost = layer_cost(model, machine, plan.tp, plan.microbatch, plan.sequence_parallel, plan.attention)
    recomputed = Work()
    if plan.recompute == "full":
        recomputed = cost.forward
    elif plan.recompute == "selective" and plan.attention == "unfused":
        recomputed = cost.attention_forward
    size_bytes = float(plan.microbatch * model.seq_len * model.hidden * machine.element_bytes)
    placement = tensor_placement(plan.tp, group.chips_per_node)
    if plan.sequence_parallel:
        once_s = sum(collective_s(pattern, size_bytes, placement, machine, group.fabric) for pattern in ("all_gather", "reduce_scatter"))
    else:
        once_s = collective_s("all_reduce", size_bytes, placement, machine, group.fabric)
    passes = 3 if plan.recompute == "full" else 2
    return cost.forward, cost.backward, recomputed.total_s, 2 * passes * once_s, 2 * once_s


def _pipeline_send_s(model: Transformer, plan: Plan, machine: Machine, group: Group) -> float:
    """Sends of one microbatch through one stage: forward and backward, once per virtual stage."""
    if plan.pp == 1:
        return 0.0
    size_bytes = plan.microbatch * model.seq_len * model.hidden * machine.element_bytes / plan.tp
    crosses = plan.chips > group.chips_per_node
    return 2 * plan.interleave * send_s(size_bytes, crosses, group.chips_per_node, machine, group.fabric)


def _data_parallel_s(model: Transformer, plan: Plan, machine: Machine, group: Group, forward_s: float, backward_s: float) -> float:
    """Exposed data-parallel communication of one step; ``forward_s`` and ``backward_s`` are one microbatch on one stage."""
    if plan.dp == 1:
        return 0.0
    placement = data_placement(plan.dp, plan.tp, group.chips_per_node)
    parameters = stage_parameters(model, plan)
    reduced = gradient_bytes(machine.dtype, plan.zero_stage) * parameters
    gathered = machine.element_bytes * parameters

    def collective(pattern: str, size_bytes: float) -> float:
        return collective_s(pattern, size_bytes, placement, machine, group.fabric)

    share = HIDDEN_SHARE if plan.overlap_dp else 0.0
    if plan.zero_stage == 3:
        once_s = 2 * collective("all_gather", gathered) + collective("reduce_scatter", reduced)
        return plan.microbatches * exposed_s(once_s, forward_s + backward_s, share)
    if plan.zero_stage == 2:
        scatter_s = plan.microbatches * exposed_s(collective("reduce_scatter", reduced), backward_s, share)
        return scatter_s + exposed_s(collective("all_gather", gathered), forward_s, share)
    if plan.zero_stage == 1:
        scatter_s = exposed_s(collective("reduce_scatter", reduced), backward_s, share)
        return scatter_s + exposed_s(collective("all_gather", gathered), forward_s, share)
    return exposed_s(collective("all_reduce", reduced), backward_s, share)


def breakdown_of(model: Transformer, plan: Plan, machine: Machine, group: Group) -> dict[str, float]:
    """Seconds of one step by kind, on the slowest stage, the pipeline's fill and drain as its own kind."""
    forward, backward, recomputed_s, tp_s, _ = stage_times(model, plan, machine, group)
    head, embedding = head_cost(model, machine, plan.tp, plan.microbatch), embedding_cost(model, machine, plan.microbatch)
    send = _pipeline_send_s(model, plan, machine, group)
    layer = forward + backward
    layer_s = layer.total_s + recomputed_s + tp_s
    most, least = plan.layers_per_stage(model), model.layers // plan.pp

    if plan.pp == 1:
        slow_layers, ends = most, head + embedding
    elif most * layer_s >= least * layer_s + head.total_s:
        slow_layers, ends = most, Work()  # an uneven cut gives the last stage, with the logits, the smaller part
    else:
        slow_layers, ends = least, head
    slow_s = slow_layers * layer_s + ends.total_s + send
    all_s = model.layers * layer_s + head.total_s + embedding.total_s + plan.pp * send
    bubble_s = (all_s - slow_s) / plan.interleave if plan.pp > 1 else 0.0

    m = plan.microbatches
    parameters = stage_parameters(model, plan) / (plan.dp if plan.zero_stage >= 1 else 1)
    stage_forward_s = slow_layers * (forward.total_s + tp_s / (3 if plan.recompute == "full" else 2)) + ends.total_s / 3
    stage_backward_s = slow_s - send - stage_forward_s
    return {
        "matmul": m * (slow_layers * layer.matmul_s + ends.matmul_s),
        "attention": m * slow_layers * layer.attention_s,
        "memory_bound": m * (slow_layers * layer.memory_s + ends.memory_s),
        "recompute": m * slow_layers * recomputed_s,
        "tensor_parallel": m * slow_layers * tp_s,
        "pipeline_send": m * send,
        "pipeline_bubble": bubble_s,
        "data_parallel": _data_parallel_s(model, plan, machine, group, stage_forward_s, stage_backward_s),
        "optimizer": machine.memory.time_s(OPTIMIZER_BYTES * parameters),
    }


def hardware_flops_per_token(model: Transformer, plan: Plan) -> float:
    """FLOPs of one trained token with what is recomputed, attention counted in full."""
    flops = model.training_flops_per_token(causal=False)
    head = 2.0 * model.hidden * model.vocab
    if plan.recompute == "full":
        flops += model.forward_flops_per_token(causal=False) - head
    elif plan.recompute == "selective" and plan.attention == "unfused":
        flops += 4.0 * model.seq_len * model.q_width * model.layers
    return flops


def single_group(cluster: Cluster | Group | str, profiles: Mapping[str, Profile] | None = None) -> Group:
    """The one group of a homogeneous cluster; NotModelled for a mix."""
    if isinstance(cluster, Group):
        return cluster
    if isinstance(cluster, str):
        cluster = parse_cluster(cluster, profiles)
    if len(cluster.groups) != 1:
        raise NotModelled(
            f"cluster {cluster.name}: a step split over {len(cluster.groups)} kinds of chips is not modelled yet; give one kind at a time"
        )
    return cluster.groups[0]


def predict_ready(model: Transformer, plan: Plan, machine: Machine, group: Group) -> Prediction:
    """Like ``predict``, for a machine already prepared."""
    check_plan(plan, model, group.count)
    breakdown = breakdown_of(model, plan, machine, group)
    memory = memory_by_kind(model, plan, machine)
    step_time_s = math.fsum(breakdown.values())
    tokens = plan.global_batch * model.seq_len
    sigma = log_sigma(breakdown, machine, group, plan)
    total_peak = None if machine.peak_flops_per_s is None else machine.peak_flops_per_s * group.count

    def utilisation(flops_per_token: float) -> float | None:
        return None if total_peak is None else flops_per_token * tokens / step_time_s / total_peak

    total_bytes = math.fsum(memory.values())
    return Prediction(
        model=model.name,
        cluster=group.name,
        plan=plan,
        dtype=machine.dtype,
        chips=group.count,
        step_time_s=step_time_s,
        low_s=step_time_s * math.exp(MODEL_BIAS - Z90 * sigma),
        high_s=step_time_s * math.exp(MODEL_BIAS + Z90 * sigma),
        tokens_per_s=tokens / step_time_s,
        mfu=utilisation(model.training_flops_per_token(causal=False)),
        mfu_causal=utilisation(model.training_flops_per_token(causal=True)),
        hfu=utilisation(hardware_flops_per_token(model, plan)),
        breakdown_s=breakdown,
        memory_bytes=memory,
        memory_total_bytes=total_bytes,
        memory_limit_bytes=machine.memory_bytes,
        fits=total_bytes <= machine.memory_bytes,
        largest_memory=max(memory, key=lambda kind: memory[kind]),
        inputs=(*machine.inputs, *group.inputs, *assumptions(plan)),
    )


def assumptions(plan: Plan) -> tuple[Input, ...]:
    """The constants of the model that no profile holds."""
    inputs = []
    if plan.dp > 1 and plan.overlap_dp:
        evidence = Evidence("assumed", "all but the first and last buckets of the gradient reduction hide behind compute")
        inputs.append(Input("hidden share of data-parallel traffic", f"{HIDDEN_SHARE:.2f}", evidence))
    return tuple(inputs)


def predict(
    model: Transformer | str, cluster: Cluster | Group | str, plan: Plan, profiles: Mapping[str, Profile] | None = None
) -> Prediction:
    """One training step of ``model`` on a homogeneous ``cluster`` by ``plan``.

    ``profiles`` gives a profile for a chip id of the cluster's text; any other chip is taken from the catalogue.

    >>> from chipassay.scaling.plan import Plan
    >>> predict("llama3-8b", "8xh100-sxm-80gb", Plan(global_batch=64, dp=8, zero_stage=3, recompute="full")).fits
    True
    """
    transformer = load_model(model) if isinstance(model, str) else model
    group = single_group(cluster, profiles)
    return predict_ready(transformer, plan, ready(group, plan.dtype), group)
