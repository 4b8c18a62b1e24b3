"""The terms of a prediction. What is around the passes stands here: pipeline, host, optimizer, stragglers."""

from __future__ import annotations

from collections.abc import Iterator

from .. import constants
from ..cluster import Group
from ..machine import Machine
from ..models import Transformer
from ..pipelined import stages_of
from ..plan import Plan
from ..step import KINDS, straggler_share
from ..text import seconds
from ..update import OPTIMIZER_BYTES
from ..weights import fullest_stage, sharded
from .case import Case
from .compute import compute_terms
from .term import Term, one
from .traffic import place_words, traffic_terms

BUBBLES = {
    "gpipe": ("(p - 1)(F + B + W) of the other stages", "Huang et al. 2019 (arXiv 1811.06965)"),
    "1f1b": ("(p - 1)(F + B + W) of the other stages", "Narayanan et al. 2021 (arXiv 2104.04473), section 2.2.1"),
    "interleaved": ("(p - 1)(F + B + W) / v of the other stages", "Narayanan et al. 2021 (arXiv 2104.04473), section 2.2.2"),
    "zero-bubble": ("(p - 1)(F + B - W) of the other stages", "Qi et al. 2024 (arXiv 2401.10241), table 1"),
    "dualpipe": ("(p / 2 - 1)(F&B + B - 3 W)", "DeepSeek-V3 (arXiv 2412.19437), table 2"),
}
"""Schedule -> closed form of the bubble of equal stages, and where it is from."""


def explain(model: Transformer, plan: Plan, machine: Machine, group: Group) -> tuple[Term, ...]:
    """The terms, in the order of the breakdown's kinds; within a kind, the largest first. They sum to the predicted step time.

    Raises what the prediction raises.

    >>> from chipassay.scaling.cluster import parse_cluster
    >>> from chipassay.scaling.models import load_model
    >>> from chipassay.scaling.predict import predict_ready
    >>> from chipassay.scaling.ready import ready
    >>> group, plan = parse_cluster("8xh100-sxm-80gb").groups[0], Plan(global_batch=64, dp=8, zero_stage=3)
    >>> case = load_model("llama3-8b"), plan, ready(group), group
    >>> f"{sum(term.seconds for term in explain(*case)) / predict_ready(*case).step_time_s:.6f}"
    '1.000000'
    """
    case = Case.of(model, plan, machine, group)
    found = [*compute_terms(case), *traffic_terms(case), *_host(case), *_pipeline(case), *_update(case), *_stragglers(case)]
    return tuple(sorted(found, key=lambda term: (KINDS.index(term.kind), -term.seconds)))


def _host(case: Case) -> Iterator[Term]:
    """Waiting for the host, forward and backward of a microbatch."""
    plan = case.plan
    if plan.host != "eager":
        return
    per_kernel, around, sharpness = constants.HOST_S_PER_KERNEL, constants.HOST_KERNELS_PER_PASS, constants.HOST_SHARPNESS
    forward, back, weights = case.sides
    ends = case.ends
    launches = (
        case.layers * one(forward.launches) + case.heads * ends.head_forward.launches + case.embeddings * ends.embedding_forward.launches,
        case.layers * (one(back.launches) + one(weights.launches))
        + case.heads * (ends.head_backward_input.launches + ends.head_backward_weight.launches)
        + case.embeddings * ends.embedding_backward.launches,
    )
    for direction, name in enumerate(("forward", "backward")):
        kernels, chip_s = float(one(launches[direction])), case.stage_s(direction)
        host_s = per_kernel.value * (kernels + around.value)
        waited_s = one(case.step.passes.waiting_s[direction])
        yield Term(
            "host",
            f"waiting {name}",
            f"(chip^{sharpness.value:g} + host^{sharpness.value:g})^(1 / {sharpness.value:g}) - chip, host = kernels x time",
            f"({kernels:.0f} + {around.value:.0f}) kernels x {per_kernel.value * 1e6:.3g} us = {seconds(host_s)} beside {seconds(chip_s)}: "
            f"{seconds(waited_s)} x {case.microbatches}",
            case.microbatches * waited_s,
            f"{per_kernel.evidence.level}: {per_kernel.evidence.source}",
        )


