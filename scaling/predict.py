"""The step: model x cluster x plan -> time, tokens per second, memory, and how sure all that is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from chipassay.results.profile import Profile

from .cluster import Cluster, Group, parse_cluster
from .errors import NotModelled
from .machine import Input, Machine
from .models import Transformer, load_model
from .plan import Plan
from .ready import ready


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
    """80 % interval of the real step time (see uncertainty.py)."""
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


def hardware_flops_per_token(model: Transformer, plan: Plan) -> float:
    """FLOPs of one trained token with what is recomputed, attention counted in full."""
    flops = model.training_flops_per_token(causal=False)
    layers = model.forward_flops_per_token(causal=False) - (1 + model.mtp_depth) * model.head_flops_per_token
    seen = sum(block.count * model.positions_seen(block, causal=False) for block in (*model.blocks, model.mtp_block))
    core = 2.0 * seen * (model.q_width + model.value_width)
    if plan.recompute == "full":
        flops += plan.recompute_share * layers
    elif plan.recompute == "operators":
        flops += plan.recompute_share * 0.5 * (layers - core)
    elif plan.recompute == "selective" and plan.attention == "unfused":
        flops += plan.recompute_share * core
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
    from .legal import check_plan
    from .memory import memory_by_kind
    from .pipelined import played
    from .plans import Plans
    from .step import step
    from .uncertainty import interval_s

    check_plan(plan, model, group.count)
    plans = Plans.of([plan])
    result = step(model, plans, machine, group)
    breakdown = {kind: float(seconds[0]) for kind, seconds in result.parts_s.items()}
    if plan.pp > 1:
        waited = sum(breakdown.values()) - breakdown["stragglers"]
        breakdown.update(played(model, plan, result))
        breakdown["stragglers"] *= (sum(breakdown.values()) - breakdown["stragglers"]) / waited
    memory = {kind: float(size[0]) for kind, size in memory_by_kind(model, plans, machine).items()}
    step_time_s = math.fsum(breakdown.values())
    tokens = plan.global_batch * model.seq_len
    low_s, high_s = interval_s(step_time_s, breakdown, machine, group, plan)
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
        low_s=low_s,
        high_s=high_s,
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
    """The constants of the model that no profile holds, as far as this plan uses them."""
    from . import constants

    used = [constants.STRAGGLER_SIGMA]
    if plan.host == "eager":
        used.append(constants.HOST_S_PER_KERNEL)
    hidden = []
    if plan.dp * plan.cp > 1 and plan.overlap_dp:
        hidden.append(constants.DP_HIDDEN_SHARE)
    if plan.tp > 1 and plan.overlap_tp:
        hidden.append(constants.TP_HIDDEN_SHARE)
    if hidden:
        used += [*hidden, constants.OVERLAP_COST]
    return tuple(Input(constant.name, constant.told, constant.evidence) for constant in used)


def predict(
    model: Transformer | str, cluster: Cluster | Group | str, plan: Plan, profiles: Mapping[str, Profile] | None = None
) -> Prediction:
    """One training step of ``model`` on a homogeneous ``cluster`` by ``plan``.

    ``profiles`` gives a profile for a chip id of the cluster's text; any other chip is taken from the shipped ones.

    >>> from chipassay.scaling.plan import Plan
    >>> predict("llama3-8b", "8xh100-sxm-80gb", Plan(global_batch=64, dp=8, zero_stage=3, recompute="full")).fits
    True
    """
    transformer = load_model(model) if isinstance(model, str) else model
    group = single_group(cluster, profiles)
    return predict_ready(transformer, plan, ready(group, plan.dtype), group)