def _pipeline(case: Case) -> Iterator[Term]:
    """Bubble and sends: the simulation's, with the closed form beside it."""
    plan, parts = case.plan, case.prediction.breakdown_s
    if plan.pp == 1:
        return
    stages = stages_of(case.model, plan, case.step)
    formula, source = BUBBLES[stages.schedule]
    busy_s = case.microbatches * one(case.step.passes.slowest_s)
    played_s = busy_s + parts["pipeline_bubble"] + parts["pipeline_send"]
    closed_s = sum(one(case.step.parts_s[kind]) for kind in ("pipeline_bubble", "pipeline_send"))
    passes = (stages.forward_s, stages.backward_input_s, stages.backward_weight_s)
    forward_s, input_s, weight_s = (float(part.sum()) / plan.pp for part in passes)
    yield Term(
        "pipeline_bubble",
        f"bubble of {stages.schedule}",
        f"{formula}, played through pass by pass",
        f"p {plan.pp}, v {plan.interleave}, m {case.microbatches}, mean F {seconds(forward_s)}, B {seconds(input_s)}, "
        f"W {seconds(weight_s)}: "
        f"played {played_s:.4g} s, "
        f"slowest stage busy {busy_s:.4g} s; bubble and sends by closed form {seconds(closed_s)}",
        parts["pipeline_bubble"],
        source,
    )
    send_s = one(case.step.passes.send_s)
    where = case.places["pp"]
    yield Term(
        "pipeline_send",
        "sends between stages",
        "latency + microbatch tokens / cp hidden bytes / bandwidth, as far as a receiver waits",
        f"{seconds(send_s)} each, {place_words(where)}" + (", split over TP" if plan.scatter_gather and plan.tp > 1 else ""),
        parts["pipeline_send"],
        "Narayanan et al. 2021 (arXiv 2104.04473), section 4.1",
    )


def _update(case: Case) -> Iterator[Term]:
    """The optimizer's step and what offloading moves."""
    plan, parts = case.plan, case.prediction.breakdown_s
    memory = case.machine.memory.evidence
    if plan.offload == "none":
        each = OPTIMIZER_BYTES[plan.optimizer]
        owned = _own_weights(case)
        time_s = one(case.machine.memory_s(each * owned, "adam"))
        formula = "bytes per weight x own weights / bandwidth"
        numbers = f"{each:.0f} bytes x {owned:.4g} weights at {each * owned / time_s / 1e9:.0f} GB/s"
        source = f"bytes as counted in update.py; {memory.level}: {memory.source}"
    else:
        found, time_s = constants.HOST_ADAM_S_PER_WEIGHT, parts["optimizer"]
        formula, numbers = "time per weight x chips of the node x own weights", f"{found.value * 1e9:.3g} ns per weight, on the host"
        source = f"{found.evidence.level}: {found.evidence.source}"
    yield Term("optimizer", plan.optimizer, formula, numbers, time_s, source)
    if plan.offload != "none" and case.machine.host_link is not None:
        link = case.machine.host_link
        yield Term(
            "offload",
            f"offload {plan.offload}",
            "bytes to and from the host / bandwidth of its link",
            f"{parts['offload'] * link.value / 1e9:.4g} GB at {link.value / 1e9:.4g} GB/s",
            parts["offload"],
            f"ZeRO-Offload (arXiv 2101.06840); {link.evidence.level}: {link.evidence.source}",
        )


def _own_weights(case: Case) -> float:
    """Weights that one rank updates: ZeRO spreads them over the group that shards, experts over those that hold them."""
    return one(sharded(case.plans, *fullest_stage(case.model, case.plans), 1))


def _stragglers(case: Case) -> Iterator[Term]:
    sigma, chips = constants.STRAGGLER_SIGMA, case.prediction.chips
    waited_s = case.prediction.breakdown_s["stragglers"]
    share = one(straggler_share(case.plans.chips))
    yield Term(
        "stragglers",
        "the slowest chip",
        "spread x quantile((n - 0.375) / (n + 0.25)) of a normal, of all the above",
        f"{sigma.value:g}, {chips} chips: {share:.2%} of {case.prediction.step_time_s - waited_s:.4g} s",
        waited_s,
        f"Blom 1958; {sigma.evidence.level}: {sigma.evidence.source}",
    )
